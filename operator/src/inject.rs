//! Injection: from a labelled pod to the patch that makes it an agent, or to the reason why not.
//!
//! ```text
//!  pod ─▶ select ─▶ Injection ─▶ patch ◀─ container, volumes, ports, marks
//!            │ └──▶ Skip, Refusal
//!            └─ outlives, liveness
//! ```
//! Everything here is pure; the webhook feeds and obeys it.

pub mod container;
pub mod injection;
pub mod liveness;
pub mod marks;
pub mod outlives;
pub mod patch;
pub mod pinned;
pub mod ports;
pub mod refusal;
pub mod select;
pub mod sidecar;
pub mod volumes;

use std::borrow::Borrow;

use decree_crds::DecisionEngine;
use json_patch::Patch;
use k8s_openapi::api::core::v1::Pod;

use injection::Injection;
use refusal::Refusal;
use select::{Decision, Skip};
use sidecar::Sidecar;

/// What becomes of a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It stays as it is.
    Unchanged(Skip),
    /// It may not be created.
    Refused(Refusal),
    /// It becomes an agent.
    Injected {
        /// Of what.
        injection: Box<Injection>,
        /// By this change.
        patch: Patch,
    },
    /// It is an agent, and another webhook changed since what its restart takes.
    Amended {
        /// What says so.
        patch: Patch,
    },
}

impl Answer {
    /// One word for metrics and logs.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unchanged(skip) => skip.reason(),
            Self::Refused(refusal) => refusal.reason(),
            Self::Injected { .. } => "injected",
            Self::Amended { .. } => "amended",
        }
    }
}

/// Decides about a pod that is to be created in `namespace`, whose engines are `engines`.
///
/// `installed` is the sidecar that the operator was installed with.
pub fn answer<E: Borrow<DecisionEngine>>(
    pod: &Pod,
    namespace: &str,
    engines: &[E],
    installed: &Sidecar,
) -> Answer {
    match select::select(pod, namespace, engines, installed) {
        Decision::Skip(skip) => Answer::Unchanged(skip),
        Decision::Refuse(refusal) => Answer::Refused(refusal),
        Decision::Inject(injection) => {
            let patch = patch::patch(pod, &injection);
            Answer::Injected { injection, patch }
        }
        Decision::Amend(status) => Answer::Amended { patch: patch::amend(pod, &status) },
    }
}
