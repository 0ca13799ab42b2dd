//! The settings entry: what decides what a replica does, ordered in the log so that it changes everywhere at once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::position::EngineName;

/// The value of a `settings` control entry.
///
/// A field that this build does not know is an error, not ignored: a replica that ignored it would act otherwise
/// than its peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// Whose log this is.
    pub engine: EngineName,
    /// The uid of the cluster's `kube-system` namespace: the same engine name elsewhere is another engine.
    pub cluster: String,
    /// How repeats are recognised.
    pub dedup: Dedup,
    /// By class name.
    pub classes: BTreeMap<String, ClassSettings>,
}

/// The dedup window, counted in positions and never in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dedup {
    /// Identities are remembered for so many positions.
    pub window: u64,
    /// Outcomes are kept for the newest so many commands.
    pub outcomes: u64,
    /// And for so many bytes of them.
    pub outcome_bytes: u64,
}

impl Default for Dedup {
    fn default() -> Self {
        Self { window: 1_000_000, outcomes: 10_000, outcome_bytes: 64 << 20 }
    }
}

/// What one agent class's replicas do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClassSettings {
    /// What the digest covers.
    pub digest: DigestOf,
    /// So many failed attempts at one position, and the agent halts there.
    pub max_attempts: u32,
}

impl Default for ClassSettings {
    fn default() -> Self {
        Self { digest: DigestOf::Outcome, max_attempts: 8 }
    }
}

/// What of an outcome the digest covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DigestOf {
    /// Status and body.
    #[default]
    Outcome,
    /// The status alone: for applications whose bodies name a pod or a time.
    Status,
    /// Nothing: agents are not compared.
    None,
}
