//! The operator: provisions each engine's log, tells its sidecars what to do, and reports what it hears of them.
//!
//! ```text
//!  API server ──watch──▶ run ──▶ engine::reconcile: fetch ▶ validate ▶ plan ▶ apply ▶ status
//!                         │                │     ▲                      │
//!                         │                │     └── detector ◀─┐       ├─▶ render ──▶ Secret, Services
//!                         │                ▼                   │       └─▶ topics ──▶ Kafka
//!                         │             events ──▶ Events      └── heartbeats topics
//!                         ├─▶ group::reconcile: the same five steps ──call──▶ sidecars: who orders an engine's commands
//!                         ├─▶ lease: which of several operators leads, and so reconciles
//!                         ├─▶ webhook ──▶ inject: the sidecar into labelled pods (certs: how the API server trusts it)
//!                         │       └─────▶ identity: certificates for sidecars that show their token
//!                         └─▶ health: /livez /readyz /metrics
//! ```
//!
//! In order of dependency: [`crds`], [`cluster`], [`metrics`], [`crowd`], [`health`], [`spec`], [`credentials`], [`topics`],
//! [`detector`], [`render`], [`events`], [`lease`], [`finalizers`], [`engine`], [`group`], [`inject`], [`certs`], [`identity`],
//! [`webhook`], [`run`], [`uninstall`].

pub mod care;
pub mod certs;
pub mod cluster;
pub mod crds;
pub mod credentials;
pub mod crowd;
pub mod detector;
pub mod engine;
pub mod events;
pub mod evictor;
pub mod finalizers;
pub mod group;
pub mod health;
pub mod identity;
pub mod inject;
pub mod lease;
pub mod metrics;
pub mod render;
pub mod run;
pub mod spec;
pub mod topics;
pub mod uninstall;
pub mod webhook;
