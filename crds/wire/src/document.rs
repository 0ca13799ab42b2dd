//! The sidecar's document: what the operator tells the agents of an engine, through one Secret.

use serde::{Deserialize, Serialize};

use crate::position::EngineName;
use crate::settings::Settings;

pub mod group;

use group::{Group, IdentityFiles};

/// The key of the document in the engine's Secret, and its file name in the pod.
pub const FILE: &str = "document.json";

/// Everything that a sidecar is told, but what belongs to its pod (see [`crate::pod`]).
///
/// What decides what a replica *does* is not here but in the log's [`Settings`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// The [`crate::PROTOCOL_LEVEL`] that it was written for.
    pub level: u32,
    /// Whose it is.
    pub engine: EngineName,
    /// The uid of the cluster's `kube-system` namespace, as in [`Settings::cluster`].
    pub cluster: String,
    /// The engine's topics; none where a group orders and nothing is mirrored.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kafka: Option<Kafka>,
    /// The Raft group among the agents, where that orders.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub group: Option<Group>,
    /// The agent classes.
    pub classes: Vec<Class>,
    /// How often a heartbeat is published, in milliseconds.
    pub heartbeat_ms: u64,
}

/// What makes the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order<'a> {
    /// The broker of one partition.
    Kafka(&'a Kafka),
    /// A quorum of the agents.
    Group(&'a Group),
}

impl Order<'_> {
    /// One word, as the engine's status has it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kafka(_) => "kafka",
            Self::Group(_) => "raft",
        }
    }
}

/// The engine's topics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kafka {
    /// `host:port`, at least one.
    pub bootstrap_servers: Vec<String>,
    /// The log.
    pub topic: String,
    /// The log's incarnation; none until the operator has seen the topic. A sidecar waits for it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub topic_id: Option<String>,
    /// Where heartbeats go.
    pub heartbeats: String,
    /// How brokers are known, and we to them; none where the listener has no TLS.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tls: Option<Tls>,
    /// A name and its password; none where the listener wants none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sasl: Option<Sasl>,
}

/// Names of files beside the document: what is secret is not in it, so that it can be shown.
pub mod file {
    /// The authorities that vouch for the brokers.
    pub const CA: &str = "kafka-ca.crt";
    /// The agents' certificate.
    pub const CLIENT_CERTIFICATE: &str = "kafka-client.crt";
    /// Its key.
    pub const CLIENT_KEY: &str = "kafka-client.key";
    /// The agents' name.
    pub const USERNAME: &str = "kafka-username";
    /// Its password.
    pub const PASSWORD: &str = "kafka-password";
    /// The authorities that vouch for who issues certificates.
    pub const ISSUER: &str = "issuer-ca.crt";

    /// The headers that a class' deliveries get: a JSON object.
    #[must_use]
    pub fn deliver_headers(class: &str) -> String {
        format!("deliver-headers-{class}.json")
    }
}

/// Files with certificates, as PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// The authorities that vouch for the brokers; none: those of the system.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ca: Option<String>,
    /// The agents' own, for mutual TLS.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub client: Option<ClientCertificate>,
}

/// Files with a certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientCertificate {
    /// With those between it and its authority.
    pub certificate: String,
    /// Not encrypted.
    pub key: String,
}

/// Files with a name and its password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sasl {
    /// How it is shown that the password is known.
    pub mechanism: Mechanism,
    /// The name.
    pub username: String,
    /// The password.
    pub password: String,
}

/// How it is shown that a password is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mechanism {
    /// By sending it: over TLS only.
    #[serde(rename = "PLAIN")]
    Plain,
    /// A challenge.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// A longer one.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

/// What the agents of one class need to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Class {
    /// `agents[].class`.
    pub name: String,
    /// The application's port, on localhost.
    pub port: u16,
    /// The path that answers 2xx or 3xx when the application is well; none: the port accepts a connection.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub health_path: Option<String>,
    /// No answer to a delivery for so long, in milliseconds, and the agent is reported overdue.
    pub overdue_after_ms: u64,
    /// How commands reach the application.
    pub mode: Mode,
    /// The file with the headers that each delivery gets; none: no further ones.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub deliver_headers: Option<String>,
}

/// How commands reach the application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// Requests that match become commands and are replayed as they were.
    Replicate {
        /// Which requests; the first that matches decides.
        rules: Vec<Rule>,
        /// How reads are answered, if the client does not say.
        reads: Reads,
    },
    /// Each command is POSTed to this path.
    Apply {
        /// Begins with `/`.
        path: String,
    },
}

