//! `ConsensusGroup`: the Raft membership that orders commands for an engine.

pub mod status;

use std::time;

use kube::core::Duration;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use status::ConsensusGroupStatus;

/// The Raft group among an engine's sidecars that orders its commands. Members are added, promoted, replaced and removed by
/// the operator alone.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "decree.dev",
    version = "v1alpha1",
    kind = "ConsensusGroup",
    plural = "consensusgroups",
    shortname = "dcg",
    category = "decree",
    namespaced,
    status = "ConsensusGroupStatus",
    derive = "PartialEq",
    doc = "The Raft group among an engine's sidecars that orders its commands.",
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 40")
        .message("metadata.name must be a DNS label of at most 40 characters; choose a shorter name without dots"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Quorum", type_ = "string", json_path = ".status.conditions[?(@.type==\"Quorum\")].status"),
    printcolumn(name = "Leader", type_ = "string", json_path = ".status.leader"),
    printcolumn(name = "Voters", type_ = "string", json_path = ".status.voters", description = "Voters that are well, of those wanted"),
    printcolumn(name = "Term", type_ = "integer", json_path = ".status.term"),
    printcolumn(name = "Committed", type_ = "integer", json_path = ".status.committed", description = "The last position that is certain"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("duration(self.heartbeatInterval) + duration(self.heartbeatInterval) + duration(self.heartbeatInterval) <= duration(self.electionTimeout)")
        .message("heartbeatInterval must be a third of electionTimeout or less, or one late heartbeat would depose a leader")
)]
pub struct ConsensusGroupSpec {
    /// So many members vote, where there are as many; the others are learners, ready to take a voter's place. Odd: an even
    /// number survives no more failures than the odd one below.
    #[serde(default = "default_voters")]
    #[schemars(range(min = 1, max = 7))]
    #[x_kube(validation = Rule::new("self % 2 == 1")
        .message("voters must be odd: 1, 3, 5 or 7"))]
    pub voters: i32,
    /// No word of a leader for so long, and the others elect one. A fail-over takes less than twice this.
    #[serde(default = "default_election_timeout")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('300ms') && duration(self) <= duration('1m')")
        .message("electionTimeout must be a duration from 300ms to 1m, as 1s"))]
    pub election_timeout: Duration,
    /// How often the leader says that it is there.
    #[serde(default = "default_heartbeat_interval")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('20ms') && duration(self) <= duration('20s')")
        .message("heartbeatInterval must be a duration from 20ms to 20s, as 100ms"))]
    pub heartbeat_interval: Duration,
}

fn default_voters() -> i32 {
    3
}

fn default_election_timeout() -> Duration {
    time::Duration::from_secs(1).into()
}

fn default_heartbeat_interval() -> Duration {
    time::Duration::from_millis(100).into()
}

impl Default for ConsensusGroupSpec {
    fn default() -> Self {
        Self {
            voters: default_voters(),
            election_timeout: default_election_timeout(),
            heartbeat_interval: default_heartbeat_interval(),
        }
    }
}
