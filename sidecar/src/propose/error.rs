//! Why a proposer has no answer, and what it is to do.

use decree_wire::heartbeat::Trouble;
use decree_wire::position::Position;

use crate::{log, replica};

/// Why there is no answer. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Too many at once.
    #[error("{what} are outstanding at this agent already; try again in a moment")]
    Busy {
        /// Which bound was met.
        what: &'static str,
    },
    /// Larger than the log takes.
    #[error("the command is larger than the log takes: {0}; send less, or a reference to the data")]
    TooLarge(String),
    /// This agent is ending.
    #[error("this agent is ending; send the command to another agent, under the same id")]
    Draining,
    /// This agent does not apply, so it could not answer.
    #[error("this agent does not follow the log now: {}", .0.message)]
    NotFollowing(Trouble),
    /// Another command has the identity.
    #[error("id {id:?} belongs to another command, at position {of}; use a new id for new content")]
    Reused {
        /// The id.
        id: String,
        /// Where that command stands.
        of: Position,
    },
    /// It was applied, and its outcome was dropped since.
    #[error(
        "the command was applied at position {of}, and its outcome is no longer kept; do not send it again"
    )]
    Gone {
        /// The id.
        id: String,
        /// Where it stands.
        of: Position,
    },
    /// No replica delivers it.
    #[error(
        "the command stands at position {position} and is delivered to no application of this class: {why}"
    )]
    Void {
        /// The id.
        id: String,
        /// Where it stands.
        position: Position,
        /// Why.
        why: String,
    },
    /// Nobody can say whether it was ordered.
    #[error(
        "nobody can say yet whether the command was ordered ({why}); repeating it under id {id:?} is safe"
    )]
    NotOrdered {
        /// The id.
        id: String,
        /// What is known.
        why: String,
    },
    /// Ordered, and not yet applied here.
    #[error(
        "the command is ordered at position {position} and not yet applied here ({why}); repeating it under id {id:?} is safe"
    )]
    NotApplied {
        /// The id.
        id: String,
        /// Where it stands.
        position: Position,
        /// What it waits for.
        why: String,
    },
    /// It was not ordered.
    #[error("the command was not ordered: {source}; repeating it under id {id:?} is safe")]
    Log {
        /// The id.
        id: String,
        /// What the log said.
        source: log::Error,
    },
    /// The replica's store failed.
    #[error("look the command up: {0}")]
    Replica(#[from] replica::Error),
}
