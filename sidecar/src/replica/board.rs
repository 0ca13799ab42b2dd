//! What a replica shows to the rest of the sidecar while it works.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use decree_wire::heartbeat::{CallsFor, State, Trouble};
use decree_wire::position::{self, Position};
use tokio::sync::watch;
use tokio::time::Instant;

use super::ledger::{Ledger, Reach};
use super::pace::Pace;
use super::progress::{Application, Counts, Progress, Tally};
use super::resolution::Resolution;
use super::rows::Bookmark;
use super::store::Store;
use super::trouble;
use crate::life::verdict::Standing;
use crate::life::{Incarnation, Life};

/// What the replica, its handles and its watch share.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) store: Store,
    pub(super) ledger: Ledger,
    pub(super) life: Arc<dyn Life>,
    progress: watch::Sender<Progress>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    standing: Standing,
    /// Why the application's state is not known, and what is called for.
    unknown: Option<(Trouble, Option<CallsFor>)>,
    /// The replay to a new life of the application.
    pace: Option<Pace>,
    /// Why nothing more is applied, and whether that holds every agent where it stands.
    halted: Option<(Trouble, bool)>,
    /// What keeps it from reading the log.
    waits: Option<Trouble>,
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
        let seen = Seen { standing, ..Seen::default() };
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

    /// Whether a delivery was begun and not ended.
    pub(super) fn in_doubt(&self) -> bool {
        self.seen().standing.begun.is_some()
    }

    /// This life answered a delivery: it holds all that was applied, and nothing is in doubt.
    pub(super) fn answered_by(&self, life: &Incarnation) {
        let mut seen = self.seen();
        let Standing { life: holds, begun: None, haunted: false } = &seen.standing else {
            seen.standing = Standing { life: Some(life.clone()), ..Standing::default() };
            return;
        };
        if holds.as_ref() != Some(life) {
            seen.standing.life = Some(life.clone());
        }
    }

    /// Where the last life of the sidecar stopped.
    pub(super) fn resume(&self, bookmark: &Bookmark, reached: bool) {
        self.progress.send_modify(|progress| progress.reached = reached);
        if bookmark.rebuilding {
            self.seen().pace = Some(Pace::new(bookmark.next(), Instant::now()));
        }
        self.stands(bookmark, bookmark.next(), false);
    }

    /// The last life of the sidecar followed this log, and the application is built anew from it.
    pub(super) fn followed(&self, incarnation: &position::Incarnation) {
        self.progress.send_modify(|progress| progress.incarnation = Some(incarnation.clone()));
    }

    /// An entry begins to be dealt with.
    pub(super) fn begins(&self, log_time: i64) {
        self.seen().log_time = Some(log_time);
    }

    /// The replica stands at `bookmark`; nothing lies between it and `next`.
    pub(super) fn stands(&self, bookmark: &Bookmark, next: Position, chained: bool) {
        self.dealt(bookmark, next, None, chained, Counts::default());
    }

    /// The replica came to `bookmark`: `resolved` became of the entry there, and `counts` are more by it.
    pub(super) fn dealt(
        &self,
        bookmark: &Bookmark,
        next: Position,
        resolved: Option<(Position, Resolution)>,
        chained: bool,
        counts: Counts,
    ) {
        let reach = Reach { next, kept: bookmark.kept.from, floor: bookmark.floor };
        self.ledger.reached(reach, resolved);
        let mut seen = self.seen();
        self.progress.send_modify(|progress| {
            if progress.incarnation.as_ref() != Some(&bookmark.incarnation) {
                progress.incarnation = Some(bookmark.incarnation.clone());
            }
            let compared = bookmark.chain.compared.as_ref().filter(|_| chained);
            if progress.compared.as_ref() != compared {
                progress.compared = compared.cloned();
            }
            progress.digest = bookmark.position().filter(|_| chained).map(|at| bookmark.chain.at(at));
            progress.position = bookmark.position();
            progress.next = next;
            progress.counts.add(counts);
            follows(&mut seen, progress);
        });
    }

    /// A delivery has to be repeated.
    pub(super) fn retries(&self) {
        self.progress.send_modify(|progress| progress.counts.retries += 1);
    }

    pub(super) fn tally(&self, tally: Tally) {
        self.progress.send_modify(|progress| progress.tally = tally);
    }

    /// The orderer reported the log's end.
    pub(super) fn end(&self, end: Position) {
        let mut seen = self.seen();
        seen.heard = Some(Instant::now());
        self.progress.send_if_modified(|progress| {
            let news = set(&mut progress.end, Some(end));
            follows(&mut seen, progress) || news
        });
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

    /// The head at this start, once it is known.
    pub(super) fn known_start_head(&self) -> Option<Position> {
        self.progress.borrow().start_head
    }

    /// Everything before it was dealt with.
    pub(super) fn next(&self) -> Position {
        self.progress.borrow().next
    }

    /// Whether the head at this start was reached.
    pub(super) fn reached(&self) -> bool {
        self.progress.borrow().reached
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

    /// What keeps it from reading the log; none when it reads.
    pub(super) fn waits(&self, trouble: Option<Trouble>) {
        self.seen().waits = trouble;
        self.tick();
    }

    /// Why the application's state is not known, and what is called for; none when it is, or is being made.
    pub(super) fn unknown(&self, unknown: Option<(Trouble, Option<CallsFor>)>) {
        let news = {
            let mut seen = self.seen();
            let news = seen.unknown != unknown;
            seen.unknown.clone_from(&unknown);
            news
        };
        if let Some((trouble, calls_for)) = unknown.filter(|_| news) {
            tracing::warn!(message = trouble.message, ?calls_for, "the application's state is not known");
        }
        self.tick();
    }

    /// A new life of the application is empty: from here on all is done again from the log's start.
    pub(super) fn begin_anew(&self, tally: Tally) {
        let mut seen = self.seen();
        seen.standing = Standing::default();
        let now = Instant::now();
        let pace = Pace::new(Position(0), now);
        seen.pace = Some(pace);
        (seen.unknown, seen.delivery) = (None, None);
        self.ledger.reached(Reach::default(), None);
        self.progress.send_modify(|progress| {
            (progress.position, progress.next) = (None, Position(0));
            (progress.digest, progress.compared) = (None, None);
            (progress.start_head, progress.reached) = (None, false);
            progress.tally = tally;
            // At once: who sees that nothing stands any more has to see why.
            progress.rebuild = Some(pace.at(Position(0), None, now));
        });
        drop(seen);
        self.tick();
    }

    /// The replay has come as far as it can.
    pub(super) fn replayed(&self) {
        self.seen().pace = None;
        self.tick();
    }

    /// Why the application's state is not known, whatever listens.
    pub(super) fn not_known(&self) -> Option<Trouble> {
        let progress = self.progress.borrow();
        progress.unknown.clone().or_else(|| progress.rebuild.as_ref().map(trouble::rebuilding))
    }

    /// What only a person can judge.
    pub(super) fn suspect(&self, suspicion: Trouble) {
        tracing::error!(reason = suspicion.reason, message = suspicion.message, "suspicious");
        self.progress.send_modify(|progress| progress.suspicion = Some(suspicion));
    }

    /// Nothing more is applied; those who wait are told why. `shared`: no agent can go on, and this one's application
    /// stands where the log left it.
    pub(super) fn halt(&self, trouble: Trouble, shared: bool) {
        let before = self.seen().halted.replace((trouble.clone(), shared));
        if before.is_none_or(|(before, _)| before != trouble) {
            tracing::error!(reason = trouble.reason, message = trouble.message, "halted");
        }
        self.ledger.halt(&trouble);
        self.tick();
    }

    pub(super) fn health(&self, health: Result<(), Trouble>) {
        self.seen().health = Some(health);
        self.tick();
    }

    pub(super) fn delivery(&self, waits: Option<Application>) {
        let before = std::mem::replace(&mut self.seen().delivery, waits.clone());
        if before != waits {
            self.tick();
        }
    }

    /// Works out anew what follows from the rest, and from the time that went by.
    pub(super) fn tick(&self) {
        let mut seen = self.seen();
        self.progress.send_if_modified(|progress| follows(&mut seen, progress));
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What follows from what was seen, and from the time that went by; whether any of it is news.
fn follows(seen: &mut Seen, progress: &mut Progress) -> bool {
    let now = Instant::now();
    let mut news = set(&mut progress.application, application(seen));
    news |= set(&mut progress.lag, progress.end.map(|end| end.0.saturating_sub(progress.next.0)));
    let lag_ms = match (progress.end, seen.log_time) {
        (Some(_), _) if progress.caught_up() => Some(0),
        (Some(_), Some(log_time)) => Some(now_ms().saturating_sub(log_time).max(0).unsigned_abs()),
        (None, _) | (_, None) => None,
    };
    news |= set(&mut progress.lag_ms, lag_ms);
    if let Some(head) = progress.start_head {
        news |= set(&mut progress.reached, progress.next >= head);
    }
    if progress.reached {
        seen.pace = None;
    }
    let (unknown, calls_for) = match &seen.unknown {
        Some((trouble, calls_for)) => (Some(trouble.clone()), *calls_for),
        None => (None, None),
    };
    news |= set(&mut progress.unknown, unknown);
    news |= set(&mut progress.calls_for, calls_for);
    let begun = seen.standing.begun.as_ref().filter(|_| seen.unknown.is_some());
    news |= set(&mut progress.in_doubt, begun.map(|begun| begun.position));
    let rebuild = match (&seen.pace, &seen.unknown) {
        (Some(pace), None) => Some(pace.at(progress.next, progress.start_head, now)),
        (None, _) | (_, Some(_)) => None,
    };
    news |= set(&mut progress.rebuild, rebuild);
    let state = state(seen, progress);
    news |= set(&mut progress.state, state);
    news |= set(&mut progress.shared, seen.halted.as_ref().is_some_and(|(_, shared)| *shared));
    let trouble = trouble(seen, progress);
    news | set(&mut progress.trouble, trouble)
}

/// Whether that is news.
fn set<T: PartialEq>(slot: &mut T, value: T) -> bool {
    let news = *slot != value;
    *slot = value;
    news
}

fn state(seen: &Seen, progress: &Progress) -> State {
    if seen.halted.is_some() {
        State::Halted
    } else if seen.unknown.is_some() || seen.pace.is_some() {
        State::Rebuilding
    } else if progress.start_head.is_none() {
        State::Waiting
    } else if progress.reached {
        State::Running
    } else {
        State::CatchingUp
    }
}

/// The one that explains the others.
fn trouble(seen: &Seen, progress: &Progress) -> Option<Trouble> {
    let unknown = seen.unknown.as_ref().map(|(trouble, _)| trouble);
    let halted = seen.halted.as_ref().map(|(trouble, _)| trouble);
    let told = halted.or(unknown).or(seen.waits.as_ref());
    told.cloned().or_else(|| progress.rebuild.as_ref().map(trouble::rebuilding))
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
