//! What travels between the operator, the sidecars, the log and the application: no I/O, no Kubernetes.
//!
//! ```text
//!  client ──HTTP──▶ proposal ─▶ Command ─▶ record ──Kafka──▶ record ─▶ Entry ─▶ delivery ──HTTP──▶ application
//!  operator ──Secret──▶ document ─▶ sidecar          sidecar ──topic──▶ heartbeat ─▶ operator
//!  operator ◀──mutual TLS: issuance, member──▶ sidecars, members of a group
//! ```
//!
//! In order of dependency: [`shown`], [`position`], [`attributes`], [`command`], [`settings`], [`control`], [`entry`],
//! [`record`], [`proposal`], [`delivery`], [`identity`], [`issuance`], [`group`], [`member`], [`document`], [`heartbeat`], [`probe`], [`pod`].

pub mod attributes;
pub mod command;
pub mod control;
pub mod delivery;
pub mod document;
pub mod entry;
pub mod group;
pub mod heartbeat;
pub mod identity;
pub mod issuance;
pub mod member;
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
