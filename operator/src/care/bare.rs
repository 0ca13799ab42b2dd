//! Labelled pods without a sidecar: they were made while the webhook was away, or got the label afterwards; and whether
//! a successor would have one. Pure.

use std::sync::Arc;

use decree_crds::DecisionEngine;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::memory::Memory;
use super::pods;
use crate::inject::refusal::Refusal;
use crate::inject::select::Skip;
use crate::inject::sidecar::Sidecar;
use crate::inject::{self, Answer};

/// Pods that say that they are agents and aren't.
pub fn bare(all: &[Arc<Pod>]) -> impl Iterator<Item = &Pod> {
    all.iter()
        .map(AsRef::as_ref)
        .filter(|pod| !pods::is_ending(pod) && !pods::has_ended(pod) && !pods::is_injected(pod))
}

/// Those that may be evicted once it is shown that injection works: each owner's first one, and a further one only when
/// a pod that the owner made since then has its sidecar. An owner whose pods stay bare is thus tried once.
pub fn replaceable<'a>(all: &'a [Arc<Pod>], memory: &Memory) -> Vec<&'a Pod> {
    let hopeful = |pod: &&Pod| {
        let Some(owner) = pods::owner(pod) else { return false };
        let Some(before) = memory.bare_evicted(&owner.uid) else { return true };
        all.iter().any(|other| {
            let of_owner = pods::owner(other).is_some_and(|of| of.uid == owner.uid);
            let made_since = other.uid().is_some_and(|uid| !before.contains(&uid));
            of_owner && made_since && pods::is_ready(other)
        })
    };
    bare(all).filter(hopeful).collect()
}

/// Whether the injection takes such a pod; one that has its sidecar was taken before.
///
/// # Errors
/// If it does not, in words for a person.
pub fn would_be_injected(pod: &Pod, engine: &DecisionEngine, installed: &Sidecar) -> Result<(), String> {
    let namespace = pod.namespace().unwrap_or_default();
    match inject::answer(&stripped(pod), &namespace, &[engine], installed) {
        Answer::Injected { .. } | Answer::Amended { .. } | Answer::Unchanged(Skip::AlreadyInjected) => Ok(()),
        // Somebody wrote over its annotation: its successor is made from a template without the sidecar.
        Answer::Refused(Refusal::ContainerTaken) if pods::is_injected(pod) => Ok(()),
        Answer::Refused(refusal) => {
            Err(format!("it stays, because its successor would not be created: {refusal}"))
        }
        Answer::Unchanged(skip) => {
            Err(format!("it stays, because injection passes over it: {}", skip.reason()))
        }
    }
}

/// The pod as its owner would make it: without what only one that runs has.
fn stripped(pod: &Pod) -> Pod {
    let mut stripped = Pod { status: None, ..pod.clone() };
    stripped.metadata.uid = None;
    stripped.metadata.resource_version = None;
    if let Some(spec) = &mut stripped.spec {
        spec.node_name = None;
    }
    stripped
}

#[cfg(test)]
mod tests {
    use super::super::pods::example;
    use super::*;

    fn pod(name: &str, injected: bool) -> Arc<Pod> {
        let mut pod = example(name, true);
        if !injected {
            pod.spec.as_mut().unwrap().init_containers = None;
        }
        Arc::new(pod)
    }

    fn names(pods: &[&Pod]) -> Vec<String> {
        pods.iter().map(|pod| pod.name_any()).collect()
    }

    #[test]
    fn an_owner_is_tried_once_and_again_when_that_helped() {
        let mut memory = Memory::default();
        let all = [pod("a", false), pod("b", false), pod("c", true)];
        assert_eq!(bare(&all).count(), 2);
        assert_eq!(names(&replaceable(&all, &memory)), ["a", "b"]);
        memory.tried("owner", all.iter().filter_map(|pod| pod.uid()).collect());
        assert!(replaceable(&all[1..], &memory).is_empty(), "c had its sidecar before");
        let in_vain = [pod("d", false), pod("b", false), pod("c", true)];
        assert!(replaceable(&in_vain, &memory).is_empty());
        let helped = [pod("d", true), pod("b", false)];
        assert_eq!(names(&replaceable(&helped, &memory)), ["b"]);
    }

    fn engine() -> DecisionEngine {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "decree.dev/v1alpha1", "kind": "DecisionEngine",
            "metadata": {"name": "policy", "namespace": "shop"},
            "spec": {
                "kafka": {"bootstrapServers": ["k:9092"]},
                "agents": [{"class": "opa", "app": {"port": 8181}, "apply": {"path": "/"}}],
            },
        }))
        .unwrap()
    }

    #[test]
    fn what_injection_would_refuse_or_pass_over_stays_with_the_reason() {
        let judged = |change: &dyn Fn(&mut Pod)| {
            let mut pod = pod("a", false).as_ref().clone();
            pod.spec.as_mut().unwrap().containers[0].ports = None;
            change(&mut pod);
            would_be_injected(&pod, &engine(), &Sidecar::new("sidecar:1"))
        };
        assert_eq!(judged(&|_| {}), Ok(()));
        let ran = judged(&|pod| pod.spec.as_mut().unwrap().node_name = Some("node1".into()));
        assert_eq!(ran, Ok(()), "that it runs somewhere is nothing of its template");
        let host = judged(&|pod| pod.spec.as_mut().unwrap().host_network = Some(true)).unwrap_err();
        assert!(host.contains("would not be created") && host.contains("hostNetwork"), "{host}");
        let unlabelled = judged(&|pod| pod.metadata.labels = None).unwrap_err();
        assert!(unlabelled.contains("passes over it"), "{unlabelled}");

        let named = |pod: &mut Pod| pod.spec.as_mut().unwrap().containers[0].name = "decree".into();
        assert!(judged(&named).unwrap_err().contains("would not be created"));
        let agent = pod("a", true);
        let lost_its_annotation = would_be_injected(&agent, &engine(), &Sidecar::new("sidecar:1"));
        assert_eq!(lost_its_annotation, Ok(()), "its template has no sidecar");
    }

    #[test]
    fn a_pod_that_nobody_owns_stays() {
        let mut lone = pod("a", false).as_ref().clone();
        lone.metadata.owner_references = None;
        assert!(replaceable(&[Arc::new(lone)], &Memory::default()).is_empty());
    }
}
