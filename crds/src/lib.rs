//! The custom resources that people write, as Rust types; the YAML of the charts is generated from these.
//!
//! ```text
//!  labels ◀─ engine ─▶ engine/{kafka, agents, failure_detection, sidecar, status}
//!            group ──▶ group/status
//! ```
#![warn(missing_docs)]
#![allow(unreachable_pub)] // KubeSchema repeats each type inside a function, where `pub` reaches nobody

pub mod engine;
pub mod group;
pub mod labels;

pub use engine::{DecisionEngine, DecisionEngineSpec};
pub use group::{ConsensusGroup, ConsensusGroupSpec};
