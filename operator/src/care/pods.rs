//! What a pod is to its engine: an agent, ready, bare, of a class, somebody's.

use std::collections::BTreeMap;

use decree_crds::labels;
use decree_wire::pod::CONTAINER;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use kube::ResourceExt;
use kube::core::{Selector, SelectorExt};

use crate::spec::{Class, Engine};

/// Whether it is going away.
#[must_use]
pub fn is_ending(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether it has ended: its controller has made another already, or never will.
#[must_use]
pub fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether it has a sidecar.
#[must_use]
pub fn is_injected(pod: &Pod) -> bool {
    let containers = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref());
    containers.unwrap_or_default().iter().any(|container| container.name == CONTAINER)
}

/// Ready as the kubelet says, and with a sidecar: without one it applies nothing.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref());
    is_injected(pod)
        && conditions.unwrap_or_default().iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// The class that the pod says, or the only one there is.
#[must_use]
pub fn class<'a>(pod: &Pod, engine: &'a Engine) -> Option<&'a Class> {
    match (pod.labels().get(labels::CLASS), engine.classes.as_slice()) {
        (None, [only]) => Some(only),
        (None, _) => None,
        (Some(wanted), classes) => classes.iter().find(|class| class.name == *wanted),
    }
}

/// Who makes it anew when it is gone.
#[must_use]
pub fn owner(pod: &Pod) -> Option<&OwnerReference> {
    pod.owner_references().iter().find(|owner| owner.controller == Some(true))
}

/// What selects the pods of a class. Where there is one class only, pods may leave its label out.
#[must_use]
pub fn selector(engine: &Engine, class: &Class) -> LabelSelector {
    let mut labels = BTreeMap::from([(labels::ENGINE.to_owned(), engine.name.name.clone())]);
    if engine.classes.len() > 1 {
        labels.insert(labels::CLASS.to_owned(), class.name.clone());
    }
    LabelSelector { match_labels: Some(labels), match_expressions: None }
}

/// Whether a selector selects the pod. None selects nothing, one without a word everything.
#[must_use]
pub fn selects(selector: Option<&LabelSelector>, pod: &Pod) -> bool {
    let selector = selector.cloned().and_then(|selector| Selector::try_from(selector).ok());
    selector.is_some_and(|selector| selector.matches(pod.labels()))
}

/// At most ten names: a message has a limit.
pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const MOST: usize = 10;
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_unstable();
    names.dedup();
    let more = names.len().saturating_sub(MOST);
    let some = names.iter().take(MOST).copied().collect::<Vec<_>>().join(", ");
    if more == 0 { some } else { format!("{some} and {more} more") }
}

/// A pod of the example's engine for tests.
#[cfg(test)]
pub(crate) fn example(name: &str, ready: bool) -> Pod {
    serde_json::from_value(serde_json::json!({
        "metadata": {
            "name": name, "namespace": "shop", "uid": format!("uid-{name}"),
            "labels": {"app": "opa", "decree.dev/engine": "policy", "decree.dev/class": "opa"},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "opa", "uid": "owner", "controller": true,
            }],
        },
        "spec": {
            "containers": [{"name": "opa", "ports": [{"name": "http", "containerPort": 7072}]}],
            "initContainers": [{"name": "decree"}],
        },
        "status": {"phase": "Running",
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    }))
    .unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::example as engine;

    #[test]
    fn a_class_without_others_needs_no_label() {
        let mut engine = engine();
        let mut pod = example("a", true);
        assert_eq!(class(&pod, &engine).unwrap().name, "opa");
        pod.labels_mut().remove(labels::CLASS);
        assert_eq!(class(&pod, &engine).unwrap().name, "opa");
        assert!(selects(Some(&selector(&engine, &engine.classes[0])), &pod));
        engine.classes.push(Class { name: "ml".into(), ..engine.classes[0].clone() });
        assert_eq!(class(&pod, &engine), None);
        assert!(!selects(Some(&selector(&engine, &engine.classes[0])), &pod));
    }

    #[test]
    fn names_are_few() {
        let names: Vec<String> = (10..22).map(|number| format!("p{number}")).collect();
        assert!(named(names.iter().map(String::as_str)).ends_with("p19 and 2 more"));
        assert_eq!(named(["b", "a", "b"]), "a, b");
    }
}
