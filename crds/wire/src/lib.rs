//! What travels between the operator, the sidecars, the log and the application: no I/O, no Kubernetes.
//!
//! ```text
//!  client ──HTTP──▶ proposal ─▶ Command ─▶ record ──Kafka──▶ record ─▶ Entry ─▶ delivery ──HTTP──▶ application
//!  operator ──Secret──▶ document ─▶ sidecar          sidecar ──topic──▶ heartbeat ─▶ operator
//! ```
//!
//! In order of dependency: [`shown`], [`position`], [`attributes`], [`command`], [`settings`], [`control`], [`entry`],
//! [`record`], [`proposal`], [`delivery`], [`identity`], [`document`], [`heartbeat`], [`probe`], [`pod`].

pub mod attributes;
pub mod command;
pub mod control;
pub mod delivery;
pub mod document;
pub mod entry;
pub mod heartbeat;
pub mod identity;
pub mod pod;
pub mod position;
pub mod probe;
pub mod proposal;
pub mod record;
pub mod settings;
pub mod shown;

/// The newest form of documents, records and heartbeats that this build reads and writes.
///
/// Sidecars announce theirs in heartbeats; nothing above the lowest level of any live agent is written.
pub const PROTOCOL_LEVEL: u32 = 1;
