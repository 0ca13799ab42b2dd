//! Groups: who belongs to the Raft membership that orders an engine's commands, and what is to be done about it.
//!
//! ```text
//!  facts ─▶ view: the leader, how each member does ─▶ plan: one step, or what is waited for
//!                                                       └─ begin, change, gates
//! ```
//! Everything here is pure.

pub mod facts;
pub mod plan;
pub mod step;
pub mod view;
