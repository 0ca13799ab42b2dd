//! What this agent is refused, or waits for, at present: each way by itself, until that way is open again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use decree_wire::heartbeat::Trouble;

/// What was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// The connection itself.
    Connect,
    /// Proposals.
    Append,
    /// Saying to Kafka's tools how far this agent is.
    Commit,
    /// Saying to the operator how this agent is.
    Heartbeat,
    /// A certificate for peers that can't be used.
    Identity,
    /// A group that is not whole.
    Group,
}

impl Way {
    fn reason(self) -> &'static str {
        match self {
            Self::Connect | Self::Append | Self::Commit | Self::Heartbeat => "KafkaRefuses",
            Self::Identity => "IdentityUnusable",
            Self::Group => "WaitingForGroup",
        }
    }
}

/// Shared by all that are refused.
#[derive(Clone, Debug, Default)]
pub struct Refusals(Arc<Mutex<BTreeMap<Way, String>>>);

impl Refusals {
    /// This way was refused, and why; none: it was not.
    pub fn note(&self, way: Way, why: Option<String>) {
        let mut refusals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            Some(why) => {
                if refusals.get(&way) != Some(&why) {
                    tracing::warn!(?way, %why, "refused, or waits");
                }
                refusals.insert(way, why);
            }
            None => _ = refusals.remove(&way),
        }
    }

    /// Another connection stands: what was refused on the last one is no news of it.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// All of them, in words for a person.
    #[must_use]
    pub fn troubles(&self) -> Vec<Trouble> {
        let refusals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let trouble =
            |(way, why): (&Way, &String)| Trouble { reason: way.reason().into(), message: why.clone() };
        refusals.iter().map(trouble).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_is_refused_until_it_is_open_again() {
        let refusals = Refusals::default();
        refusals.note(Way::Append, Some("WRITE on topic t".into()));
        refusals.note(Way::Commit, Some("READ on group g".into()));
        refusals.note(Way::Heartbeat, None);
        refusals.note(Way::Append, None);
        let messages: Vec<_> = refusals.troubles().into_iter().map(|trouble| trouble.message).collect();
        assert_eq!(messages, ["READ on group g"]);
        refusals.clear();
        assert!(refusals.troubles().is_empty());
    }
}
