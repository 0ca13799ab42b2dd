//! Failure detection: what is heard of each agent, who is suspect, and what changed since.

pub mod digests;
pub mod heartbeats;
pub mod leaders;
pub mod suspect;
