//! The sidecar: orders its application's commands in the engine's log, and applies the log to its application.
//!
//! ```text
//!                propose ─▶ ┌─────┐           ┌─────────┐ ─▶ app ─▶ application
//!   api, replicate ───────▶ │ log │ ─ read ─▶ │ replica │
//!                barrier ─▶ └─────┘           └─────────┘ ◀─ life (which life of the application it is)
//!        ▲                                         │
//!        └────────────── Handle ◀──────────────────┘  journal, dedup window, outcomes, digest
//! ```
//!
//! In order of dependency: [`log`], [`app`], [`life`] (three ports), [`replica`] (the state machine); then what stands
//! around it: [`shutdown`], [`metrics`], [`peers`] (between sidecars), [`member`] (this agent in its group), [`config`], [`probe`], [`readiness`], [`propose`], [`barrier`], [`problem`] (the one table
//! to HTTP), [`agent`] (what the doors share), [`status`], [`intake`], [`answer`], the doors [`api`], [`health`] and
//! [`replicate`], [`heartbeat`], [`serve`] (`observed` streams), [`descriptors`], `memory`, [`follow`] (opens and keeps the engine), [`run`] (wires the process).

pub mod agent;
pub mod answer;
pub mod api;
pub mod app;
pub mod barrier;
pub mod config;
pub mod descriptors;
pub mod follow;
pub mod health;
pub mod heartbeat;
pub mod intake;
pub mod life;
pub mod log;
pub mod member;
mod memory;
pub mod metrics;
mod observed;
pub mod peers;
pub mod probe;
pub mod problem;
pub mod propose;
pub mod readiness;
pub mod replica;
pub mod replicate;
pub mod run;
pub mod serve;
pub mod shutdown;
pub mod status;
