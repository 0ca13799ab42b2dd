//! The steps by which a group comes to be and changes: one at a time, everything is looked at anew after each.

use decree_wire::group::{Genesis, MemberId};
use decree_wire::member::{LogId, Place};

/// One step. Any of them may be lost, come late or be repeated, and another operator may take the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write the genesis into the status, if there is none and nobody wrote there since.
    Remember(Genesis),
    /// Have the first member begin.
    Initialize {
        /// Its pod.
        pod: String,
        /// With this.
        genesis: Genesis,
        /// Where it is found.
        place: Place,
    },
    /// Tell a pod's sidecar which group it is to belong to.
    Join {
        /// The pod.
        pod: String,
        /// The group's.
        genesis: Genesis,
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
