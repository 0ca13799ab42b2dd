//! What an engine's objects and topics should be: pure, from a validated engine.

pub mod budget;
pub mod document;
pub mod group;
pub mod isolation;
pub mod secret;
pub mod service;
pub mod topics;

use std::collections::BTreeMap;

use decree_crds::{DecisionEngine, labels};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use serde::Serialize;
use serde_json::Value;

use crate::spec::Engine;

/// Metadata of an object that belongs to the engine and goes with it.
#[must_use]
pub fn metadata(engine: &Engine, name: &str) -> ObjectMeta {
    let labels = BTreeMap::from([
        (labels::MANAGED_BY.to_owned(), labels::FIELD_MANAGER.to_owned()),
        (labels::ENGINE.to_owned(), engine.name.name.clone()),
    ]);
    let owner = OwnerReference {
        api_version: DecisionEngine::api_version(&()).into_owned(),
        kind: DecisionEngine::kind(&()).into_owned(),
        name: engine.name.name.clone(),
        uid: engine.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(engine.name.namespace.clone()),
        labels: Some(labels),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    }
}

/// Whether an object that exists was made for the engine of that name. By label, not by uid: an engine that was
/// deleted and applied again goes on with its objects.
#[must_use]
pub fn is_of(meta: &ObjectMeta, engine: &str) -> bool {
    let label = |key: &str| meta.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    label(labels::MANAGED_BY) == Some(labels::FIELD_MANAGER) && label(labels::ENGINE) == Some(engine)
}

/// Whether `existing` is already as `desired` says, whatever else others have put there.
#[must_use]
pub fn is_as<K: Serialize>(desired: &K, existing: &K) -> bool {
    match (serde_json::to_value(desired), serde_json::to_value(existing)) {
        (Ok(desired), Ok(existing)) => covers(&existing, &desired),
        _ => false,
    }
}

fn covers(existing: &Value, desired: &Value) -> bool {
    match (existing, desired) {
        (Value::Object(existing), Value::Object(desired)) => desired
            .iter()
            .all(|(key, value)| existing.get(key).is_some_and(|existing| covers(existing, value))),
        (Value::Array(existing), Value::Array(desired)) => {
            existing.len() == desired.len()
                && existing.iter().zip(desired).all(|(existing, desired)| covers(existing, desired))
        }
        (existing, desired) => existing == desired,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::covers;

    #[test]
    fn what_others_added_is_no_difference_and_what_is_missing_is() {
        let existing = json!({"a": 1, "list": [{"x": 1, "defaulted": true}], "more": {}});
        assert!(covers(&existing, &json!({"a": 1, "list": [{"x": 1}]})));
        assert!(!covers(&existing, &json!({"a": 2})));
        assert!(!covers(&existing, &json!({"b": 1})));
        assert!(!covers(&existing, &json!({"list": []})));
    }
}
