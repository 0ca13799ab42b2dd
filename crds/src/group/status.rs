//! `status` of a `ConsensusGroup`: its genesis, which is remembered here before anything begins, and its members.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator knows of a group.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsensusGroupStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Reconciling` and `Stalled` as kstatus reads them, `Quorum`, and Decree's own.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The engine that this group orders for. No other one may name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineStatus>,
    /// How the group began, or is about to begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub genesis: Option<GenesisStatus>,
    /// The leader's pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// The leader's term.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub term: Option<i64>,
    /// The last position that is certain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub committed: Option<i64>,
    /// Voters that are well, of those wanted, as `3/3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voters: Option<String>,
    /// The members.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".into()]))]
    pub members: Vec<MemberStatus>,
}

/// The engine that a group orders for.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EngineStatus {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// How a group began. Written once, before its first member begins; never changed silently.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GenesisStatus {
    /// The log's incarnation.
    pub incarnation: String,
    /// The position before the first.
    pub base: i64,
    /// The id of the member that begins.
    pub first: String,
    /// When a proposer is answered.
    pub durability: DurabilityStatus,
    /// How often that member was asked to begin. Counted before it is asked: while this is 0, nothing was ever ordered.
    pub asked: i64,
}

/// When a proposer is answered.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DurabilityStatus {
    /// When a quorum of the voters has it on disk.
    #[default]
    Quorum,
}

/// A member.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MemberStatus {
    /// Its id, which belongs to its disk.
    pub id: String,
    /// Its pod.
    pub pod: String,
    /// Its part.
    pub role: Role,
    /// The last position that it certainly has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matched: Option<i64>,
    /// When the leader last heard of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Time>,
}

/// A member's part.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// It has the log and does not vote.
    #[default]
    Learner,
    /// It votes.
    Voter,
}
