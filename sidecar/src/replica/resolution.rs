//! What became of an entry.

use decree_wire::command::Fingerprint;
use decree_wire::heartbeat::Trouble;
use decree_wire::position::Position;

use crate::app::Outcome;

/// What became of the entry at a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Delivered; the application's answer.
    Applied {
        /// Its answer.
        outcome: Outcome,
    },
    /// The same command was there already.
    Duplicate {
        /// Where.
        of: Position,
        /// Its answer; none if it is no longer kept.
        outcome: Option<Outcome>,
    },
    /// Another command has this identity.
    Reused {
        /// Where it stands.
        of: Position,
    },
    /// Not delivered anywhere, and why.
    Void(String),
    /// A control entry, or nothing stands there.
    Passed,
    /// Dealt with, but so long ago that nothing more is kept of it.
    Forgotten,
    /// The replica halted before it.
    Halted(Trouble),
    /// Too many wait already; try again later.
    TooManyWaiters,
}

/// A command that was dealt with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Where it stands.
    pub position: Position,
    /// What a repeat must share.
    pub fingerprint: Fingerprint,
    /// Its answer; none if it is no longer kept.
    pub outcome: Option<Outcome>,
}
