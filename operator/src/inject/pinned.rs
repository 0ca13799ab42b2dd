//! What of the spec an agent keeps until its pod is made anew: written at injection, compared afterwards. Pure.

use decree_crds::engine::agents::Agent;
use k8s_openapi::api::core::v1::ResourceRequirements;
use serde::{Deserialize, Serialize};

use super::sidecar::Sidecar;

/// As it was when the pod was made; part of the annotation `decree.dev/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pinned {
    /// `app.port`.
    pub port: i32,
    /// The application's container.
    pub container: String,
    /// `replicate` or `apply`.
    pub mode: String,
    /// `app.scratch`, in order.
    pub scratch: Vec<String>,
    /// The sidecar's image.
    pub image: String,
    /// The sidecar's requests and limits.
    pub resources: ResourceRequirements,
}

impl Pinned {
    /// What an injection now gives a pod whose application is in `container`.
    #[must_use]
    pub fn new(agent: &Agent, container: &str, sidecar: &Sidecar) -> Self {
        let mut scratch = agent.app.scratch.clone();
        scratch.sort_unstable();
        Self {
            port: agent.app.port,
            container: container.to_owned(),
            mode: if agent.replicate.is_some() { "replicate" } else { "apply" }.to_owned(),
            scratch,
            image: sidecar.image.clone(),
            resources: sidecar.resources.clone(),
        }
    }

    /// The fields of the spec by which two differ, as a person finds them there.
    #[must_use]
    pub fn differs(&self, other: &Self) -> Vec<&'static str> {
        let fields = [
            ("app.port", self.port != other.port),
            ("app.container", self.container != other.container),
            ("replicate or apply", self.mode != other.mode),
            ("app.scratch", self.scratch != other.scratch),
            ("sidecar.image", self.image != other.image),
            ("sidecar.resources", self.resources != other.resources),
        ];
        fields.into_iter().filter(|(_, differs)| *differs).map(|(field, _)| field).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(port: i32) -> Agent {
        serde_json::from_value(serde_json::json!({
            "class": "a", "app": {"port": port, "scratch": ["b", "a"]}, "apply": {"path": "/"},
        }))
        .unwrap()
    }

    #[test]
    fn what_was_written_is_read_again_and_differences_are_named() {
        let before = Pinned::new(&agent(80), "app", &Sidecar::new("image:1"));
        let read: Pinned = serde_json::from_str(&serde_json::to_string(&before).unwrap()).unwrap();
        assert_eq!(read, before);
        assert!(read.differs(&before).is_empty());
        let after = Pinned::new(&agent(81), "app", &Sidecar::new("image:2"));
        assert_eq!(read.differs(&after), ["app.port", "sidecar.image"]);
    }
}
