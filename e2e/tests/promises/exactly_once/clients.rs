//! Sixteen clients that post one token after the other, each again until it is answered, at the pace of the faults.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use decree_e2e::client::Client;
use decree_e2e::dice::Dice;
use decree_e2e::history::Fate;
use decree_e2e::wait;

use super::application::Application;

const CLIENTS: usize = 16;
/// A client repeats a request for so long before it gives it up.
const PATIENCE: Duration = Duration::from_secs(300);
/// One answer in so many is held for so long, so that a kill meets a delivery.
const HELD: u64 = 10;
const HOLD: Duration = Duration::from_millis(250);
const PACE: Duration = Duration::from_millis(20);

/// What all clients post together, as far as it is released.
#[derive(Debug)]
pub(crate) struct Load<'a> {
    application: Application,
    service: &'a Client,
    seed: u64,
    total: usize,
    taken: AtomicUsize,
    released: AtomicUsize,
    acknowledged: AtomicUsize,
    over: AtomicBool,
}

/// What a client heard of one token.
#[derive(Debug)]
pub(crate) struct Posted {
    pub(crate) token: String,
    pub(crate) fate: Fate,
    pub(crate) attempts: usize,
    pub(crate) took: Duration,
    /// The last answer, or why there is none.
    pub(crate) last: String,
}

impl<'a> Load<'a> {
    pub(crate) fn new(application: Application, service: &'a Client, seed: u64, total: usize) -> Self {
        let zero = || AtomicUsize::new(0);
        let (taken, released, acknowledged) = (zero(), zero(), zero());
        Self {
            application,
            service,
            seed,
            total,
            taken,
            released,
            acknowledged,
            over: AtomicBool::new(false),
        }
    }

    /// Starts all clients; each ends when everything is posted, or at [`Load::stop`].
    pub(crate) fn start<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
    ) -> Vec<ScopedJoinHandle<'scope, Vec<Posted>>> {
        (0..CLIENTS).map(|_| scope.spawn(|| self.post_all())).collect()
    }

    /// Lets clients post up to so many in all.
    pub(crate) fn release(&self, count: usize) {
        self.released.store(count.min(self.total), Ordering::SeqCst);
    }

    /// Whoever waits for a release ends.
    pub(crate) fn stop(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    /// Waits until so many are acknowledged.
    pub(crate) fn wait_acknowledged(&self, count: usize) -> Result<()> {
        wait::until(format!("{count} acknowledged posts"), PATIENCE, || {
            let now = self.acknowledged.load(Ordering::SeqCst);
            if now >= count { Ok(Some(())) } else { Err(anyhow!("{now}")) }
        })
    }

    fn post_all(&self) -> Vec<Posted> {
        let mut posted = Vec::new();
        loop {
            let number = self.taken.fetch_add(1, Ordering::SeqCst);
            if number >= self.total {
                return posted;
            }
            while number >= self.released.load(Ordering::SeqCst) {
                if self.over.load(Ordering::SeqCst) {
                    return posted;
                }
                std::thread::sleep(PACE);
            }
            posted.push(self.post(number));
            std::thread::sleep(PACE);
        }
    }

    fn post(&self, number: usize) -> Posted {
        let token = format!("{:x}-{number}", self.seed);
        let is_held = Dice::new(self.seed ^ number as u64).throw(HELD) == 0;
        let request = self.application.change(&token, if is_held { HOLD } else { Duration::ZERO });
        let start = Instant::now();
        let outcome = self.service.send_until_answered(&request, PATIENCE);
        let fate = outcome.fate();
        if fate == Fate::Acknowledged {
            self.acknowledged.fetch_add(1, Ordering::SeqCst);
        }
        let last = format!("{:?}", outcome.last);
        Posted { token, fate, attempts: outcome.attempts, took: start.elapsed(), last }
    }
}
