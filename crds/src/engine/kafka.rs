//! `spec.kafka`: the cluster that makes the order, and the log's topic.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The Kafka cluster that makes the order, and the log's topic there.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.sasl) || self.sasl.mechanism != 'PLAIN' || has(self.tls)")
        .message("kafka.sasl.mechanism PLAIN sends the password itself and needs kafka.tls; set kafka.tls, or use SCRAM-SHA-512"),
    validation = Rule::new("!has(self.admin) || !has(self.admin.sasl) || self.admin.sasl.mechanism != 'PLAIN' || has(self.admin.tls)")
        .message("kafka.admin.sasl.mechanism PLAIN sends the password itself and needs kafka.admin.tls; set it, or use SCRAM-SHA-512"),
    validation = Rule::new("!(has(self.topic) && has(self.topic.adopt) && self.topic.adopt && has(self.deletionPolicy) && self.deletionPolicy == 'Delete')")
        .message("kafka.deletionPolicy Delete does not go with topic.adopt: a topic that Decree did not make is never deleted; use Retain")
)]
pub struct Kafka {
    /// `host:port` of one or more brokers, as pods and the operator reach them.
    #[schemars(length(min = 1, max = 16), inner(length(max = 262)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(s, s.matches('^([[][0-9a-fA-F:.]+[]]|[A-Za-z0-9._-]+):[0-9]{1,5}$'))")
            .message("each of bootstrapServers must be host:port without a scheme, as kafka-0.kafka:9092")
    )]
    pub bootstrap_servers: Vec<String>,
    /// Encryption, and how brokers are known. Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// As whom the agents speak to the brokers. Absent: as nobody, or as whom the client certificate names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sasl: Option<Sasl>,
    /// As whom the operator speaks to the brokers: it makes topics and keeps their settings, and never puts these
    /// credentials in a pod. Absent: as the agents, with a warning, since every pod then could delete the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<Admin>,
    /// Copies of each topic. The number of partitions is always 1. Changing it is reported as drift, not carried out.
    #[serde(default = "default_replication_factor")]
    #[schemars(range(min = 1, max = 32))]
    pub replication_factor: i32,
    /// The log's topic.
    #[serde(default)]
    pub topic: Topic,
    /// What becomes of the topics when the engine is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// What becomes of the topics when the engine is deleted.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeletionPolicy {
    /// They stay; an engine of the same name goes on with them.
    #[default]
    Retain,
    /// A log that this engine made is deleted, with its heartbeats and consumer groups. It is tried for two minutes.
    Delete,
}

fn default_replication_factor() -> i32 {
    3
}

/// Encryption, and how brokers are known. Their names are always compared with their certificates.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// The authorities that vouch for the brokers, as PEM in a key of a Secret. Absent: those of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret: Option<SecretKey>,
    /// A Secret of type `kubernetes.io/tls` (keys `tls.crt` and `tls.key`): the certificate that is shown to the brokers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<SecretName>,
}

/// A name and its password.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sasl {
    /// How it is shown that the password is known; PLAIN only with TLS.
    pub mechanism: Mechanism,
    /// A Secret with the keys `username` and `password`.
    pub secret: SecretName,
}

/// How it is shown that a password is known.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mechanism {
    /// By sending it.
    #[serde(rename = "PLAIN")]
    Plain,
    /// By a challenge.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// By a longer one.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

/// The operator's own way to the brokers.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admin {
    /// As `kafka.tls`, which is not inherited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// As `kafka.sasl`, which is not inherited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sasl: Option<Sasl>,
}

/// A Secret in the engine's namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretName {
    /// Its name.
    #[schemars(length(min = 1, max = 253), pattern(r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// A key of a Secret in the engine's namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretKey {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253), pattern(r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// The key.
    #[serde(default = "default_ca_key")]
    #[schemars(length(min = 1, max = 253), pattern(r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

fn default_ca_key() -> String {
    "ca.crt".into()
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
    /// Take a topic that exists and is no engine's: one partition, and what stands in it are commands. Its settings become
    /// those of a log.
    #[serde(default)]
    pub adopt: bool,
    /// Further settings of the topic, as Kafka names them. Those that the order depends on are Decree's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("!('cleanup.policy' in self) && !('retention.ms' in self) && !('retention.bytes' in self) && !('unclean.leader.election.enable' in self) && !('message.timestamp.type' in self)")
        .message("cleanup.policy, retention.ms, retention.bytes, unclean.leader.election.enable and message.timestamp.type of the log are kept by Decree, since another value could lose or reorder entries; remove them from topic.config"))]
    pub config: BTreeMap<String, String>,
}
