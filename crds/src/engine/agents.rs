//! `spec.agents`: the agent classes, what their application is, and how commands reach it.

use std::time;

use kube::KubeSchema;
use kube::core::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kafka::SecretName;

/// Agents that run the same application.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.replicate) != has(self.apply)")
    .message("exactly one of replicate and apply must be set: replicate for an application that knows nothing of Decree, apply for one with an endpoint of its own for commands"))]
pub struct Agent {
    /// The class' name, a DNS label; pods name it in the label `decree.dev/class`.
    #[schemars(length(min = 1, max = 40), pattern(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub class: String,
    /// The application.
    pub app: App,
    /// HTTP replication: requests that match become commands, and every agent's application gets them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicate: Option<Replicate>,
    /// Each command is POSTed to an endpoint that the application has for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apply: Option<Apply>,
    /// What of an application's answers must be the same in every agent. Decided when the log begins.
    #[serde(default)]
    pub digest: Digest,
}

/// The application in an agent's pod.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct App {
    /// The application's container. Needed where the pod has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub container: Option<String>,
    /// The port that the application listens on.
    #[schemars(range(min = 1, max = 65535))]
    #[x_kube(validation = Rule::new("self < 7070 || self > 7073")
        .message("ports 7070 to 7073 are the sidecar's own; let the application listen on another port"))]
    pub port: i32,
    /// What says that the application is well. Default: the port accepts a connection. Delivery waits for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// No answer to a delivery for so long, and the agent is reported overdue; the delivery goes on.
    #[serde(default = "default_overdue_after")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('24h')")
        .message("app.overdueAfter must be a duration from 1s to 24h, as 30s"))]
    pub overdue_after: Duration,
    /// So many failed attempts at one command, over all lives of the application, and the agent halts there until a
    /// person decides. A change holds from its place in the log on.
    #[serde(default = "default_max_attempts")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_attempts: i32,
    /// Headers that every delivery gets, such as a token that the application wants: credentials never travel in the
    /// log. Whoever reaches the sidecar's port 7072 can then write with them; `replicate.isolate` closes the other way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliver_headers: Option<DeliverHeaders>,
    /// Volumes of the pod whose content does not matter (caches, `/tmp`): the application may find there what an earlier
    /// life of it left. Any other that it can write to counts as its state: one that outlives the pod is refused at
    /// admission, and for one that outlives the container (emptyDir) the whole pod is evicted where otherwise the container
    /// alone is restarted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 63), pattern(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub scratch: Vec<String>,
}

fn default_max_attempts() -> i32 {
    8
}

fn default_overdue_after() -> Duration {
    time::Duration::from_secs(30).into()
}

/// Headers that every delivery gets.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliverHeaders {
    /// A Secret whose keys are the headers' names.
    pub secret: SecretName,
}

/// A request that an application answers with 2xx or 3xx when it is well.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The path, as `/health`.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self.startsWith('/')").message("health.path must begin with /"))]
    pub path: String,
}

/// HTTP replication: requests that match a rule become commands.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replicate {
    /// Which requests change the application's state. All others pass straight through to the local application.
    #[schemars(length(min = 1, max = 32))]
    pub rules: Vec<crate::engine::agents::Rule>, // by its path: the derive brings a `Rule` of its own
    /// How requests that match no rule are answered, if the client does not say (`Decree-Read`).
    #[serde(default)]
    pub reads: Reads,
    /// A Service that the operator makes; it leads to the agents' sidecars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// A NetworkPolicy that closes the application's own port to everything outside its pod, so that requests can't go
    /// around the log. It takes a network that enforces policies, and allows every other port: where a policy of your own
    /// already selects the agents, none is made, and the condition `IsolationMissing` says so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub isolate: bool,
}

/// Requests that become commands.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// HTTP methods, in upper case, as PUT.
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 20), pattern(r"^[A-Z][A-Z-]*$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub methods: Vec<String>,
    /// The request's path begins with this, at a segment's border.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self.startsWith('/') && !self.contains('?') && !self.contains('#')")
        .message("pathPrefix must begin with / and is a path without a query, as /v1/"))]
    pub path_prefix: String,
    /// To get such a request twice does the application no harm: where nobody can say whether it acted on one, it gets
    /// it again, and is not restarted and rebuilt for it. A change holds from its place in the log on.
    #[serde(default)]
    pub idempotent: bool,
}

/// How reads are answered.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reads {
    /// By the local application as it is: fast, perhaps a little behind.
    #[default]
    Local,
    /// After all that was ordered before the request has been applied here: linearizable.
    Barrier,
}

/// A Service that leads to the agents' sidecars.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name, in the engine's namespace.
    #[schemars(length(min = 1, max = 63), pattern(r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Its port.
    #[serde(default = "default_service_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

fn default_service_port() -> i32 {
    80
}

/// An endpoint that the application has for commands.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Apply {
    /// Each command is POSTed to this path.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self.startsWith('/')").message("apply.path must begin with /"))]
    pub path: String,
    /// To get a command twice does the application no harm: where nobody can say whether it acted on one, it gets it
    /// again, and is not restarted and rebuilt for it. A change holds from its place in the log on.
    #[serde(default)]
    pub idempotent: bool,
}

/// What of an outcome the digest covers.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Digest {
    /// Status and body.
    #[default]
    Outcome,
    /// The status alone: for applications whose bodies name a pod or a time.
    Status,
    /// Nothing: agents are not compared.
    None,
}
