//! The engine's finalizer, put on and taken off without touching those of others. Pure.

use decree_crds::{DecisionEngine, labels};
use json_patch::Patch;
use kube::ResourceExt;
use serde_json::json;

/// What to write; none where it is as it should be. It fails where the engine was changed meanwhile.
#[must_use]
pub fn patch(object: &DecisionEngine, add: bool) -> Option<Patch> {
    let finalizers = object.finalizers();
    let at = finalizers.iter().position(|finalizer| finalizer == labels::FINALIZER);
    let same = json!({"op": "test", "path": "/metadata/resourceVersion", "value": object.resource_version()});
    let change = match at {
        None if add && finalizers.is_empty() => {
            json!({"op": "add", "path": "/metadata/finalizers", "value": [labels::FINALIZER]})
        }
        None if add => json!({"op": "add", "path": "/metadata/finalizers/-", "value": labels::FINALIZER}),
        Some(at) if !add => json!({"op": "remove", "path": format!("/metadata/finalizers/{at}")}),
        Some(_) | None => return None,
    };
    serde_json::from_value(json!([same, change])).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn engine(finalizers: &[&str]) -> DecisionEngine {
        serde_json::from_value(json!({
            "apiVersion": "decree.dev/v1alpha1", "kind": "DecisionEngine",
            "metadata": {"name": "policy", "namespace": "shop", "resourceVersion": "7", "finalizers": finalizers},
            "spec": {"kafka": {"bootstrapServers": ["a:1"]}, "agents": []},
        }))
        .unwrap()
    }

    fn patched(finalizers: &[&str], add: bool) -> Value {
        let object = engine(finalizers);
        let mut value = serde_json::to_value(&object).unwrap();
        if finalizers.is_empty() {
            value["metadata"].as_object_mut().unwrap().remove("finalizers");
        }
        json_patch::patch(&mut value, &patch(&object, add).unwrap()).unwrap();
        value["metadata"]["finalizers"].clone()
    }

    #[test]
    fn those_of_others_stay() {
        let ours = labels::FINALIZER;
        assert_eq!(patched(&[], true), json!([ours]));
        assert_eq!(patched(&["a"], true), json!(["a", ours]));
        assert_eq!(patched(&["a", ours, "b"], false), json!(["a", "b"]));
        assert!(patch(&engine(&["a", ours]), true).is_none() && patch(&engine(&["a"]), false).is_none());
    }

    #[test]
    fn an_engine_that_was_changed_meanwhile_is_left() {
        let mut value = serde_json::to_value(engine(&["a"])).unwrap();
        value["metadata"]["resourceVersion"] = json!("8");
        assert!(json_patch::patch(&mut value, &patch(&engine(&["a"]), true).unwrap()).is_err());
    }
}
