//! Where a replica is, for status, readiness, heartbeats and metrics.

use decree_wire::heartbeat::{CallsFor, Digest, Rebuild, State, Trouble};
use decree_wire::position::{Incarnation, Position};
use serde::{Deserialize, Serialize};

/// Where a replica is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Never `Draining`, which is the sidecar's.
    pub state: State,
    /// The log that is followed; none before one was found.
    pub incarnation: Option<Incarnation>,
    /// The last entry dealt with; none before the first.
    pub position: Option<Position>,
    /// The next position wanted.
    pub next: Position,
    /// The log's end as last reported; none before that.
    pub end: Option<Position>,
    /// The head known at this sidecar's start; none until the log could be asked.
    pub start_head: Option<Position>,
    /// Whether the head known at the start was reached. While the log can't be asked: whether an earlier life of the
    /// sidecar had reached it, with an application that still stands.
    pub reached: bool,
    /// Positions between end and next; none if not known.
    pub lag: Option<u64>,
    /// How long the oldest entry not yet dealt with has been in the log; none if not known.
    pub lag_ms: Option<u64>,
    /// The digest at [`Progress::position`]; none where the class has none.
    pub digest: Option<Digest>,
    /// The digest at the first entry past the last multiple of 256.
    pub compared: Option<Digest>,
    /// What halts it halts every agent alike, and its application stands where the log left it.
    pub shared: bool,
    /// Why it is halted, waits, or is cut off.
    pub trouble: Option<Trouble>,
    /// What was seen of the application that only a person can judge; it goes on with that.
    pub suspicion: Option<Trouble>,
    /// Why the application's state is not known; none when it is, or is being made.
    pub unknown: Option<Trouble>,
    /// What only the cluster can do, so that the application's state is known again.
    pub calls_for: Option<CallsFor>,
    /// The position of a delivery that makes the application's state unknown; none where it is something else, or known.
    pub in_doubt: Option<Position>,
    /// How far the application is rebuilt; none while it is not being rebuilt.
    pub rebuild: Option<Rebuild>,
    /// How the application is.
    pub application: Application,
    /// What became of the entries since this sidecar's start.
    pub counts: Counts,
    /// What became of its lives since the journal began.
    pub tally: Tally,
}

/// How the application is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Application {
    /// Not yet asked.
    Unknown,
    /// Its health check passes.
    Healthy,
    /// It does not, or a delivery waits for the application.
    Unwell(Trouble),
    /// A delivery has had no answer for `overdueAfter`; it goes on.
    Overdue(Trouble),
}

/// What became of entries, counted since the sidecar's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Delivered, with an outcome.
    pub applied: u64,
    /// Of those, with a 4xx or worse.
    pub rejected: u64,
    /// Answered from the dedup window.
    pub duplicates: u64,
    /// The identity of another command.
    pub reused: u64,
    /// Neither command nor control entry, too old, or nothing for this class.
    pub void: u64,
    /// Control entries.
    pub control: u64,
    /// Deliveries that have to be repeated.
    pub retries: u64,
}

/// What became of the application's lives, and of deliveries in doubt, since the pod's journal began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Tally {
    /// Deliveries of which nobody can say whether the application acted on them.
    pub doubts: u64,
    /// Of those, delivered again to the same life, as the settings allow.
    pub redelivered: u64,
    /// New lives to which the log was, or is being, replayed.
    pub rebuilds: u64,
}

impl Counts {
    /// Both.
    pub(super) fn add(&mut self, more: Self) {
        let Self { applied, rejected, duplicates, reused, void, control, retries } = more;
        self.applied += applied;
        self.rejected += rejected;
        self.duplicates += duplicates;
        self.reused += reused;
        self.void += void;
        self.control += control;
        self.retries += retries;
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            state: State::Waiting,
            incarnation: None,
            position: None,
            next: Position(0),
            end: None,
            start_head: None,
            reached: false,
            lag: None,
            lag_ms: None,
            digest: None,
            compared: None,
            shared: false,
            trouble: None,
            suspicion: None,
            unknown: None,
            calls_for: None,
            in_doubt: None,
            rebuild: None,
            application: Application::Unknown,
            counts: Counts::default(),
            tally: Tally::default(),
        }
    }
}

impl Progress {
    /// Whether everything that the orderer reported has been dealt with.
    #[must_use]
    pub fn caught_up(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }

    /// The digest for a heartbeat: agents at rest are compared where they are, moving ones at the last multiple of 256.
    /// Every other one says the latter in any case: under a steady load two agents seldom rest at one position.
    #[must_use]
    pub fn reported_digest(&self, sequence: u64) -> Option<&Digest> {
        let here = self.digest.as_ref().filter(|_| self.caught_up());
        let compared = self.compared.as_ref();
        if sequence.is_multiple_of(2) { here.or(compared) } else { compared.or(here) }
    }
}
