//! `status` of a `DecisionEngine`: what is known, and when it became so.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator knows of an engine.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DecisionEngineStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Reconciling` and `Stalled` as kstatus reads them, and Decree's own.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The log's topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<TopicStatus>,
    /// The log of the group that orders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<LogStatus>,
    /// What makes the order: `kafka` or `raft`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// The next position of the log, as agents last reported it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<i64>,
    /// The agents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agents: Option<AgentsStatus>,
    /// How far the slowest agent is behind, as `0.2s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<String>,
    /// Whether agents of one class agree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digests: Option<Digests>,
}

/// The log's topic, as it was found or made.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicStatus {
    /// Its name.
    pub name: String,
    /// Kafka's id of it: the log's incarnation.
    pub id: String,
    /// Whether this engine made it.
    pub created: bool,
    /// The settings entry that is in force at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<SettingsStatus>,
}

/// The log of a group.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogStatus {
    /// Its incarnation.
    pub incarnation: String,
    /// The settings entry that is in force at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<SettingsStatus>,
}

/// A settings entry of the log.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SettingsStatus {
    /// Where it stands.
    pub position: i64,
    /// A hash of what it says.
    pub hash: String,
}

/// The agents, counted.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AgentsStatus {
    /// Ready agents of all, as `3/3`.
    pub summary: String,
    /// Pods that carry the engine's label and are not ending.
    pub total: i32,
    /// Those that are ready.
    pub ready: i32,
    /// Those that stopped at a position until somebody mends it.
    pub halted: i32,
    /// Those not heard of for `suspectAfter` heartbeats, while others were.
    pub suspect: i32,
    /// The agent that is furthest behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slowest: Option<SlowestAgent>,
}

/// The agent that is furthest behind.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SlowestAgent {
    /// Its pod.
    pub pod: String,
    /// The last entry that it has dealt with.
    pub position: i64,
}

/// Whether agents of one class agree.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Digests {
    /// Wherever two agents of a class could be compared, they agree.
    Equal,
    /// Two agents of a class differ at one position.
    Diverged,
    /// Nothing could be compared yet.
    Unknown,
}
