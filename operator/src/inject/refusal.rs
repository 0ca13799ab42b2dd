//! Why a pod can't become an agent, with the remedy; the person who creates the pod reads this.

use std::collections::BTreeMap;

use decree_crds::labels;
use decree_wire::pod;

/// Why a pod can't become an agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The label names no engine of the namespace.
    #[error(
        "no DecisionEngine named {wanted:?} in namespace {namespace:?}, where {}; correct the pod's label {}, or create that DecisionEngine first",
        present(.engines), labels::ENGINE
    )]
    UnknownEngine {
        /// What the label says.
        wanted: String,
        /// Where it was looked for.
        namespace: String,
        /// Those that there are.
        engines: Vec<String>,
    },
    /// The engine has several classes, and the pod names none.
    #[error(
        "DecisionEngine {engine:?} has several classes: {}; add the label {} with one of them to the pod template",
        .classes.join(", "), labels::CLASS
    )]
    MissingClass {
        /// The engine.
        engine: String,
        /// Its classes.
        classes: Vec<String>,
    },
    /// The label names no class of the engine.
    #[error(
        "DecisionEngine {engine:?} has no class {wanted:?}, its classes are: {}; correct the pod's label {}, or add the class to the agents of a new DecisionEngine",
        .classes.join(", "), labels::CLASS
    )]
    UnknownClass {
        /// The engine.
        engine: String,
        /// What the label says.
        wanted: String,
        /// Its classes.
        classes: Vec<String>,
    },
    /// Several containers, and the engine says nothing.
    #[error(
        "the pod has several containers ({}), and class {class:?} of DecisionEngine {engine:?} does not say which is the application; set agents[].app.container in the DecisionEngine to one of them",
        .containers.join(", ")
    )]
    ContainerNotNamed {
        /// The engine.
        engine: String,
        /// The class.
        class: String,
        /// The pod's containers.
        containers: Vec<String>,
    },
    /// The container that the engine names isn't there.
    #[error(
        "class {class:?} of DecisionEngine {engine:?} names the container {wanted:?}, and the pod has only: {}; rename the pod's container, or correct agents[].app.container in the DecisionEngine",
        .containers.join(", ")
    )]
    NoSuchContainer {
        /// The engine.
        engine: String,
        /// The class.
        class: String,
        /// What the engine names.
        wanted: String,
        /// The pod's containers.
        containers: Vec<String>,
    },
    /// The pod has no network of its own.
    #[error(
        "the pod has hostNetwork: true, where the sidecar's ports {} to {} would be the node's, and two agents on one node would collide; remove hostNetwork from the pod template",
        pod::port::API,
        pod::port::PEERS
    )]
    HostNetwork,
    /// Nobody but its node's kubelet can change the pod.
    #[error(
        "the pod is a static one, which its node runs as the file there says, without a sidecar; run it by a Deployment or a StatefulSet, or remove the label {} from the file",
        labels::ENGINE
    )]
    StaticPod,
    /// The sidecar runs on Linux.
    #[error("the pod is for Windows nodes, and there is no sidecar for them; run it on Linux nodes")]
    Windows,
    /// What the application keeps there nobody could know.
    #[error(
        "the container {container:?} writes to what outlives its pod ({}), and nobody could know which commands are in what it finds there; mount it with readOnly: true, or name the volume in agents[].app.scratch of DecisionEngine {engine:?} if its content does not matter, or keep that state in memory or in an emptyDir: the log rebuilds it",
        listed(.volumes)
    )]
    OutlivingVolume {
        /// The application's container.
        container: String,
        /// The engine.
        engine: String,
        /// The volumes' names and kinds.
        volumes: BTreeMap<String, &'static str>,
    },
    /// A container listens where the sidecar does.
    #[error(
        "the container {container:?} declares port {port}, and ports {} to {} are the sidecar's; let it listen on another port",
        pod::port::API,
        pod::port::PEERS
    )]
    PortTaken {
        /// The container.
        container: String,
        /// The port.
        port: i32,
    },
    /// A container has the sidecar's name and isn't it.
    #[error(
        "the pod already has a container named {:?} that is not this engine's sidecar; rename it, or, if the pod was copied from an injected one, begin with the template that that one came from: the injection changes more than it adds",
        pod::CONTAINER
    )]
    ContainerTaken,
    /// A volume has the name of one of the sidecar's.
    #[error(
        "the pod already has a volume named {volume:?}, which is the sidecar's; rename it, or, if the pod was copied from an injected one, remove it: the injection adds it"
    )]
    VolumeTaken {
        /// The volume.
        volume: String,
    },
    /// Something else is mounted where the socket's folder goes.
    #[error(
        "the container {container:?} mounts something at {}, where the sidecar's socket goes; mount it elsewhere",
        pod::path::RUN
    )]
    MountTaken {
        /// The container.
        container: String,
    },
    /// The version is no version.
    #[error(
        "the annotation {} is {value:?}, and must be an integer of at least 1, as \"2\": the newest command version that the application understands",
        labels::VERSION
    )]
    InvalidVersion {
        /// What the annotation says.
        value: String,
    },
}

impl Refusal {
    /// One word for metrics, logs and the audit.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::UnknownEngine { .. } => "UnknownEngine",
            Self::MissingClass { .. } => "MissingClass",
            Self::UnknownClass { .. } => "UnknownClass",
            Self::ContainerNotNamed { .. } => "ContainerNotNamed",
            Self::NoSuchContainer { .. } => "NoSuchContainer",
            Self::HostNetwork => "HostNetwork",
            Self::StaticPod => "StaticPod",
            Self::Windows => "Windows",
            Self::OutlivingVolume { .. } => "OutlivingVolume",
            Self::PortTaken { .. } => "PortTaken",
            Self::ContainerTaken => "ContainerTaken",
            Self::VolumeTaken { .. } => "VolumeTaken",
            Self::MountTaken { .. } => "MountTaken",
            Self::InvalidVersion { .. } => "InvalidVersion",
        }
    }
}

fn listed(volumes: &BTreeMap<String, &'static str>) -> String {
    let named: Vec<_> = volumes.iter().map(|(name, kind)| format!("volume {name}, {kind}")).collect();
    named.join("; ")
}

fn present(engines: &[String]) -> String {
    match engines {
        [] => "there is none".to_owned(),
        [only] => format!("there is only {only}"),
        several => format!("there are: {}", several.join(", ")),
    }
}
