//! A heartbeat: what each sidecar says of itself once a second.

use serde::{Deserialize, Serialize};

use crate::position::{Incarnation, Position};

/// The value of a record in the engine's heartbeats topic, as JSON.
///
/// Fields of later versions are ignored: a heartbeat decides nothing in a replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Heartbeat {
    /// The sidecar's [`crate::PROTOCOL_LEVEL`].
    pub level: u32,
    /// The pod's name.
    pub pod: String,
    /// The pod's uid: a StatefulSet's next pod has the same name.
    pub uid: String,
    /// The agent class.
    pub class: String,
    /// Counts up from 0 at each start of the sidecar.
    pub sequence: u64,
    /// The log that is followed; none before one was found.
    pub incarnation: Option<Incarnation>,
    /// The last entry dealt with; none before the first.
    pub position: Option<Position>,
    /// The next position, as far as this agent knows; none if it does not.
    pub head: Option<Position>,
    /// Entries between head and position, commands or not; none if not known.
    pub lag: Option<u64>,
    /// How long the oldest entry not yet applied has been in the log, in milliseconds; none if not known.
    pub lag_ms: Option<u64>,
    /// The digest at the last compared position; none where the class has none.
    pub digest: Option<Digest>,
    /// The newest command version that this agent's application understands.
    pub version: u32,
    /// Where the replica is.
    pub state: State,
    /// Whether `/readyz` says yes.
    pub ready: bool,
    /// Why it is not ready, or not well; empty when all is well.
    #[serde(default)]
    pub troubles: Vec<Trouble>,
    /// What only the cluster can do for it; none where it helps itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_for: Option<CallsFor>,
    /// The position of a delivery that was begun, and of which nobody can say whether the application acted on it; none
    /// where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_doubt: Option<Position>,
    /// How far its application is rebuilt; none while it is not being rebuilt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuild: Option<Rebuild>,
    /// The sidecar's version; empty in heartbeats of those that did not say it yet.
    #[serde(default)]
    pub build: String,
}

/// A heartbeat as a group's leader has heard it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// As it came.
    pub heartbeat: Heartbeat,
    /// How long ago, in milliseconds.
    pub age_ms: u64,
}

/// A record larger than this is no heartbeat.
const MAX_BYTES: usize = 64 << 10;
/// So many troubles are taken of one agent.
const MAX_TROUBLES: usize = 16;
/// So long may a reason be: it becomes the reason of Events and conditions.
const MAX_REASON: usize = 64;
/// So many characters of a message are taken: an engine's status has room for those of all agents.
const MAX_MESSAGE: usize = 1000;

impl Heartbeat {
    /// Reads a record's value, whoever wrote it. What is taken of it fits into an engine's status, or a record by a
    /// stranger could keep the status from being written.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        if bytes.len() > MAX_BYTES {
            return Err(serde::de::Error::custom(format!("{} bytes, of {MAX_BYTES} at most", bytes.len())));
        }
        let mut heartbeat: Self = serde_json::from_slice(bytes)?;
        heartbeat.troubles.truncate(MAX_TROUBLES);
        heartbeat.troubles.iter_mut().for_each(Trouble::fit);
        Ok(heartbeat)
    }
}

impl Trouble {
    fn fit(&mut self) {
        let word = (1..=MAX_REASON).contains(&self.reason.len())
            && self.reason.starts_with(|c: char| c.is_ascii_alphabetic())
            && self.reason.chars().all(|c| c.is_ascii_alphanumeric());
        if !word {
            self.reason = "Unknown".into();
        }
        if let Some((end, _)) = self.message.char_indices().nth(MAX_MESSAGE) {
            self.message.truncate(end);
        }
    }
}

/// What an agent whose application's state is not known needs before it can be rebuilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CallsFor {
    /// A new life of the application's container: the kubelet gives it, once the liveness probe fails.
    ContainerRestart,
    /// A new pod: what the application wrote outlives its container.
    Eviction,
}

/// How far an application is rebuilt by replaying the log to its new life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rebuild {
    /// The next position once it is done: the log's end when the replay began, or later.
    pub target: Position,
    /// The next position to be replayed.
    pub position: Position,
    /// How long it will take at the pace so far, in milliseconds; none before there is a pace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_ms: Option<u64>,
}

/// A digest and the position up to which it is chained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Digest {
    /// The last position in the chain.
    pub position: Position,
    /// Hexadecimal.
    pub hash: String,
}

/// Where a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum State {
    /// Not yet following the log: waiting for the document, the topic, the settings or the application.
    Waiting,
    /// Behind the head that was known at its start.
    CatchingUp,
    /// The application's state is not known, or is being made again from the log.
    Rebuilding,
    /// Following the log.
    Running,
    /// Stopped at a position until a person, or the next life of the pod, mends it.
    Halted,
    /// Ending.
    Draining,
}

/// Something that keeps an agent from being ready, or well, in words for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trouble {
    /// One CamelCase word, for Events: `ApplicationUnreachable`, `WaitingForSettings`, `LogReplaced`, …
    pub reason: String,
    /// What is wrong, which field to look at, and what to do.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeat(troubles: Vec<Trouble>) -> Heartbeat {
        Heartbeat {
            level: 1,
            pod: "opa-0".into(),
            uid: "u".into(),
            class: "opa".into(),
            sequence: 1,
            incarnation: None,
            position: None,
            head: None,
            lag: None,
            lag_ms: None,
            digest: None,
            version: 1,
            state: State::Waiting,
            ready: false,
            troubles,
            calls_for: None,
            in_doubt: None,
            rebuild: None,
            build: String::new(),
        }
    }

    fn read(troubles: Vec<Trouble>) -> Result<Heartbeat, serde_json::Error> {
        Heartbeat::read(&serde_json::to_vec(&heartbeat(troubles)).unwrap())
    }

    #[test]
    fn what_is_heard_of_a_stranger_fits_into_a_status() {
        let trouble =
            |reason: &str, message: &str| Trouble { reason: reason.into(), message: message.into() };
        let own = vec![trouble("LogUnreachable", "why")];
        assert_eq!(read(own.clone()).unwrap(), heartbeat(own));
        let long = "é".repeat(1001);
        for reason in ["", "a b", "1a", &long, "a\n"] {
            let read = read(vec![trouble(reason, &long)]).unwrap();
            assert_eq!(
                (read.troubles[0].reason.as_str(), read.troubles[0].message.chars().count()),
                ("Unknown", 1000)
            );
        }
        assert_eq!(read(vec![trouble("A", ""); 100]).unwrap().troubles.len(), 16);
        assert!(read(vec![trouble("A", &"x".repeat(70_000))]).is_err());
        assert!(Heartbeat::read(b"null").is_err() && Heartbeat::read(b"\xff").is_err());
    }
}