/// Requests that become commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Upper case.
    pub methods: Vec<String>,
    /// The request's path begins with it, at a segment's border.
    pub path_prefix: String,
}

/// How reads through HTTP replication are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reads {
    /// From the local application, as it is.
    #[default]
    Local,
    /// After a barrier: linearizable.
    Barrier,
}

/// Why a document is not taken. The sidecar keeps the last good one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No JSON, or a field is missing.
    #[error("the document can't be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// Every fault that was found.
    #[error("the document is not usable: {}", .0.join("; "))]
    Invalid(Vec<String>),
}

impl Document {
    /// Reads and checks a document; all faults are reported together.
    ///
    /// # Errors
    /// If it is no document, or one that a sidecar of this build can't follow.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        let document: Self = serde_json::from_slice(bytes)?;
        let faults = document.faults();
        if faults.is_empty() { Ok(document) } else { Err(Error::Invalid(faults)) }
    }

    /// The class of that name; with no name, the only class.
    #[must_use]
    pub fn class(&self, name: Option<&str>) -> Option<&Class> {
        match (name, self.classes.as_slice()) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(name), classes) => classes.iter().find(|c| c.name == name),
        }
    }

    /// What makes the order; none in a document that [`Document::read`] refuses.
    #[must_use]
    pub fn order(&self) -> Option<Order<'_>> {
        let group = self.group.as_ref().map(Order::Group);
        group.or_else(|| self.kafka.as_ref().map(Order::Kafka))
    }

    /// Every file beside the document that it names.
    pub fn files(&self) -> impl Iterator<Item = &String> {
        let tls = || self.kafka.iter().filter_map(|kafka| kafka.tls.as_ref());
        let client = tls().filter_map(|tls| tls.client.as_ref());
        let sasl = self.kafka.iter().filter_map(|kafka| kafka.sasl.as_ref());
        let sasl = sasl.flat_map(|sasl| [&sasl.username, &sasl.password]);
        let tls = tls().filter_map(|tls| tls.ca.as_ref());
        let identity = self.group.iter().filter_map(|group| group.identity.as_ref());
        let identity = identity.flat_map(|files| {
            let IdentityFiles { authorities, certificate, key } = files;
            [authorities, certificate, key]
        });
        let issuer = self.group.iter().filter_map(|group| Some(&group.issuer.as_ref()?.authorities));
        let headers = self.classes.iter().filter_map(|class| class.deliver_headers.as_ref());
        let client = client.flat_map(|client| [&client.certificate, &client.key]);
        tls.chain(client).chain(sasl).chain(identity).chain(issuer).chain(headers)
    }

    /// Whether `settings`, found in a log, are of this engine on this cluster.
    #[must_use]
    pub fn owns(&self, settings: &Settings) -> bool {
        settings.engine == self.engine && settings.cluster == self.cluster
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |ok: bool, fault: &str| {
            if !ok {
                faults.push(fault.to_owned());
            }
        };
        check(
            self.level <= crate::PROTOCOL_LEVEL,
            "it is of a later protocol level; restart the pod so that it gets the newer sidecar",
        );
        check(self.order().is_some(), "nothing orders: there is neither kafka nor group");
        check(
            self.kafka.is_none() || self.group.is_none(),
            "both kafka and group would order; one of them is too much",
        );
        if let Some(kafka) = &self.kafka {
            check(!kafka.bootstrap_servers.is_empty(), "kafka.bootstrapServers is empty");
            check(!kafka.topic.is_empty(), "kafka.topic is empty");
        }
        check(!self.classes.is_empty(), "classes is empty");
        check(self.heartbeat_ms > 0, "heartbeatMs is 0");
        check(self.classes.iter().all(|c| c.port != 0), "a class has port 0");
        check(self.files().all(|file| !file.contains('/')), "a file that it names is not beside it");
        faults.extend(self.group.iter().flat_map(Group::faults));
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_faults_are_reported_together() {
        let text = r#"{"level":99,"engine":{"namespace":"a","name":"b"},"cluster":"c",
            "kafka":{"bootstrapServers":[],"topic":"t","heartbeats":"h"},"classes":[],"heartbeatMs":0}"#;
        let message = Document::read(text.as_bytes()).unwrap_err().to_string();
        for part in ["later protocol level", "bootstrapServers", "classes", "heartbeatMs"] {
            assert!(message.contains(part), "{message}");
        }
    }
}
