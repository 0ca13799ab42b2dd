//! The log among the sidecars: its store keeps what it said, and a group orders whatever happens to its members.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "raft/barrier.rs"]
mod barrier;
#[path = "raft/faults.rs"]
mod faults;
#[path = "raft/group.rs"]
mod group;
#[path = "raft/kill.rs"]
mod kill;
#[path = "raft/lines.rs"]
mod lines;
#[path = "raft/log.rs"]
mod log;
#[path = "raft/measure.rs"]
mod measure;
#[path = "raft/room.rs"]
mod room;
#[path = "raft/store.rs"]
mod store;
#[path = "raft/trim.rs"]
mod trim;
