//! `spec.consensusGroup`: the group that makes the order.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// The `ConsensusGroup` that makes the order.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsensusGroupRef {
    /// Its name, in the engine's namespace. A group orders for one engine.
    #[schemars(length(min = 1, max = 40), pattern(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
}
