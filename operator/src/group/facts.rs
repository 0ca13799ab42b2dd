//! What the plan is made from: what is wanted, what is remembered, which pods there are and what their sidecars say.

use std::time::Duration;

use decree_wire::group::{Genesis, MemberId};
use decree_wire::member::{Member, Place};
use decree_wire::position::{Incarnation, Position};

/// Everything that is known of a group.
#[derive(Clone, Debug)]
pub struct Facts {
    /// `spec.voters`.
    pub voters: usize,
    /// `spec.electionTimeout`.
    pub election_timeout: Duration,
    /// `status.genesis`.
    pub genesis: Option<Genesis>,
    /// Its first member was asked to begin, and nobody knows that it did not.
    pub asked: bool,
    /// `status.members`: those that were seen last.
    pub remembered: Vec<Remembered>,
    /// `status.committed`: the last position that was known to be certain.
    pub committed: Option<Position>,
    /// The engine's pods that have not ended.
    pub pods: Vec<Pod>,
    /// What a new group would be called: drawn for this look, and never used before.
    pub fresh: Incarnation,
}

/// A member as the status remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Its id.
    pub id: MemberId,
    /// Its pod's name.
    pub pod: String,
    /// Whether it voted.
    pub votes: bool,
}

/// A pod of the engine.
///
/// A member's disk is the pod's: it lives through restarts of the container, and ends with the pod.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Where its sidecar is found; none before it has an address and a node.
    pub place: Option<Place>,
    /// It is going away.
    pub ending: bool,
    /// Its sidecar has run, so that there may be something on its disk.
    pub begun: bool,
    /// It is not younger than the group's resource, so that it may know a group that the status does not.
    pub elder: bool,
    /// Its readiness gate is open.
    pub open: bool,
    /// What its sidecar says; none where it could not be asked just now.
    pub answer: Option<Member>,
}
