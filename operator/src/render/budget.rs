//! The PodDisruptionBudget of a class: whoever drains nodes takes one agent at a time.

use decree_crds::labels;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::metadata;
use crate::care::pods::selector;
use crate::spec::{Class, Engine};

/// The budget. Agents that are not ready may always go: on the Kafka order there is no quorum that they belong to, and
/// one that waits for its eviction would otherwise hold up a drain for ever.
#[must_use]
pub fn budget(engine: &Engine, class: &Class) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: metadata(engine, &labels::class_object(&engine.name.name, &class.name)),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            min_available: None,
            selector: Some(selector(engine, class)),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
        }),
        status: None,
    }
}
