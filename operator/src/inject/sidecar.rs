//! The sidecar's image and resources: those that the operator was installed with, overlaid by the engine's.

use std::collections::BTreeMap;

use decree_crds::engine::sidecar::Sidecar as Spec;
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// What can be chosen about the injected container.
#[derive(Clone, Debug, PartialEq)]
pub struct Sidecar {
    /// Its image.
    pub image: String,
    /// When a node pulls it.
    pub pull_policy: String,
    /// Its requests and limits.
    pub resources: ResourceRequirements,
}

impl Sidecar {
    /// An image with the pull policy and the resources that nobody chose.
    #[must_use]
    pub fn new(image: impl Into<String>) -> Self {
        Self { image: image.into(), pull_policy: "IfNotPresent".to_owned(), resources: default_resources() }
    }

    /// What an engine's pods get: its own choice where it made one.
    #[must_use]
    pub fn overlaid(&self, spec: &Spec) -> Self {
        let Spec { image, resources } = spec;
        Self {
            image: image.clone().unwrap_or_else(|| self.image.clone()),
            pull_policy: self.pull_policy.clone(),
            // As a whole: an engine's request beside a default limit could exceed it, and the pod would be invalid.
            resources: resources.clone().unwrap_or_else(|| self.resources.clone()),
        }
    }
}

/// Requests and limits for everything: a ResourceQuota refuses containers that lack any of them.
fn default_resources() -> ResourceRequirements {
    ResourceRequirements {
        requests: Some(quantities(&[("cpu", "20m"), ("memory", "40Mi")])),
        limits: Some(quantities(&[("cpu", "1"), ("memory", "128Mi")])),
        ..ResourceRequirements::default()
    }
}

fn quantities(of: &[(&str, &str)]) -> BTreeMap<String, Quantity> {
    of.iter().map(|(name, value)| ((*name).to_owned(), Quantity((*value).to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_overrides_what_it_names_and_nothing_else() {
        let installed = Sidecar::new("decree/sidecar:1");
        let own = ResourceRequirements {
            requests: Some(quantities(&[("memory", "256Mi")])),
            ..ResourceRequirements::default()
        };
        let spec = Spec { image: None, resources: Some(own.clone()) };
        let overlaid = installed.overlaid(&spec);
        assert_eq!(overlaid.image, "decree/sidecar:1");
        assert_eq!(overlaid.resources, own);
        assert_eq!(installed.overlaid(&Spec::default()), installed);
    }
}
