//! The sidecar's document: what the operator tells the agents of an engine, through one Secret.

use serde::{Deserialize, Serialize};

use crate::position::EngineName;
use crate::settings::Settings;

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
    /// Where the order is made.
    pub kafka: Kafka,
    /// The agent classes.
    pub classes: Vec<Class>,
    /// How often a heartbeat is published, in milliseconds.
    pub heartbeat_ms: u64,
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
        check(!self.kafka.bootstrap_servers.is_empty(), "kafka.bootstrapServers is empty");
        check(!self.kafka.topic.is_empty(), "kafka.topic is empty");
        check(!self.classes.is_empty(), "classes is empty");
        check(self.heartbeat_ms > 0, "heartbeatMs is 0");
        check(self.classes.iter().all(|c| c.port != 0), "a class has port 0");
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
