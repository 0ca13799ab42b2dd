//! The CRD is structural, its rules are there, and examples of API.md fit it.

use decree_crds::DecisionEngine;
use kube::CustomResourceExt;

#[test]
fn the_crd_names_what_the_api_promises() {
    let crd = serde_json::to_value(DecisionEngine::crd()).unwrap();
    let text = crd.to_string();
    assert_eq!(crd["metadata"]["name"], "decisionengines.decree.dev");
    assert_eq!(crd["spec"]["names"]["shortNames"][0], "deng");
    assert!(text.contains(r#""x-kubernetes-list-map-keys":["class"]"#), "agents is a map list");
    assert!(text.contains("exactly one of replicate and apply"));
    assert!(!text.contains(r#""format":"uint"#), "Kubernetes knows no unsigned formats");
    assert!(!text.contains(r#""$ref""#), "a structural schema has no references");
}

#[test]
fn defaults_are_filled_in() {
    let engine: DecisionEngine = serde_yaml::from_str(
        "
apiVersion: decree.dev/v1alpha1
kind: DecisionEngine
metadata: {name: policy}
spec:
  kafka: {bootstrapServers: [kafka-0.kafka:9092]}
  agents:
  - class: opa
    app: {port: 8181}
    replicate: {rules: [{methods: [PUT], pathPrefix: /v1/}]}
",
    )
    .unwrap();
    assert_eq!(engine.spec.kafka.replication_factor, 3);
    assert_eq!(engine.spec.failure_detection.suspect_after, 3);
    assert_eq!(serde_json::to_value(&engine.spec.failure_detection).unwrap()["heartbeat"], "1s");
}

#[test]
fn what_was_adopted_is_not_deleted() {
    let crd = serde_json::to_value(DecisionEngine::crd()).unwrap();
    let kafka =
        &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["kafka"];
    let rules = kafka["x-kubernetes-validations"].to_string();
    assert!(rules.contains("deletionPolicy Delete does not go with topic.adopt"), "{rules}");
    assert_eq!(kafka["properties"]["deletionPolicy"]["default"], "Retain");
}
