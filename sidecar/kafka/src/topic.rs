//! A topic: what one is, and what a new one shall be.

use std::collections::BTreeMap;

/// A topic as the brokers know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// As Kafka's tools print it (base64). A topic that is deleted and made again has another.
    pub id: String,
    pub partitions: i32,
    /// Of partition 0.
    pub replication: i32,
    /// Whether partition 0 can be written and read now.
    pub has_leader: bool,
}

/// A topic to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    pub partitions: i32,
    pub replication: i32,
    pub config: BTreeMap<String, String>,
}

/// A value of a topic's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Absent for what the brokers keep secret.
    pub value: Option<String>,
    /// Not set on the topic: the brokers' default.
    pub is_default: bool,
}

/// librdkafka writes an id in the alphabet of base64, Kafka itself in the one that is safe in URLs: people copy ids
/// from one tool to another, so there is one way here.
pub(crate) fn as_kafka_prints(id: &str) -> String {
    id.replace('+', "-").replace('/', "_")
}
