//! What an agent is made of, once it is decided: all that the patch needs to know.

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
    /// What to inject.
    pub sidecar: Sidecar,
}
