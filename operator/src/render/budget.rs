//! The PodDisruptionBudgets: whoever drains nodes takes as many agents at a time as the order can spare.

use std::collections::BTreeMap;

use decree_crds::labels;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::metadata;
use crate::care::pods::selector;
use crate::spec::{Class, Engine};

/// Of a class, where Kafka orders: one at a time. Agents that are not ready may always go: there is no quorum that they
/// belong to, and one that waits for its eviction would otherwise hold up a drain for ever.
#[must_use]
pub fn of_class(engine: &Engine, class: &Class) -> PodDisruptionBudget {
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

/// Of a group's engine: all its agents are members, and so many of them can be spared at a time. One that is not ready may
/// hold what another has lost: it goes only while the others are there.
#[must_use]
pub fn of_group(engine: &Engine, spared: usize) -> PodDisruptionBudget {
    let label = (labels::ENGINE.to_owned(), engine.name.name.clone());
    PodDisruptionBudget {
        metadata: metadata(engine, &labels::engine_object(&engine.name.name)),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(i32::try_from(spared).unwrap_or(i32::MAX))),
            min_available: None,
            selector: Some(LabelSelector {
                match_labels: Some(BTreeMap::from([label])),
                match_expressions: None,
            }),
            unhealthy_pod_eviction_policy: Some("IfHealthyBudget".to_owned()),
        }),
        status: None,
    }
}
