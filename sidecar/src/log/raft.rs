//! The log among the sidecars themselves: a Raft group orders, and each member holds all of it.

pub mod ask;
pub mod types;
