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
//! In order of dependency: [`log`], [`app`], [`life`] (three ports), [`replica`] (the state machine).

pub mod app;
pub mod life;
pub mod log;
pub mod replica;
