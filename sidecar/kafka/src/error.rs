//! Why something with Kafka did not work, whether trying again can help, and one word for it.

use std::time::Duration;

use rdkafka::types::RDKafkaErrorCode as Code;

use crate::trouble::{Kind, Trouble};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{attempt}: no broker of {brokers} can be reached ({detail})")]
    Unreachable { attempt: String, brokers: String, detail: String },
    #[error("{attempt}: no answer from {brokers} within {limit:?}")]
    Timeout { attempt: String, brokers: String, limit: Duration },
    #[error("{attempt}: {brokers} do not take these credentials ({detail})")]
    Unauthenticated { attempt: String, brokers: String, detail: String },
    #[error("{attempt}: the certificates of {brokers} are not trusted ({detail})")]
    Untrusted { attempt: String, brokers: String, detail: String },
    #[error("{attempt}: {brokers} refuse it, because their access control lists don't allow {needs}")]
    Unauthorized { attempt: String, brokers: String, needs: String },
    #[error("{attempt}: the certificates or the key that are given can't be used ({detail})")]
    Unusable { attempt: String, detail: String },
    #[error("topic {topic} does not exist on {brokers}")]
    TopicMissing { topic: String, brokers: String },
    #[error("topic {topic} exists already on {brokers}")]
    TopicExists { topic: String, brokers: String },
    #[error("topic {topic} was deleted and made again: its id was {expected} and is {found}")]
    TopicReplaced { topic: String, expected: String, found: String },
    #[error("offset {asked} of topic {topic} is not there: it holds {low} to {high}")]
    OutOfRange { topic: String, asked: i64, low: i64, high: i64 },
    #[error("topic {topic} lost records before offset {asked} that had been read ({detail})")]
    Truncated { topic: String, asked: i64, detail: String },
    #[error("append to topic {topic}: the producer's queue is full")]
    QueueFull { topic: String },
    #[error("append to topic {topic}: a record of {bytes} bytes is larger than the brokers take")]
    TooLarge { topic: String, bytes: usize },
    #[error("append to topic {topic}: not delivered ({detail})")]
    NotDelivered { topic: String, detail: String },
    #[error("append to topic {topic}: nobody can say whether it was persisted ({detail})")]
    DeliveryUnknown { topic: String, detail: String },
    #[error("delete group {group}: it has members")]
    GroupInUse { group: String },
    #[error("{attempt}: {detail}")]
    Invalid { attempt: String, detail: String },
    #[error("{attempt}: {detail}")]
    Failed { attempt: String, detail: String },
}

impl Error {
    /// Whether the same call can succeed later with nobody changing what is asked.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::QueueFull { .. }
            | Self::NotDelivered { .. }
            | Self::DeliveryUnknown { .. }
            | Self::TopicMissing { .. }
            | Self::Unauthenticated { .. }
            | Self::Untrusted { .. }
            | Self::Unauthorized { .. }
            | Self::GroupInUse { .. }
            | Self::Failed { .. } => true,
            Self::TopicExists { .. }
            | Self::TopicReplaced { .. }
            | Self::OutOfRange { .. }
            | Self::Truncated { .. }
            | Self::TooLarge { .. }
            | Self::Unusable { .. }
            | Self::Invalid { .. } => false,
        }
    }

    /// One word for conditions, events and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "KafkaUnreachable",
            Self::Timeout { .. } => "KafkaTimeout",
            Self::Unauthenticated { .. } => "KafkaUnauthenticated",
            Self::Untrusted { .. } => "UntrustedCertificate",
            Self::Unauthorized { .. } => "KafkaUnauthorized",
            Self::Unusable { .. } => "CredentialsUnusable",
            Self::TopicMissing { .. } => "TopicMissing",
            Self::TopicExists { .. } => "TopicConflict",
            Self::TopicReplaced { .. } => "LogReplaced",
            Self::OutOfRange { .. } => "OffsetOutOfRange",
            Self::Truncated { .. } => "LogTruncated",
            Self::QueueFull { .. } => "QueueFull",
            Self::TooLarge { .. } => "TooLarge",
            Self::NotDelivered { .. } => "NotDelivered",
            Self::DeliveryUnknown { .. } => "DeliveryUnknown",
            Self::GroupInUse { .. } => "GroupInUse",
            Self::Invalid { .. } => "Invalid",
            Self::Failed { .. } => "KafkaError",
        }
    }
}

