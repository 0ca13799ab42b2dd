//! What the injection writes into a pod's labels and annotations, and reads there again.

use std::collections::BTreeMap;

use decree_crds::labels;
use decree_wire::pod::CONTAINER;
use decree_wire::probe::Restart;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use super::injection::Injection;
use super::liveness::Guard;
use super::pinned::Pinned;
use super::volumes;

/// The annotation `decree.dev/status`: what the injection did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The operator's version.
    pub operator: String,
    /// The engine.
    pub engine: String,
    /// The class.
    pub class: String,
    /// The application's container.
    pub application: String,
    /// The container that was added.
    pub container: String,
    /// Its image.
    pub image: String,
    /// The volumes that were added.
    pub volumes: Vec<String>,
    /// What gives the application an empty state again.
    #[serde(default)]
    pub restart: Restart,
    /// Why it takes the whole pod; none where the container alone is restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// What of the spec holds until the pod is made anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<Pinned>,
}

impl Status {
    fn new(injection: &Injection) -> Self {
        let Injection {
            engine,
            class,
            version: _,
            application,
            replicated: _,
            member,
            guard,
            pinned,
            sidecar,
        } = injection;
        Self {
            operator: env!("CARGO_PKG_VERSION").to_owned(),
            engine: engine.clone(),
            class: class.clone(),
            application: application.clone(),
            container: CONTAINER.to_owned(),
            image: sidecar.image.clone(),
            volumes: volumes::of_pod(engine, *member).into_iter().map(|volume| volume.name).collect(),
            restart: guard.restart(),
            because: match guard {
                Guard::Sidecar { .. } => None,
                Guard::User { because } => Some(because.clone()),
            },
            pinned: Some(pinned.clone()),
        }
    }

    /// As it stands in the annotation.
    #[must_use]
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers are JSON")
    }

    /// What an injection said about this pod; none where there was none, or somebody wrote over it.
    #[must_use]
    pub fn of(pod: &Pod) -> Option<Self> {
        serde_json::from_str(pod.annotations().get(labels::STATUS)?).ok()
    }
}

/// The labels to set.
#[must_use]
pub fn labels(pod: &Pod, injection: &Injection) -> BTreeMap<String, String> {
    let mut set = BTreeMap::new();
    if !pod.labels().contains_key(labels::CLASS) {
        set.insert(labels::CLASS.to_owned(), injection.class.clone());
    }
    set
}

/// The annotations to set.
#[must_use]
pub fn annotations(pod: &Pod, injection: &Injection) -> BTreeMap<String, String> {
    let status = Status::new(injection).text();
    let present = pod.annotations();
    let mut set = BTreeMap::from([
        (labels::STATUS.to_owned(), status),
        (labels::SAFE_TO_EVICT.to_owned(), with_local_volumes(present.get(labels::SAFE_TO_EVICT))),
    ]);
    if !present.contains_key(labels::DEFAULT_CONTAINER) {
        set.insert(labels::DEFAULT_CONTAINER.to_owned(), injection.application.clone());
    }
    set
}

/// A comma-separated list, completed; without ours in it an autoscaler never removes the agent's node.
fn with_local_volumes(present: Option<&String>) -> String {
    let mut names: Vec<_> = present
        .map(String::as_str)
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    for local in volumes::LOCAL {
        if !names.contains(&local) {
            names.push(local);
        }
    }
    names.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_that_somebody_else_listed_stay_listed() {
        assert_eq!(with_local_volumes(None), "decree-state,decree-run");
        let present = "cache, decree-run".to_owned();
        assert_eq!(with_local_volumes(Some(&present)), "cache,decree-run,decree-state");
    }
}
