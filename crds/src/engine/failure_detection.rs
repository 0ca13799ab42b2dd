//! `spec.failureDetection`: heartbeats, and when their absence means something.

use std::time;

use kube::KubeSchema;
use kube::core::Duration;
use serde::{Deserialize, Serialize};

/// How quickly an agent that falls silent is noticed.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureDetection {
    /// How often each sidecar says where it is.
    #[serde(default = "default_heartbeat")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('100ms') && duration(self) <= duration('1m')")
        .message("failureDetection.heartbeat must be a duration from 100ms to 1m, as 1s"))]
    pub heartbeat: Duration,
    /// So many heartbeats missed in a row, and the agent is suspect.
    #[serde(default = "default_suspect_after")]
    #[schemars(range(min = 2, max = 100))]
    pub suspect_after: i32,
    /// How many agents may be restarted at once.
    #[serde(default)]
    pub restart: Restart,
}

/// The fault budget: an agent that only a new pod can help is evicted within it.
#[derive(KubeSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restart {
    /// So many agents of a class may be away at once: one that calls for its eviction waits while as many of the others
    /// are not ready, for whatever reason.
    #[serde(default = "default_max_unavailable")]
    #[schemars(range(min = 1, max = 100))]
    pub max_unavailable: i32,
}

fn default_max_unavailable() -> i32 {
    1
}

impl Default for Restart {
    fn default() -> Self {
        Self { max_unavailable: default_max_unavailable() }
    }
}

fn default_heartbeat() -> Duration {
    time::Duration::from_secs(1).into()
}

fn default_suspect_after() -> i32 {
    3
}

impl Default for FailureDetection {
    fn default() -> Self {
        Self {
            heartbeat: default_heartbeat(),
            suspect_after: default_suspect_after(),
            restart: Restart::default(),
        }
    }
}