/// What was being done when librdkafka answered with a code.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) what: String,
    pub(crate) brokers: String,
    pub(crate) topic: String,
    pub(crate) limit: Duration,
    /// Which right it takes, as Kafka's access control lists name operations and resources.
    pub(crate) needs: String,
}

impl Attempt {
    /// The same, which takes this right: an operation, and the resource it is for.
    pub(crate) fn needs(self, operation: &str, resource: &str) -> Self {
        Self { needs: format!("{operation} on {resource}"), ..self }
    }

    /// What is behind a request that merely timed out, if that is known.
    pub(crate) fn behind(&self, trouble: &Trouble) -> Error {
        let (attempt, brokers, detail) = (self.what.clone(), self.brokers.clone(), trouble.detail.clone());
        match trouble.kind {
            Kind::Away => Error::Unreachable { attempt, brokers, detail },
            Kind::Unauthenticated => Error::Unauthenticated { attempt, brokers, detail },
            Kind::Untrusted => Error::Untrusted { attempt, brokers, detail },
        }
    }

    pub(crate) fn error(&self, code: Code, detail: impl Into<String>) -> Error {
        let (attempt, brokers, topic) = (self.what.clone(), self.brokers.clone(), self.topic.clone());
        let detail = detail.into();
        match code {
            Code::AllBrokersDown
            | Code::BrokerTransportFailure
            | Code::Resolve
            | Code::BrokerNotAvailable => Error::Unreachable { attempt, brokers, detail },
            Code::OperationTimedOut | Code::RequestTimedOut | Code::TimedOutQueue => {
                Error::Timeout { attempt, brokers, limit: self.limit }
            }
            Code::Authentication
            | Code::SSL
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::IllegalSASLState => self.behind(&Trouble::of(code, detail)),
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed => {
                Error::Unauthorized { attempt, brokers, needs: self.needs.clone() }
            }
            Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicOrPartition
            | Code::UnknownTopicId => Error::TopicMissing { topic, brokers },
            Code::TopicAlreadyExists => Error::TopicExists { topic, brokers },
            Code::InvalidArgument
            | Code::InvalidConfig
            | Code::InvalidTopic
            | Code::InvalidPartitions
            | Code::InvalidReplicationFactor
            | Code::InvalidRequest
            | Code::InvalidGroupId
            | Code::PolicyViolation
            | Code::TopicDeletionDisabled
            | Code::UnsupportedVersion
            | Code::UnsupportedFeature => Error::Invalid { attempt, detail },
            _ => Error::Failed { attempt, detail },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt() -> Attempt {
        Attempt {
            what: "describe topic t".into(),
            brokers: "b:9092".into(),
            topic: "t".into(),
            limit: Duration::from_secs(5),
            needs: "DESCRIBE on topic t".into(),
        }
    }

    #[test]
    fn codes_become_reasons() {
        for (code, reason, retryable) in [
            (Code::AllBrokersDown, "KafkaUnreachable", true),
            (Code::OperationTimedOut, "KafkaTimeout", true),
            (Code::SaslAuthenticationFailed, "KafkaUnauthenticated", true),
            (Code::TopicAuthorizationFailed, "KafkaUnauthorized", true),
            (Code::UnknownTopicOrPartition, "TopicMissing", true),
            (Code::TopicAlreadyExists, "TopicConflict", false),
            (Code::InvalidReplicationFactor, "Invalid", false),
            (Code::NotController, "KafkaError", true),
        ] {
            let error = attempt().error(code, "why");
            assert_eq!((error.reason(), error.retryable()), (reason, retryable), "{code:?}");
        }
    }

    #[test]
    fn a_message_names_what_was_attempted_and_with_whom() {
        assert_eq!(
            attempt().error(Code::Resolve, "no such host").to_string(),
            "describe topic t: no broker of b:9092 can be reached (no such host)"
        );
        assert_eq!(
            attempt().error(Code::TopicAuthorizationFailed, "").to_string(),
            "describe topic t: b:9092 refuse it, because their access control lists don't allow DESCRIBE on topic t"
        );
    }
}
