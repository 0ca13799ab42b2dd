//! The CRD is structural, its rules are there, and examples of API.md fit it.

use decree_crds::{ConsensusGroup, ConsensusGroupSpec, DecisionEngine};
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
    assert_eq!(engine.spec.kafka.unwrap().replication_factor, 3);
    assert_eq!(engine.spec.consensus_group, None);
    assert_eq!(engine.spec.failure_detection.suspect_after, 3);
    assert_eq!(serde_json::to_value(&engine.spec.failure_detection).unwrap()["heartbeat"], "1s");
}

#[test]
fn one_thing_orders_and_goes_on_to() {
    let crd = serde_json::to_value(DecisionEngine::crd()).unwrap();
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let rules = spec["x-kubernetes-validations"].to_string();
    for part in
        ["one of kafka and consensusGroup is needed", "is not supported yet", "the order can't change"]
    {
        assert!(rules.contains(part), "{part} in {rules}");
    }
    assert_eq!(spec["required"].to_string(), r#"["agents"]"#);
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

#[test]
fn a_group_has_the_columns_and_rules_that_it_promises() {
    let crd = serde_json::to_value(ConsensusGroup::crd()).unwrap();
    assert_eq!(crd["metadata"]["name"], "consensusgroups.decree.dev");
    assert_eq!(crd["spec"]["names"]["shortNames"][0], "dcg");
    let text = crd.to_string();
    assert!(text.contains(r#""x-kubernetes-list-map-keys":["id"]"#), "members is a map list");
    assert!(text.contains("voters must be odd"));
    assert!(!text.contains(r#""format":"uint"#), "Kubernetes knows no unsigned formats");
    assert!(!text.contains(r#""$ref""#), "a structural schema has no references");
}

#[test]
fn a_group_of_which_nothing_is_said_has_three_voters() {
    let group: ConsensusGroup = serde_yaml::from_str(
        "
apiVersion: decree.dev/v1alpha1
kind: ConsensusGroup
metadata: {name: policy}
spec: {}
",
    )
    .unwrap();
    assert_eq!(group.spec, ConsensusGroupSpec::default());
    assert_eq!((group.spec.voters, group.spec.election_timeout.to_string().as_str()), (3, "1s"));
}
