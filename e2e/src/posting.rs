//! Clients that post one command after the other while something happens, each under an id of its own and again until
//! it is answered; and what they heard.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use serde_json::json;

use crate::agents::Agent;
use crate::client::{Client, Request};
use crate::fold::Fold;
use crate::history::Fate;
use crate::wait;

/// How many clients post, where, and how.
#[derive(Debug)]
pub struct Posting<'a> {
    pub service: &'a Client,
    pub path: &'static str,
    /// In the ids of all: two runs on one log must not share any.
    pub name: &'static str,
    pub clients: usize,
    /// Between an answer and the next command.
    pub pace: Duration,
    /// After so long a client gives a command up.
    pub patience: Duration,
}

/// What has been answered so far.
#[derive(Debug, Default)]
pub struct Tally {
    acknowledged: AtomicUsize,
}

/// What all clients heard.
#[derive(Debug, Default)]
pub struct Posted {
    /// Ids by what became of them.
    pub acknowledged: BTreeSet<String>,
    pub refused: BTreeMap<String, String>,
    pub unknown: BTreeMap<String, String>,
    /// Commands that were sent more than once.
    pub repeated: usize,
    /// The longest that a client waited from its first attempt to the answer.
    pub slowest: Duration,
}

impl Posting<'_> {
    /// Posts until `work` has ended, and a command of each client has its answer then.
    pub fn during<T>(&self, work: impl FnOnce(&Tally) -> Result<T>) -> Result<(T, Posted)> {
        let (over, tally) = (AtomicBool::new(false), Tally::default());
        std::thread::scope(|scope| {
            let (over, tally) = (&over, &tally);
            let clients: Vec<_> = (0..self.clients)
                .map(|client| scope.spawn(move || self.post_until(over, client, tally)))
                .collect();
            let done = work(tally);
            over.store(true, Ordering::SeqCst);
            let mut all = Posted::default();
            for client in clients {
                all.append(client.join().map_err(|_| anyhow!("a client panicked"))?);
            }
            Ok((done?, all))
        })
    }

    fn post_until(&self, over: &AtomicBool, client: usize, tally: &Tally) -> Posted {
        let mut posted = Posted::default();
        for number in 0_usize.. {
            if over.load(Ordering::SeqCst) {
                break;
            }
            let id = format!("{}-{client}-{number}", self.name);
            if self.post(id, &mut posted) == Fate::Acknowledged {
                tally.acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            std::thread::sleep(self.pace);
        }
        posted
    }

    fn post(&self, id: String, posted: &mut Posted) -> Fate {
        let request = Request {
            method: "POST",
            path: self.path.to_owned(),
            headers: vec![("content-type", "application/json".to_owned())],
            body: json!({"token": id}).to_string(),
            id: Some(id.clone()),
        };
        let start = Instant::now();
        let outcome = self.service.send_until_answered(&request, self.patience);
        posted.slowest = posted.slowest.max(start.elapsed());
        posted.repeated += usize::from(outcome.attempts > 1);
        let (fate, last) = (outcome.fate(), format!("{:?}", outcome.last));
        match fate {
            Fate::Acknowledged => drop(posted.acknowledged.insert(id)),
            Fate::Refused => drop(posted.refused.insert(id, last)),
            Fate::Unknown => drop(posted.unknown.insert(id, last)),
        }
        fate
    }
}

impl Tally {
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Waits until so many more are acknowledged.
    pub fn wait_more(&self, count: usize, limit: Duration) -> Result<()> {
        let goal = self.acknowledged() + count;
        wait::until(format!("{count} more acknowledged commands"), limit, || {
            Ok((self.acknowledged() >= goal).then_some(()))
        })
    }
}

impl Posted {
    fn append(&mut self, other: Self) {
        let Self { acknowledged, refused, unknown, repeated, slowest } = other;
        self.acknowledged.extend(acknowledged);
        self.refused.extend(refused);
        self.unknown.extend(unknown);
        self.repeated += repeated;
        self.slowest = self.slowest.max(slowest);
    }

    /// Fails unless every command got an answer, and it was no refusal.
    pub fn ensure_all_acknowledged(&self) -> Result<()> {
        ensure!(self.refused.is_empty(), "refused for good: {:?}", self.refused);
        ensure!(self.unknown.is_empty(), "not answered in the end: {:?}", self.unknown);
        ensure!(!self.acknowledged.is_empty(), "nothing was posted");
        Ok(())
    }

    /// Fails unless what was acknowledged is in the log once, nothing is there that nobody posted, and every agent's
    /// recorder was given just what the log holds.
    pub fn ensure_once(&self, fold: &Fold, agents: &[Agent]) -> Result<()> {
        for id in &self.acknowledged {
            ensure!(fold.times(id) == 1, "{id} was acknowledged and is in the log {} times", fold.times(id));
        }
        for command in &fold.commands {
            let posted = command
                .id
                .as_ref()
                .is_some_and(|id| self.acknowledged.contains(id) || self.unknown.contains_key(id));
            ensure!(posted, "nobody may have posted {command:?}");
        }
        agents.iter().try_for_each(|agent| fold.ensure_recorded(agent))
    }

    /// One line for people.
    pub fn summary(&self, fold: &Fold) -> String {
        format!(
            "{} acknowledged, {} sent more than once, {} more than once in the log; the slowest took {:.1} s",
            self.acknowledged.len(),
            self.repeated,
            fold.repeats,
            self.slowest.as_secs_f64()
        )
    }
}
