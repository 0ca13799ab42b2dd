//! An in-memory counter that knows nothing of Decree and dies at any moment: what a life of it holds is what it was given.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use decree_sidecar::app::{App, Connected, Delivery, End, Outcome, Unwell};
use decree_sidecar::life::{self, Incarnation, Life};

/// The same numbers for the same seed.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// The counter.
#[derive(Debug)]
pub(crate) struct Counter(Mutex<State>);

#[derive(Debug)]
struct State {
    dice: Dice,
    /// Of 100 deliveries, so many meet trouble.
    trouble: u64,
    /// Counts its lives.
    life: u32,
    alive: bool,
    connected: Option<u32>,
    /// The positions that this life was given, in order. Their number is its count.
    given: Vec<u64>,
}

impl Counter {
    pub(crate) fn new(seed: u64) -> Self {
        let dice = Dice::new(seed);
        Self(Mutex::new(State { dice, trouble: 0, life: 1, alive: true, connected: None, given: vec![] }))
    }

    pub(crate) fn trouble(&self, percent: u64) {
        self.state().trouble = percent;
    }

    /// Its process ends, and with it what it holds.
    pub(crate) fn die(&self) {
        self.state().die();
    }

    pub(crate) fn alive(&self) -> bool {
        self.state().alive
    }

    /// Its container is started again.
    pub(crate) fn start(&self) {
        let mut state = self.state();
        state.die();
        state.life += 1;
        state.alive = true;
    }

    pub(crate) fn given(&self) -> Vec<u64> {
        self.state().given.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn die(&mut self) {
        (self.alive, self.connected) = (false, None);
        self.given.clear();
    }

    fn lost(&mut self, why: &str) -> End {
        self.connected = None;
        End::Lost(why.into())
    }
}

#[async_trait]
impl App for Counter {
    async fn connect(&self) -> Result<Connected, Unwell> {
        let mut state = self.state();
        if !state.alive {
            return Err(Unwell::Unreachable { port: 80, detail: "refused".into() });
        }
        let life = state.life;
        Ok(if state.connected.replace(life) == Some(life) { Connected::Kept } else { Connected::Fresh })
    }

    async fn disconnect(&self) {
        self.state().connected = None;
    }

    async fn deliver(&self, delivery: &Delivery<'_>) -> Result<Outcome, End> {
        let (life, fate) = {
            let mut state = self.state();
            let Some(life) = state.connected.filter(|life| state.alive && *life == state.life) else {
                return Err(End::NotConnected("it ended".into()));
            };
            let (bound, trouble) = (state.dice.below(100), state.trouble);
            let fate = if bound < trouble { state.dice.below(6) } else { 9 };
            (life, fate)
        };
        match fate {
            0 => {
                self.state().connected = None;
                return Err(End::NotConnected("closed at rest".into()));
            }
            1 => {
                self.die();
                return Err(End::Lost("it died of it".into()));
            }
            2 => return Err(self.state().lost("it hung up before it counted")),
            _ => {}
        }
        // The sidecar may be killed here, or the counter.
        tokio::time::sleep(Duration::from_micros(300)).await;
        let count = {
            let mut state = self.state();
            if !state.alive || state.life != life {
                return Err(state.lost("it was killed"));
            }
            if fate == 3 {
                let body = Bytes::from_static(b"not now");
                return Ok(Outcome { status: 503, headers: vec![], body, omitted: None });
            }
            state.given.push(delivery.place.position.0);
            state.given.len()
        };
        tokio::time::sleep(Duration::from_micros(300)).await;
        let mut state = self.state();
        match fate {
            4 => {
                state.die();
                return Err(End::Lost("it died behind it".into()));
            }
            5 => return Err(state.lost("it hung up after it counted")),
            _ if !state.alive || state.life != life => return Err(state.lost("it was killed")),
            _ => {}
        }
        Ok(Outcome { status: 200, headers: vec![], body: Bytes::from(count.to_string()), omitted: None })
    }

    async fn healthy(&self) -> Result<(), Unwell> {
        // 503s are no attempts then.
        Err(Unwell::Unhealthy { detail: "nobody knows".into() })
    }

    fn overdue_after(&self) -> Duration {
        Duration::from_secs(30)
    }
}

impl Life for Counter {
    fn current(&self) -> Result<Option<Incarnation>, life::Error> {
        let state = self.state();
        let listeners = BTreeSet::from([state.life]);
        Ok(state.alive.then(|| Incarnation { boot: "boot".into(), listeners }))
    }

    fn boot(&self) -> Result<String, life::Error> {
        Ok("boot".into())
    }
}
