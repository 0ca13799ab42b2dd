//! `DecisionEngine`: one totally ordered log of commands and the agents that apply it.

pub mod agents;
pub mod consensus_group;
pub mod failure_detection;
pub mod kafka;
pub mod sidecar;
pub mod status;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use agents::Agent;
use consensus_group::ConsensusGroupRef;
use failure_detection::FailureDetection;
use kafka::Kafka;
use sidecar::Sidecar;
use status::DecisionEngineStatus;

/// One totally ordered log of commands, and the agents (pods labelled `decree.dev/engine`) that apply it in that order.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "decree.dev",
    version = "v1alpha1",
    kind = "DecisionEngine",
    plural = "decisionengines",
    shortname = "deng",
    category = "decree",
    namespaced,
    status = "DecisionEngineStatus",
    derive = "PartialEq",
    doc = "One totally ordered log of commands, and the agents (pods labelled `decree.dev/engine`) that apply it in that order.",
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 40")
        .message("metadata.name must be a DNS label of at most 40 characters: it becomes part of the names of a Secret, topics and pods' labels; choose a shorter name without dots"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Order", type_ = "string", json_path = ".status.order"),
    printcolumn(name = "Agents", type_ = "string", json_path = ".status.agents.summary", description = "Agents that are ready, of all"),
    printcolumn(name = "Head", type_ = "integer", json_path = ".status.head", description = "The next position"),
    printcolumn(name = "Lag", type_ = "string", json_path = ".status.lag", description = "Of the slowest agent"),
    printcolumn(name = "Digests", type_ = "string", json_path = ".status.digests"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.kafka) || has(self.consensusGroup)")
        .message("one of kafka and consensusGroup is needed, since something has to make the order; set consensusGroup.name to the name of a ConsensusGroup, or kafka.bootstrapServers"),
    validation = Rule::new("!has(self.kafka) || !has(self.consensusGroup)")
        .message("kafka beside consensusGroup is not supported yet; remove kafka if the group is to order, or consensusGroup if Kafka is"),
    validation = Rule::new("(has(self.consensusGroup) ? self.consensusGroup.name : '') == (has(oldSelf.consensusGroup) ? oldSelf.consensusGroup.name : '')")
        .message("the order can't change (consensusGroup added, removed or another one), because the log is what the agents' state comes from; make a new DecisionEngine with that order"),
    validation = Rule::new("self.agents.all(a, oldSelf.agents.exists(b, b.class == a.class)) && oldSelf.agents.all(b, self.agents.exists(a, a.class == b.class))")
        .message("the class names of agents can't change, because what each class applied is bound to this log; make a new DecisionEngine with the classes that you want"),
    validation = Rule::new("self.agents.all(a, !has(a.replicate) || !has(a.replicate.service) || self.agents.filter(b, has(b.replicate) && has(b.replicate.service) && b.replicate.service.name == a.replicate.service.name).size() == 1)")
        .message("two classes name the same replicate.service; give each class a Service name of its own")
)]
pub struct DecisionEngineSpec {
    /// The Kafka cluster that makes the order, and the log's topic there. Needed unless `consensusGroup` orders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka: Option<Kafka>,
    /// The group among the agents' sidecars that makes the order, in the place of Kafka.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consensus_group: Option<ConsensusGroupRef>,
    /// The agent classes: agents of one class run the same application. One class is enough for most.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["class".into()]))]
    pub agents: Vec<Agent>,
    /// How quickly an agent that falls silent is noticed.
    #[serde(default)]
    pub failure_detection: FailureDetection,
    /// The injected container. Takes effect at a pod's next start.
    #[serde(default)]
    pub sidecar: Sidecar,
}
