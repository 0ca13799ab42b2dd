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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClassSettings {
    /// What the digest covers.
    pub digest: DigestOf,
    /// So many failed attempts at one position, and the agent halts there.
    pub max_attempts: u32,
    /// Every command may be delivered again where nobody knows whether the application acted on it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub idempotent: bool,
    /// The same, request by request: the engine's rules in their order, of which the first that matches decides. Empty
    /// where none of them is idempotent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub idempotent_rules: Vec<IdempotentRule>,
}

/// Requests that may be delivered again, or that may not although a later rule says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IdempotentRule {
    /// Upper case.
    pub methods: Vec<String>,
    /// The request's path begins with it, at a segment's border.
    pub path_prefix: String,
    /// Whether what matches is idempotent.
    pub idempotent: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Default for ClassSettings {
    fn default() -> Self {
        Self { digest: DigestOf::Outcome, max_attempts: 8, idempotent: false, idempotent_rules: Vec::new() }
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
