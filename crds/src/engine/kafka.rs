//! `spec.kafka`: the cluster that makes the order, and the log's topic.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// The Kafka cluster that makes the order, and the log's topic there.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kafka {
    /// `host:port` of one or more brokers, as pods and the operator reach them.
    #[schemars(length(min = 1, max = 16), inner(length(max = 262)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(s, s.matches('^([[][0-9a-fA-F:.]+[]]|[A-Za-z0-9._-]+):[0-9]{1,5}$'))")
            .message("each of bootstrapServers must be host:port without a scheme, as kafka-0.kafka:9092")
    )]
    pub bootstrap_servers: Vec<String>,
    /// Copies of each topic. The number of partitions is always 1. Changing it is reported as drift, not carried out.
    #[serde(default = "default_replication_factor")]
    #[schemars(range(min = 1, max = 32))]
    pub replication_factor: i32,
    /// The log's topic.
    #[serde(default)]
    pub topic: Topic,
}

fn default_replication_factor() -> i32 {
    3
}

/// The log's topic.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.name) ? self.name : '') == (has(oldSelf.name) ? oldSelf.name : '')")
        .message("kafka.topic.name can't change, because the log is what the agents' state comes from; make a new DecisionEngine with that topic")
)]
pub struct Topic {
    /// The topic's name. Default: `decree.NAMESPACE.NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 237), pattern(r"^[a-zA-Z0-9._-]+$"))]
    pub name: Option<String>,
    /// Further settings of the topic, as Kafka names them. Those that the order depends on are Decree's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("!('cleanup.policy' in self) && !('retention.ms' in self) && !('retention.bytes' in self) && !('unclean.leader.election.enable' in self) && !('message.timestamp.type' in self)")
        .message("cleanup.policy, retention.ms, retention.bytes, unclean.leader.election.enable and message.timestamp.type of the log are kept by Decree, since another value could lose or reorder entries; remove them from topic.config"))]
    pub config: BTreeMap<String, String>,
}
