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
    /// How far its application is rebuilt; none while it is not being rebuilt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuild: Option<Rebuild>,
    /// The sidecar's version; empty in heartbeats of those that did not say it yet.
    #[serde(default)]
    pub build: String,
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
