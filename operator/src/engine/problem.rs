//! Why an engine is not ready, and what a person should know though it is.

use crate::topics;

/// Something that keeps an engine from being provisioned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// One CamelCase word: the condition's type, the reason of `Ready`, the Event, the metric.
    pub reason: &'static str,
    /// What is wrong and what to do. Stable from try to try, or each would be a write.
    pub message: String,
    /// What it takes.
    pub cure: Cure,
}

/// What a problem waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cure {
    /// A person: `Stalled`. It is looked at again all the same, and heals when it is mended.
    Person,
    /// Time, or something that comes back: `Reconciling`.
    Time,
}

/// Something about a provisioned engine: a condition that is present while it is true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// The condition's type.
    pub reason: &'static str,
    /// What it is and what to do.
    pub message: String,
}

impl Problem {
    /// One that a person has to mend.
    #[must_use]
    pub fn person(reason: &'static str, message: String) -> Self {
        Self { reason, message, cure: Cure::Person }
    }

    /// One that can go away by itself.
    #[must_use]
    pub fn time(reason: &'static str, message: String) -> Self {
        Self { reason, message, cure: Cure::Time }
    }

    /// A question to Kafka that got no good answer.
    #[must_use]
    pub fn kafka(error: &topics::Error, servers: &[String]) -> Self {
        let message = match error {
            topics::Error::Unreachable(_) => {
                let servers = servers.join(", ");
                format!(
                    "no broker of spec.kafka.bootstrapServers ({servers}) can be reached from the operator; see that \
                     they run, that the names are right and that no NetworkPolicy is in the way"
                )
            }
            topics::Error::Unauthenticated(why) => {
                format!("{why}; correct the Secrets that spec.kafka names, or what the brokers know of them")
            }
            topics::Error::Untrusted(why) => {
                format!("{why}; name the authority that signed them in spec.kafka.tls.caSecret")
            }
            topics::Error::Unauthorized(why) => {
                format!("{why}; allow it to the operator's principal, see the README's table of rights")
            }
            error => error.to_string(),
        };
        let cure = if error.retryable() { Cure::Time } else { Cure::Person };
        Self { reason: error.reason(), message, cure }
    }
}
