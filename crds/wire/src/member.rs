//! What the operator asks of a group's members, on their peers' port, and what they answer. All of it is JSON.
//!
//! A change of the membership names the membership that its author had seen ([`LogId`]): the leader refuses it (409) where
//! another one is in effect. So of two authors that saw the same one succeeds, and nothing late does harm.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::group::{Genesis, MemberId};
use crate::position::Position;
use crate::settings::Settings;

/// Requests and their paths.
pub mod path {
    /// `GET`, of any member: [`super::Member`].
    pub const MEMBER: &str = "/v1/member";
    /// `POST` [`super::Initialize`] to the first member. Again is no error.
    pub const INITIALIZE: &str = "/v1/group/initialize";
    /// `POST` [`super::Join`] to one that is to be added. Again is no error.
    pub const JOIN: &str = "/v1/group/join";
    /// `POST` [`super::Learner`] to the leader.
    pub const LEARNER: &str = "/v1/group/learner";
    /// `POST` [`super::Promote`] to the leader.
    pub const PROMOTE: &str = "/v1/group/promote";
    /// `POST` [`super::Remove`] to the leader.
    pub const REMOVE: &str = "/v1/group/remove";
    /// `POST` [`super::Settle`] to the leader.
    pub const SETTLE: &str = "/v1/group/settle";
    /// `POST` [`super::HandOver`] to the leader.
    pub const HAND_OVER: &str = "/v1/group/hand-over";
    /// `POST` [`super::Scan`] to any member that has a log: [`super::Scanned`].
    pub const SCAN: &str = "/v1/group/scan";
    /// `POST` [`crate::settings::Settings`] to the leader, to be appended: [`super::Ordered`]. After an error they may
    /// be in the log nevertheless: scan before it is asked again.
    pub const SETTINGS: &str = "/v1/group/settings";
    /// `GET`, of the leader: [`crate::heartbeat::Told`] of each agent that it has heard of, as a list.
    pub const HEARTBEATS: &str = "/v1/heartbeats";
}

/// What a sidecar says of itself and, as far as it knows, of its group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// The sidecar's [`crate::PROTOCOL_LEVEL`].
    pub level: u32,
    /// Its id, whether it belongs to a group or not.
    pub id: MemberId,
    /// Its pod's name.
    pub pod: String,
    /// The genesis that it was given; none before it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genesis: Option<Genesis>,
    /// Its part.
    pub role: Role,
    /// Its term.
    pub term: u64,
    /// Who leads, as far as it knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<MemberId>,
    /// The last index in its log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    /// The last index that it knows to be committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed: Option<u64>,
    /// The membership in its log; none where the log has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub membership: Option<Membership>,
    /// What only the leader knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leads: Option<Leads>,
}

/// A sidecar's part in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// None: its log is empty, or it was removed.
    Outside,
    /// It gets the log and does not vote.
    Learner,
    /// It votes.
    Follower,
    /// It votes and asks to lead.
    Candidate,
    /// It votes and leads, or thinks so.
    Leader,
}

/// A place in the Raft log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogId {
    /// The term of the leader that appended it.
    pub term: u64,
    /// The index.
    pub index: u64,
}

/// Who belongs to a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Membership {
    /// Where it stands in the log.
    pub at: LogId,
    /// Whether the member that says so knows it to be committed.
    pub committed: bool,
    /// The voters. Two sets, of each of which a quorum is needed, while a change is under way; else one.
    pub voters: Vec<Vec<MemberId>>,
    /// All members, voters and learners.
    pub members: BTreeMap<MemberId, Place>,
}

/// Where a member is found, and what it shares a fate with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// The agent: its pod's name.
    pub pod: String,
    /// `host:port` of its peers' port.
    pub address: String,
    /// Members of one zone fail together: the Kubernetes node.
    pub zone: String,
}

/// What only the leader knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leads {
    /// How long ago a quorum last agreed that it leads, in milliseconds; none: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum_seen_ms: Option<u64>,
    /// The others.
    pub others: BTreeMap<MemberId, Other>,
}

/// How another member does, as the leader sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Other {
    /// The last index that it certainly has; none: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched: Option<u64>,
    /// How long ago it answered, in milliseconds; none: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_ms: Option<u64>,
}

/// Begin the group, as its only voter. Refused (409) by a member that is not `genesis.first`, was given another genesis, or
/// holds a log that did not begin so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Initialize {
    /// With this.
    pub genesis: Genesis,
    /// Where the member itself is found.
    pub place: Place,
}

/// Belong to this group, once its leader says so. Refused (409) by a member that was given another genesis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The group's.
    pub genesis: Genesis,
}

/// Add a learner, or say where a member is found now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learner {
    /// The membership that this is a change of.
    pub seen: LogId,
    /// Whom.
    pub id: MemberId,
    /// Where it is found.
    pub place: Place,
}

/// Make a learner a voter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Promote {
    /// The membership that this is a change of.
    pub seen: LogId,
    /// Whom.
    pub id: MemberId,
    /// The voter that it takes the place of, in the same change; that one is a learner afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead_of: Option<MemberId>,
}

/// Take a member out, or only its vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Remove {
    /// The membership that this is a change of.
    pub seen: LogId,
    /// Whom.
    pub id: MemberId,
    /// Whether it stays, as a learner.
    #[serde(default)]
    pub stays: bool,
}

/// Finish a change that a leader before has begun: of two sets of voters the newer one remains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settle {
    /// The membership with two sets.
    pub seen: LogId,
}

/// Let another voter lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOver {
    /// Whom.
    pub to: MemberId,
}

/// Look for the next settings entry among what is certainly ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// From here on; none: from the log's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Position>,
}

/// What a bounded look for the next settings entry gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Scanned {
    /// There is one.
    Settings {
        /// Where it stands.
        position: Position,
        /// What it says.
        settings: Box<Settings>,
    },
    /// There is one, of a form that the member does not know.
    Unreadable {
        /// Why, in words.
        why: String,
    },
    /// None up to the end.
    Nothing {
        /// Where the next entry will stand.
        next: Position,
    },
    /// None so far; to be asked again.
    Unfinished {
        /// From here.
        next: Position,
        /// As far as is known, to here.
        end: Position,
    },
}

/// An entry is ordered and durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ordered {
    /// There.
    pub position: Position,
}
