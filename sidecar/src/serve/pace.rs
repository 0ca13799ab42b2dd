//! How far a connection is and since when: by this the slow and the idle are told from those that work.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use crate::observed::Observer;

/// How long a client may take for what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a request's head, from its first byte on.
    pub head: Duration,
    /// Between requests. Longer than the idle limits of clients' pools (60 s in most), so that it is the client who
    /// closes: a server that closes as a request is sent looks like a failure.
    pub idle: Duration,
    /// Without a byte of a body coming, or without a byte of an answer being taken.
    pub pause: Duration,
}

impl Patience {
    /// What all doors have.
    pub const USUAL: Self = Self {
        head: Duration::from_secs(10),
        idle: Duration::from_secs(120),
        pause: Duration::from_secs(30),
    };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing has come since the last answer.
    Idle,
    /// Some of a request's head has.
    Head,
    /// A request is being answered.
    Busy,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    since: Instant,
    /// Since when the client takes nothing of what is written to it.
    stalled: Option<Instant>,
}

/// How far one connection is.
#[derive(Debug)]
pub(super) struct Pace(Mutex<State>);

/// A request that is being answered, until its answer was handed over.
#[derive(Debug)]
pub(super) struct Busy(Arc<Pace>);

impl Observer for Arc<Pace> {
    fn came(&self, bytes: usize) {
        if bytes > 0 {
            self.read();
        }
    }

    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        self.taken(written.is_ready());
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.enter(Phase::Idle);
    }
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(State { phase: Phase::Idle, since: now, stalled: None }))
    }

    /// A request's head is there.
    pub(super) fn busy(pace: &Arc<Self>) -> Busy {
        pace.enter(Phase::Busy);
        Busy(Arc::clone(pace))
    }

    /// Bytes came.
    fn read(&self) {
        let mut state = self.state();
        if state.phase == Phase::Idle {
            *state = State { phase: Phase::Head, since: Instant::now(), stalled: state.stalled };
        }
    }

    /// Whether bytes that were to be written were taken.
    fn taken(&self, taken: bool) {
        let mut state = self.state();
        if taken {
            state.stalled = None;
        } else {
            state.stalled.get_or_insert_with(Instant::now);
        }
    }

    /// Since when it has not been working on a request; none while it is, or while an answer's end is on its way.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.state();
        (state.phase != Phase::Busy && state.stalled.is_none()).then_some(state.since)
    }

    /// Why it is to end now.
    pub(super) fn late(&self, now: Instant, patience: Patience) -> Option<&'static str> {
        let state = self.state();
        let over = |since: Instant, limit| now.saturating_duration_since(since) > limit;
        if state.stalled.is_some_and(|since| over(since, patience.pause)) {
            return Some("its client takes nothing of an answer");
        }
        match state.phase {
            Phase::Idle => over(state.since, patience.idle).then_some("it was idle"),
            Phase::Head => {
                over(state.since, patience.head).then_some("a request's head did not come in time")
            }
            Phase::Busy => None,
        }
    }

    fn enter(&self, phase: Phase) {
        let mut state = self.state();
        *state = State { phase, since: Instant::now(), stalled: state.stalled };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        head: Duration::from_secs(1),
        idle: Duration::from_secs(9),
        pause: Duration::from_secs(3),
    };

    fn late(pace: &Pace, seconds: u64) -> bool {
        pace.late(Instant::now() + Duration::from_secs(seconds), PATIENCE).is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn idle_a_dribbled_head_and_a_stalled_answer_have_limits_and_work_has_none() {
        let pace = Arc::new(Pace::new(Instant::now()));
        assert!(!late(&pace, 9) && late(&pace, 10));
        pace.read();
        assert!(!late(&pace, 1) && late(&pace, 2));
        tokio::time::advance(Duration::from_secs(1)).await;
        pace.read();
        assert!(late(&pace, 1), "a dribbled byte does not begin the head anew");
        let busy = Pace::busy(&pace);
        assert!(!late(&pace, 1000));
        assert_eq!(pace.idle_since(), None);
        pace.taken(false);
        assert!(!late(&pace, 3) && late(&pace, 4));
        pace.taken(true);
        assert!(!late(&pace, 4));
        drop(busy);
        assert_eq!(pace.idle_since(), Some(Instant::now()));
        assert!(!late(&pace, 9) && late(&pace, 10));
    }
}
