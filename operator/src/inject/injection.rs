//! What an agent is made of, once it is decided: all that the patch needs to know.

use super::liveness::Guard;
use super::pinned::Pinned;
use super::sidecar::Sidecar;

/// Everything that the patch needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Injection {
    /// The engine's name.
    pub engine: String,
    /// The class.
    pub class: String,
    /// The newest command version that the application understands.
    pub version: u32,
    /// The application's container.
    pub application: String,
    /// The application's port, where HTTP replication stands before it.
    pub replicated: Option<i32>,
    /// Whether it is a member of a group, or may be.
    pub member: bool,
    /// Who asks whether the application is alive.
    pub guard: Guard,
    /// What of the spec holds until the pod is made anew.
    pub pinned: Pinned,
    /// What to inject.
    pub sidecar: Sidecar,
}
