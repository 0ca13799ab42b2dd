//! The steps by which a group comes to be and changes, one at a time; and what a plan says beside its step.

use decree_wire::group::{Genesis, MemberId};
use decree_wire::member::{LogId, Place};

use crate::engine::problem::{Alert, Problem};

/// What is to be done, and what is to be said.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// The one next step; none: nothing, or it is waited for something.
    pub step: Option<Step>,
    /// What is waited for.
    pub waiting: Option<&'static str>,
    /// Why no entry can be ordered, in a word and in words; none where entries can.
    pub no_quorum: Option<(&'static str, String)>,
    /// Why the group is not ready.
    pub problems: Vec<Problem>,
    /// What a person should know all the same.
    pub alerts: Vec<Alert>,
    /// Pods whose readiness gate opens.
    pub opens: Vec<String>,
    /// Pods whose sidecars are told which group they are to belong to. That changes no membership, so it waits for nothing
    /// and holds up nothing.
    pub joins: Vec<String>,
}

/// One step. Any of them may be lost, come late or be repeated, and another operator may take the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write the genesis into the status, if there is none, or one with which nobody was ever asked to begin, and nobody wrote
    /// there since.
    Remember(Genesis),
    /// Count it in the status, then have the first member begin.
    Initialize {
        /// Its pod.
        pod: String,
        /// With this.
        genesis: Genesis,
        /// Where it is found.
        place: Place,
    },
    /// Have the leader do something.
    Lead {
        /// The leader's pod.
        pod: String,
        /// What.
        order: Order,
    },
}

/// What a leader is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Add a learner, or say where a member is found now.
    Learner {
        /// The membership that was seen.
        seen: LogId,
        /// Whom.
        id: MemberId,
        /// Where it is found.
        place: Place,
    },
    /// Make a learner a voter.
    Promote {
        /// The membership that was seen.
        seen: LogId,
        /// Whom.
        id: MemberId,
        /// Whose place it takes.
        instead_of: Option<MemberId>,
    },
    /// Take a member out, or only its vote.
    Remove {
        /// The membership that was seen.
        seen: LogId,
        /// Whom.
        id: MemberId,
        /// It stays, as a learner.
        stays: bool,
    },
    /// Finish a change that a leader before has begun.
    Settle {
        /// The membership that was seen.
        seen: LogId,
    },
    /// Let another voter lead.
    HandOver {
        /// Whom.
        to: MemberId,
    },
}
