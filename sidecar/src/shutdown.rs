//! Shutdown, a written state machine: running → draining → flushed → stopped.
//!
//! ```text
//!            pre-stop, SIGTERM            grace over and quiet, or limit           SIGTERM
//!  Running ───────────────────▶ Draining ───────────────────────────────▶ Flushed ─────────▶ Stopped
//! ```
//!
//! A pod's deletion runs in parallel: its endpoints are removed, its application gets SIGTERM, and this sidecar's
//! `preStop` runs; the sidecar's own SIGTERM comes last, perhaps with 2 s left. So clients of the Service still
//! arrive for a moment. What serves them best and loses nothing:
//! - the Service's door goes on ordering for [`GRACE`], as long as the application answers; an ordered command that
//!   this agent can no longer answer is not lost (504, and its id is safe to repeat with another agent);
//! - the local door (the application's own, which is ending too) refuses new proposals at once, as the contract says;
//! - reads pass through until SIGTERM.

use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

/// Endpoints take about so long to be removed everywhere.
pub const GRACE: Duration = Duration::from_secs(4);
/// Proposals outstanding at a drain are waited for this long.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(15);
/// The same once SIGTERM was seen: little grace may be left.
pub const TERM_LIMIT: Duration = Duration::from_millis(1500);

/// Where the shutdown is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// Serving.
    Running,
    /// New proposals are refused, those in flight end.
    Draining,
    /// Nothing is outstanding, the journal is complete.
    Flushed,
    /// Every door closes.
    Stopped,
}

/// Where a proposal comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The application's local API.
    Local,
    /// HTTP replication, behind the engine's Service.
    Service,
}

/// What is known about the shutdown.
#[derive(Clone, Copy, Debug)]
pub struct Shutdown {
    /// Where it is.
    pub phase: Phase,
    /// When draining began.
    pub draining_since: Option<Instant>,
    /// When SIGTERM came.
    pub terminated_at: Option<Instant>,
}

impl Shutdown {
    /// Nothing has begun.
    #[must_use]
    pub fn running() -> Self {
        Self { phase: Phase::Running, draining_since: None, terminated_at: None }
    }

    /// Pre-stop or SIGTERM: draining begins, once.
    pub fn begin(&mut self, now: Instant) {
        if self.phase == Phase::Running {
            self.phase = Phase::Draining;
            self.draining_since = Some(now);
        }
    }

    /// SIGTERM: limits shrink, and what is flushed may stop.
    pub fn terminate(&mut self, now: Instant) {
        self.begin(now);
        self.terminated_at.get_or_insert(now);
    }

    /// One step, if it is due. `quiet`: no proposal is outstanding. `applied`: the replica has ended.
    pub fn step(&mut self, quiet: bool, applied: bool, now: Instant) {
        match self.phase {
            Phase::Draining if self.over(quiet, now) => self.phase = Phase::Flushed,
            Phase::Flushed if self.terminated_at.is_some() && (applied || self.late(now)) => {
                self.phase = Phase::Stopped;
            }
            Phase::Running | Phase::Draining | Phase::Flushed | Phase::Stopped => {}
        }
    }

    /// Whether a new proposal is taken. `application`: it answers.
    #[must_use]
    pub fn accepts(&self, door: Door, application: bool, now: Instant) -> bool {
        match self.phase {
            Phase::Running => true,
            Phase::Draining => door == Door::Service && application && !self.grace_over(now),
            Phase::Flushed | Phase::Stopped => false,
        }
    }

    fn grace_over(&self, now: Instant) -> bool {
        let waited = self.draining_since.is_none_or(|since| now.duration_since(since) >= GRACE);
        waited || self.terminated_at.is_some()
    }

    fn over(&self, quiet: bool, now: Instant) -> bool {
        let limit = self.draining_since.is_none_or(|since| now.duration_since(since) >= DRAIN_LIMIT);
        (quiet && self.grace_over(now)) || limit || self.late(now)
    }

    fn late(&self, now: Instant) -> bool {
        self.terminated_at.is_some_and(|at| now.duration_since(at) >= TERM_LIMIT)
    }
}

/// Shares the one shutdown of the process.
#[derive(Clone, Debug)]
pub struct Handle(watch::Sender<Shutdown>);

impl Default for Handle {
    fn default() -> Self {
        Self(watch::Sender::new(Shutdown::running()))
    }
}

impl Handle {
    /// What is known now.
    #[must_use]
    pub fn now(&self) -> Shutdown {
        *self.0.borrow()
    }

    /// See [`Shutdown::begin`].
    pub fn begin(&self) {
        self.0.send_modify(|state| state.begin(Instant::now()));
    }

    /// See [`Shutdown::terminate`].
    pub fn terminate(&self) {
        self.0.send_modify(|state| state.terminate(Instant::now()));
    }

    /// See [`Shutdown::step`].
    pub fn step(&self, quiet: bool, applied: bool) {
        self.0.send_if_modified(|state| {
            let before = state.phase;
            state.step(quiet, applied, Instant::now());
            state.phase != before
        });
    }

    /// Waits until `phase` is reached or passed; the caller adds the limit.
    pub async fn reached(&self, phase: Phase) {
        // The sender lives in `self`: an error can't be.
        let _ = self.0.subscribe().wait_for(|state| state.phase >= phase).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn pre_stop_keeps_the_services_door_open_for_its_grace() {
        let start = Instant::now();
        let mut shutdown = Shutdown::running();
        shutdown.begin(start);
        assert!(!shutdown.accepts(Door::Local, true, at(start, 1)));
        assert!(shutdown.accepts(Door::Service, true, at(start, 1)));
        assert!(!shutdown.accepts(Door::Service, false, at(start, 1)), "the application has gone");
        shutdown.step(true, false, at(start, 3999));
        assert_eq!(shutdown.phase, Phase::Draining);
        assert!(!shutdown.accepts(Door::Service, true, at(start, 4000)));
        shutdown.step(true, false, at(start, 4000));
        assert_eq!(shutdown.phase, Phase::Flushed);
        shutdown.step(true, true, at(start, 60_000));
        assert_eq!(shutdown.phase, Phase::Flushed, "SIGTERM stops it, nothing else");
        shutdown.terminate(at(start, 60_000));
        shutdown.step(true, true, at(start, 60_000));
        assert_eq!(shutdown.phase, Phase::Stopped);
    }

    #[test]
    fn what_hangs_is_not_waited_for_beyond_the_limit() {
        let start = Instant::now();
        let mut shutdown = Shutdown::running();
        shutdown.begin(start);
        shutdown.step(false, false, at(start, 14_999));
        assert_eq!(shutdown.phase, Phase::Draining);
        shutdown.step(false, false, at(start, 15_000));
        assert_eq!(shutdown.phase, Phase::Flushed);
    }

    #[test]
    fn sigterm_alone_ends_within_two_seconds() {
        let start = Instant::now();
        let mut shutdown = Shutdown::running();
        shutdown.terminate(start);
        assert!(!shutdown.accepts(Door::Service, true, start));
        shutdown.step(false, false, at(start, 1499));
        assert_eq!(shutdown.phase, Phase::Draining);
        shutdown.step(false, false, at(start, 1500));
        shutdown.step(false, false, at(start, 1500));
        assert_eq!(shutdown.phase, Phase::Stopped);
    }
}
