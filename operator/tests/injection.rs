//! Golden pods: what the injection makes of whole manifests. `UPDATE_GOLDEN=1` writes the `.injected.yaml` files anew.
#![allow(clippy::unwrap_used, clippy::panic)] // functions of tests, which clippy doesn't take for tests

use std::path::{Path, PathBuf};

use decree_crds::DecisionEngine;
use decree_operator::inject::select::Skip;
use decree_operator::inject::sidecar::Sidecar;
use decree_operator::inject::{Answer, answer};
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use serde_json::Value;

#[test]
fn a_pod_that_says_the_least() {
    golden("smallest");
}

#[test]
fn a_pod_that_has_one_of_each_already() {
    golden("everything");
}

#[test]
fn a_pod_in_a_mesh() {
    golden("mesh");
}

#[test]
fn a_pod_with_probes_and_named_ports() {
    golden("probed");
}

#[test]
fn a_member_of_a_group() {
    golden("member");
}

#[test]
fn a_pod_that_only_a_new_one_can_stand_in_for() {
    golden("lasting");
}

fn golden(name: &str) {
    let before: Value = serde_yaml::from_str(&read(&file(name, "yaml"))).unwrap();
    let after = injected(&before);
    let text = serde_yaml::to_string(&after).unwrap();
    let expected = file(name, "injected.yaml");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&expected, &text).unwrap();
    }
    assert_eq!(text, read(&expected), "{name}");

    let again: Pod = serde_json::from_value(after).unwrap();
    assert_eq!(
        answer(&again, "shop", &engines(), &Sidecar::new("decree/sidecar:test")),
        Answer::Unchanged(Skip::AlreadyInjected),
        "a second call patches nothing"
    );
}

fn injected(before: &Value) -> Value {
    let pod: Pod = serde_json::from_value(before.clone()).unwrap();
    match answer(&pod, "shop", &engines(), &Sidecar::new("decree/sidecar:test")) {
        Answer::Injected { patch, .. } => {
            let mut after = before.clone();
            json_patch::patch(&mut after, &patch).unwrap();
            after
        }
        other => panic!("{other:?}"),
    }
}

fn engines() -> Vec<DecisionEngine> {
    let text = read(&file("engines", "yaml"));
    serde_yaml::Deserializer::from_str(&text).map(|one| DecisionEngine::deserialize(one).unwrap()).collect()
}

fn file(name: &str, extension: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.{extension}"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
