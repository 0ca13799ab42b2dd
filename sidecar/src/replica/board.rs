//! What a replica shows to the rest of the sidecar while it works.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use decree_wire::heartbeat::{State, Trouble};
use decree_wire::position::Position;
use tokio::sync::watch;
use tokio::time::Instant;

use super::ledger::{Ledger, Reach};
use super::progress::{Application, Counts, Progress};
use super::resolution::Resolution;
use super::rows::Bookmark;
use super::store::Store;
use crate::life::Life;
use crate::life::verdict::Standing;

/// What the replica, its handles and its watch share.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) store: Store,
    pub(super) ledger: Ledger,
    pub(super) life: Arc<dyn Life>,
    progress: watch::Sender<Progress>,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    standing: Standing,
    /// The health check's last word; none before the first.
    health: Option<Result<(), Trouble>>,
    /// What the delivery in flight waits for.
    delivery: Option<Application>,
    /// Log time of the entry that is being dealt with, or was last.
    log_time: Option<i64>,
    /// When the log's end was last heard of.
    heard: Option<Instant>,
}

impl Board {
    pub(super) fn new(store: Store, life: Arc<dyn Life>, standing: Standing) -> Self {
        let seen = Seen { standing, health: None, delivery: None, log_time: None, heard: None };
        let progress = watch::Sender::new(Progress::default());
        Self { store, ledger: Ledger::default(), life, progress, seen: Mutex::new(seen) }
    }

    pub(super) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    pub(super) fn standing(&self) -> Standing {
        self.seen().standing.clone()
    }

    pub(super) fn set_standing(&self, standing: Standing) {
        self.seen().standing = standing;
    }

    /// Where the last life of the sidecar stopped.
    pub(super) fn resume(&self, bookmark: &Bookmark, reached: bool) {
        self.progress.send_modify(|progress| progress.reached = reached);
        self.dealt(bookmark, bookmark.next(), None, false);
    }

    /// An entry begins to be dealt with.
    pub(super) fn begins(&self, log_time: i64) {
        self.seen().log_time = Some(log_time);
    }

    /// The replica stands at `bookmark`; nothing lies between it and `next`.
    pub(super) fn dealt(
        &self,
        bookmark: &Bookmark,
        next: Position,
        resolved: Option<(Position, Resolution)>,
        chained: bool,
    ) {
        let reach = Reach { next, kept: bookmark.kept.from, floor: bookmark.floor };
        self.ledger.reached(reach, resolved);
        self.progress.send_modify(|progress| {
            progress.incarnation = Some(bookmark.incarnation.clone());
            progress.position = bookmark.position();
            progress.next = next;
            progress.digest = bookmark.position().filter(|_| chained).map(|at| bookmark.chain.at(at));
            progress.compared = bookmark.chain.compared.clone().filter(|_| chained);
        });
        self.tick();
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut Counts)) {
        self.progress.send_modify(|progress| count(&mut progress.counts));
    }

    /// The orderer reported the log's end.
    pub(super) fn end(&self, end: Position) {
        self.seen().heard = Some(Instant::now());
        self.progress.send_modify(|progress| progress.end = Some(end));
        self.tick();
    }

    /// The log is away: where it ends is no longer known, and unknown is not the same as caught up.
    pub(super) fn unheard(&self) {
        self.progress.send_modify(|progress| progress.end = None);
        self.tick();
    }

    /// The log reaches so far, or further.
    pub(super) fn at_least(&self, end: Position) {
        self.progress.send_if_modified(|progress| {
            let behind = progress.end.is_none_or(|known| known < end);
            if behind {
                progress.end = Some(end);
            }
            behind
        });
    }

    /// When the log's end was last heard of.
    pub(super) fn heard(&self) -> Option<Instant> {
        self.seen().heard
    }

    /// The head at this start.
    pub(super) fn start_head(&self, head: Position) {
        self.progress.send_modify(|progress| {
            progress.start_head = Some(head);
            progress.end = Some(progress.end.map_or(head, |end| end.max(head)));
        });
        self.seen().heard = Some(Instant::now());
        self.tick();
    }

    /// What keeps it from going on; none when it goes on.
    pub(super) fn trouble(&self, trouble: Option<Trouble>) {
        self.progress.send_if_modified(|progress| {
            let changed = progress.trouble != trouble;
            progress.trouble = trouble;
            changed
        });
    }

    pub(super) fn halt(&self, trouble: Trouble) {
        tracing::error!(reason = trouble.reason, message = trouble.message, "halted");
        self.ledger.halt(&trouble);
        self.progress.send_modify(|progress| {
            progress.state = State::Halted;
            progress.trouble = Some(trouble);
        });
    }

    pub(super) fn health(&self, health: Result<(), Trouble>) {
        self.seen().health = Some(health);
        self.tick();
    }

    pub(super) fn delivery(&self, waits: Option<Application>) {
        self.seen().delivery = waits;
        self.tick();
    }

    /// Works out anew what follows from the rest, and from the time that went by.
    pub(super) fn tick(&self) {
        let (application, log_time) = {
            let seen = self.seen();
            (application(&seen), seen.log_time)
        };
        self.progress.send_if_modified(|progress| {
            let before = progress.clone();
            progress.application = application;
            progress.lag = progress.end.map(|end| end.0.saturating_sub(progress.next.0));
            progress.lag_ms = match (progress.end, log_time) {
                (Some(_), _) if progress.caught_up() => Some(0),
                (Some(_), Some(log_time)) => Some(now_ms().saturating_sub(log_time).max(0).unsigned_abs()),
                (None, _) | (_, None) => None,
            };
            if let Some(head) = progress.start_head {
                progress.reached = progress.next >= head;
                if progress.state != State::Halted {
                    progress.state = if progress.reached { State::Running } else { State::CatchingUp };
                }
            }
            *progress != before
        });
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn application(seen: &Seen) -> Application {
    match (&seen.delivery, &seen.health) {
        (Some(overdue @ Application::Overdue(_)), _) => overdue.clone(),
        (_, Some(Err(trouble))) => Application::Unwell(trouble.clone()),
        (Some(waits), _) => waits.clone(),
        (None, Some(Ok(()))) => Application::Healthy,
        (None, None) => Application::Unknown,
    }
}

/// The clock on the wall, to compare log time with.
fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}
