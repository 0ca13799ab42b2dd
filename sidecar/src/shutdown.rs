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
//! - reads pass through until SIGTERM;
//! - a member that votes goes on voting until its group has let it go, or the pod's grace is nearly over: its disk ends with
//!   the pod, and the group must not lose a quorum to a rollout.

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

/// A member that still votes ends by itself so long before the pod's grace does: it must not be killed.
pub const MARGIN: Duration = Duration::from_secs(3);

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
    /// The pod's grace: from the beginning of its end so long nobody is killed.
    pub grace: Duration,
}

/// What a step depends on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// No proposal is outstanding.
    pub quiet: bool,
    /// The engine has ended: its replica, and its member of a group.
    pub ended: bool,
    /// The member still votes.
    pub votes: bool,
}

impl Shutdown {
    /// Nothing has begun.
    #[must_use]
    pub fn running(grace: Duration) -> Self {
        Self { phase: Phase::Running, draining_since: None, terminated_at: None, grace }
    }

    /// Until when a member may go on voting; none before the end has begun.
    #[must_use]
    pub fn votes_until(&self) -> Option<Instant> {
        self.draining_since.map(|since| since + self.grace.saturating_sub(MARGIN))
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

    /// One step, if it is due.
    pub fn step(&mut self, Seen { quiet, ended, votes }: Seen, now: Instant) {
        let serves = votes && self.votes_until().is_some_and(|until| now < until);
        match self.phase {
            Phase::Draining if self.over(quiet, now) => self.phase = Phase::Flushed,
            Phase::Flushed if self.terminated_at.is_some() && (ended || (self.late(now) && !serves)) => {
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

impl Handle {
    /// Of a pod with this grace. Nothing has begun.
    #[must_use]
    pub fn new(grace: Duration) -> Self {
        Self(watch::Sender::new(Shutdown::running(grace)))
    }

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
    pub fn step(&self, seen: Seen) {
        self.0.send_if_modified(|state| {
            let before = state.phase;
            state.step(seen, Instant::now());
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

    fn seen(quiet: bool, ended: bool) -> Seen {
        Seen { quiet, ended, votes: false }
    }

    #[test]
    fn pre_stop_keeps_the_services_door_open_for_its_grace() {
        let start = Instant::now();
        let mut shutdown = Shutdown::running(Duration::from_secs(30));
        shutdown.begin(start);
        assert!(!shutdown.accepts(Door::Local, true, at(start, 1)));
        assert!(shutdown.accepts(Door::Service, true, at(start, 1)));
        assert!(!shutdown.accepts(Door::Service, false, at(start, 1)), "the application has gone");
        shutdown.step(seen(true, false), at(start, 3999));
        assert_eq!(shutdown.phase, Phase::Draining);
        assert!(!shutdown.accepts(Door::Service, true, at(start, 4000)));
        shutdown.step(seen(true, false), at(start, 4000));
        assert_eq!(shutdown.phase, Phase::Flushed);
        shutdown.step(seen(true, true), at(start, 60_000));
        assert_eq!(shutdown.phase, Phase::Flushed, "SIGTERM stops it, nothing else");
        shutdown.terminate(at(start, 60_000));
        shutdown.step(seen(true, true), at(start, 60_000));
        assert_eq!(shutdown.phase, Phase::Stopped);
    }

    #[test]
    fn what_hangs_is_not_waited_for_beyond_the_limit() {
        let start = Instant::now();
        let mut shutdown = Shutdown::running(Duration::from_secs(30));
        shutdown.begin(start);
        shutdown.step(seen(false, false), at(start, 14_999));
        assert_eq!(shutdown.phase, Phase::Draining);
        shutdown.step(seen(false, false), at(start, 15_000));
        assert_eq!(shutdown.phase, Phase::Flushed);
    }

    #[test]
    fn sigterm_alone_ends_within_two_seconds() {
        let start = Instant::now();
        let mut shutdown = Shutdown::running(Duration::from_secs(30));
        shutdown.terminate(start);
        assert!(!shutdown.accepts(Door::Service, true, start));
        shutdown.step(seen(false, false), at(start, 1499));
        assert_eq!(shutdown.phase, Phase::Draining);
        shutdown.step(seen(false, false), at(start, 1500));
        shutdown.step(seen(false, false), at(start, 1500));
        assert_eq!(shutdown.phase, Phase::Stopped);
    }

    #[test]
    fn a_member_votes_until_it_is_let_go_or_the_grace_is_nearly_over() {
        let start = Instant::now();
        let votes = Seen { quiet: true, ended: false, votes: true };
        let mut shutdown = Shutdown::running(Duration::from_secs(30));
        shutdown.terminate(start);
        shutdown.step(votes, at(start, 1500));
        shutdown.step(votes, at(start, 26_999));
        assert_eq!(shutdown.phase, Phase::Flushed);
        let mut killed = shutdown;
        shutdown.step(Seen { votes: false, ended: true, ..votes }, at(start, 20_000));
        assert_eq!(shutdown.phase, Phase::Stopped);
        killed.step(votes, at(start, 27_000));
        assert_eq!(killed.phase, Phase::Stopped, "it ends by itself");
    }
}
