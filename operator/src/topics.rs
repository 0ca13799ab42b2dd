//! The port to a Kafka cluster's topics: what is there, making one, keeping its configuration, its settings entry.

pub mod kafka;
pub mod memory;
pub mod suite;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use decree_kafka::Connection;
use decree_wire::settings::Settings;

/// Where clusters are found; one a process.
pub trait Clusters: Send + Sync + fmt::Debug {
    /// The cluster that is reached so. MUST answer at once, with brokers away too; callers with the same connection
    /// SHOULD share it.
    ///
    /// # Errors
    /// If nothing can be reached so.
    fn at(&self, connection: &Connection) -> Result<Arc<dyn Topics>, Error>;
}

/// The topics of one cluster.
///
/// Every call MUST end within about ten seconds and MUST NOT block its thread.
#[async_trait]
pub trait Topics: Send + Sync + fmt::Debug {
    /// How many brokers there are.
    async fn brokers(&self) -> Result<usize, Error>;

    /// The topic of that name; `None` only if the cluster says that there is none.
    async fn topic(&self, name: &str) -> Result<Option<Topic>, Error>;

    /// Makes a topic with exactly one partition, and answers when it can be written and read. MUST fail with
    /// [`Error::Exists`] where there is one, and MUST NOT touch that.
    async fn create(&self, name: &str, topic: &NewTopic) -> Result<Topic, Error>;

    /// Sets these entries of the topic's configuration. MUST leave all others as they are.
    async fn set_config(&self, name: &str, entries: &BTreeMap<String, String>) -> Result<(), Error>;

    /// The first position that the topic still has: 0 while nothing was dropped.
    async fn start(&self, name: &str) -> Result<u64, Error>;

    /// Deletes the topic. MUST fail with [`Error::Replaced`] where it is of another incarnation, and leave that; one that
    /// is gone is no error. `id` none: whatever incarnation it is of.
    async fn delete(&self, name: &str, id: Option<&str>) -> Result<(), Error>;

    /// Looks for the first settings entry, from `from` on (none: from the start). MUST read this incarnation and no
    /// other, and MUST answer [`Scan::Unfinished`] rather than read on without bounds.
    async fn scan(&self, name: &str, id: &str, from: Option<u64>) -> Result<Scan, Error>;

    /// Appends a settings entry, and answers when it is ordered and durable. After an error it may be in the log
    /// nevertheless: scan before appending again.
    async fn append_settings(&self, name: &str, settings: &Settings) -> Result<(), Error>;

    /// The consumer groups whose names begin so. SHOULD ask the brokers at most every few minutes, whoever asks.
    async fn groups(&self, prefix: &str) -> Result<Vec<String>, Error>;

    /// Deletes consumer groups. MUST leave those that have members, and MUST NOT fail for them nor for those that are
    /// gone.
    async fn delete_groups(&self, groups: &[String]) -> Result<(), Error>;
}

/// A topic as the cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its incarnation.
    pub id: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// Copies of partition 0.
    pub replication: i32,
    /// What is in force, the brokers' defaults included.
    pub config: BTreeMap<String, String>,
}

/// A topic to be made, with one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Copies.
    pub replication: i32,
    /// What is set on it.
    pub config: BTreeMap<String, String>,
}

/// What a look for the first settings entry gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scan {
    /// The first.
    Settings {
        /// Where it stands.
        position: u64,
        /// What it says.
        settings: Box<Settings>,
    },
    /// The first is of a form that this build does not know, and why.
    Unreadable(String),
    /// None up to the end.
    None {
        /// Where the next entry will stand: 0, and nothing was ever written.
        next: u64,
    },
    /// None so far; go on later.
    Unfinished {
        /// From here.
        next: u64,
        /// As far as is known, to here.
        end: u64,
    },
}

/// Why a cluster did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No broker answers.
    #[error("{0}")]
    Unreachable(String),
    /// The brokers don't take our name and password, or our certificate.
    #[error("{0}")]
    Unauthenticated(String),
    /// We don't take theirs.
    #[error("{0}")]
    Untrusted(String),
    /// The brokers know us and don't allow it.
    #[error("{0}")]
    Unauthorized(String),
    /// The Secrets that the spec names don't give what it takes.
    #[error("{message}")]
    NoCredentials {
        /// One word.
        reason: &'static str,
        /// What is missing.
        message: String,
    },
    /// No certificate or key that we are given to show.
    #[error("{0}")]
    Unusable(String),
    /// There is a topic of that name.
    #[error("topic {0} exists already")]
    Exists(String),
    /// There is none.
    #[error("topic {0} does not exist")]
    Missing(String),
    /// It was deleted and made again.
    #[error("topic {0} was deleted and made again")]
    Replaced(String),
    /// A consumer group has members.
    #[error("consumer group {0} has members")]
    InUse(String),
    /// The cluster will never do this.
    #[error("{0}")]
    Invalid(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// Whether the same call can succeed later with nobody changing what is asked.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Unreachable(_)
            | Self::Unauthenticated(_)
            | Self::Untrusted(_)
            | Self::Unauthorized(_)
            | Self::Exists(_)
            | Self::Missing(_)
            | Self::Replaced(_)
            | Self::InUse(_)
            | Self::Failed(_) => true,
            Self::NoCredentials { .. } | Self::Unusable(_) | Self::Invalid(_) => false,
        }
    }

    /// Whether other credentials would have helped.
    #[must_use]
    pub fn refuses(&self) -> bool {
        matches!(
            self,
            Self::Unauthenticated(_) | Self::Untrusted(_) | Self::NoCredentials { .. } | Self::Unusable(_)
        )
    }

    /// One word for conditions, Events and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "KafkaUnreachable",
            Self::Unauthenticated(_) => "KafkaUnauthenticated",
            Self::Untrusted(_) => "UntrustedCertificate",
            Self::Unauthorized(_) => "KafkaUnauthorized",
            Self::NoCredentials { reason, .. } => reason,
            Self::Unusable(_) => "CredentialsUnusable",
            Self::Exists(_) | Self::Missing(_) | Self::Replaced(_) => "TopicChanging",
            Self::InUse(_) => "GroupInUse",
            Self::Invalid(_) => "KafkaRefuses",
            Self::Failed(_) => "KafkaError",
        }
    }
}
