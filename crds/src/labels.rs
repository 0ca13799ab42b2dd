//! Labels, annotations, field managers and the names that are derived from an engine's: all of them, and only here.

/// On a pod template: inject, agent of that engine.
pub const ENGINE: &str = "decree.dev/engine";
/// On a pod template: which class; may be left out where the engine has one. The injection adds it.
pub const CLASS: &str = "decree.dev/class";
/// On a pod template: the newest command version that the agent's application understands.
pub const VERSION: &str = "decree.dev/version";
/// On an engine, as a finalizer: its topics are to be deleted with it.
pub const FINALIZER: &str = "decree.dev/topics";
/// On a pod, by Decree: what the injection did.
pub const STATUS: &str = "decree.dev/status";

/// Of a pod, as a readiness gate and its condition: its member has the group's log, and no promotion is outstanding.
pub const MEMBER_GATE: &str = "decree.dev/member";

/// On the Secret with the webhook's certificates: a person asks for a new authority.
pub const ROTATE_CA: &str = "decree.dev/rotate-ca";
/// On an engine: `true` and the operator leaves it as it is.
pub const PAUSED: &str = "decree.dev/paused";
/// On an engine: the id of the topic that a person accepts in the place of one that is gone.
pub const ACCEPT_NEW_LOG: &str = "decree.dev/accept-new-log";

/// Kubernetes' own: which container `kubectl logs` and `kubectl exec` mean.
pub const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
/// Kubernetes' own: of a ReplicaSet's pods those that cost least go first.
pub const POD_DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// Kubernetes' own: volumes of a pod that don't keep a cluster autoscaler from removing its node.
pub const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";
/// Kubernetes' own: the pod is a picture of one that a node runs by itself.
pub const MIRROR: &str = "kubernetes.io/config.mirror";
/// Kubernetes' own: a node's operating system.
pub const OS: &str = "kubernetes.io/os";
/// Kubernetes' own: who made an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY`], and the one field manager of server-side apply.
pub const FIELD_MANAGER: &str = "decree";
/// The field manager of what a group's status holds once and for all: no apply of the rest takes it away.
pub const GENESIS_FIELD_MANAGER: &str = "decree-genesis";
/// The field manager of the webhook's `caBundle` alone, so that whoever applies the chart never meets it.
pub const CA_FIELD_MANAGER: &str = "decree-ca";

/// The name of the Secret with the sidecar's document, in the engine's namespace.
#[must_use]
pub fn document_secret(engine: &str) -> String {
    format!("decree-{engine}")
}

/// The name of an object that an engine has one of.
#[must_use]
pub fn engine_object(engine: &str) -> String {
    format!("decree-{engine}")
}

/// The name of an object that a class has one of. A dot between: neither name has one, so that no two make the same.
#[must_use]
pub fn class_object(engine: &str, class: &str) -> String {
    format!("decree-{engine}.{class}")
}

/// The log's topic, if the engine names none. At most 249 characters, which two DNS labels and a word always are.
#[must_use]
pub fn default_topic(namespace: &str, engine: &str) -> String {
    format!("decree.{namespace}.{engine}")
}

/// The topic of the engine's heartbeats.
#[must_use]
pub fn heartbeats_topic(topic: &str) -> String {
    format!("{topic}.heartbeats")
}

/// What every consumer group of an agent begins with.
pub const CONSUMER_GROUPS: &str = "decree.";

/// The consumer group in which an agent commits its position, so that Kafka's tools see the lag.
#[must_use]
pub fn consumer_group(namespace: &str, engine: &str, pod: &str) -> String {
    format!("decree.{namespace}.{engine}.{pod}")
}
