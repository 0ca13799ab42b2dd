//! Care for agents that run: who has to be evicted, what guards them, and what a person should know of them.
//!
//! ```text
//!  pods, heartbeats ─▶ evict (backoff) ─▶ the next pod to be evicted, and why each of the others waits
//!  heartbeats       ─▶ poison          ─▶ for whom no more is tried: what one pod after the other dies of
//!  pods             ─▶ bare            ─▶ agents without a sidecar
//!  budgets, policies of others ─▶ guard ─▶ which of ours to write, which to delete
//!  Services         ─▶ bypass          ─▶ ways around the log
//!  pods, heartbeats ─▶ outdated        ─▶ who has to be restarted to get what the spec and the operator say
//!  groups           ─▶ groups          ─▶ consumer groups of pods that are gone
//! ```
//! Everything here is pure; `engine::tend` feeds and obeys it.

pub mod backoff;
pub mod bare;
pub mod bypass;
pub mod evict;
pub mod groups;
pub mod guard;
pub mod memory;
pub mod outdated;
pub mod pods;
pub mod poison;
