//! What can't work is refused when it is applied, with the field's name and the remedy.

use std::time::Duration;

use anyhow::{Result, ensure};
use decree_e2e::{Bed, Namespace, manifests};
use serde_json::{Value, json};

const ENGINE: &str = "policy";

/// A fault in a manifest: what is done to a good one, and words that the refusal must contain.
type Fault = (&'static str, fn(&mut Value), &'static [&'static str]);

const ENGINE_FAULTS: [Fault; 21] = [
    (
        "both ways to apply",
        |e| class(e)["apply"] = json!({"path": "/x"}),
        &["spec.agents[0]", "exactly one of replicate and apply"],
    ),
    (
        "no way to apply",
        |e| drop(class(e).as_object_mut().and_then(|c| c.remove("replicate"))),
        &["spec.agents[0]", "exactly one of replicate and apply"],
    ),
    (
        "a port of the sidecar's",
        |e| class(e)["app"]["port"] = json!(7072),
        &["spec.agents[0].app.port", "let the application listen on another port"],
    ),
    ("no port at all", |e| class(e)["app"]["port"] = json!(70000), &["spec.agents[0].app.port", "65535"]),
    (
        "a health path without a slash",
        |e| class(e)["app"]["health"]["path"] = json!("health"),
        &["app.health.path", "must begin with /"],
    ),
    (
        "a duration in words",
        |e| class(e)["app"]["overdueAfter"] = json!("soon"),
        &["app.overdueAfter", "as 30s"],
    ),
    (
        "a method in lower case",
        |e| class(e)["replicate"]["rules"][0]["methods"] = json!(["put"]),
        &["rules[0].methods", "^[A-Z]"],
    ),
    (
        "a prefix with a query",
        |e| class(e)["replicate"]["rules"][0]["pathPrefix"] = json!("/v1?x"),
        &["rules[0].pathPrefix", "without a query"],
    ),
    ("no rules", |e| class(e)["replicate"]["rules"] = json!([]), &["replicate.rules", "at least 1"]),
    (
        "a way of reading that nobody knows",
        |e| class(e)["replicate"]["reads"] = json!("Sometimes"),
        &["replicate.reads", "Barrier"],
    ),
    (
        "a Service port out of range",
        |e| class(e)["replicate"]["service"]["port"] = json!(0),
        &["replicate.service.port"],
    ),
    (
        "a server with a scheme",
        |e| kafka(e)["bootstrapServers"] = json!(["kafka://a:9092"]),
        &["spec.kafka.bootstrapServers", "host:port without a scheme"],
    ),
    (
        "no servers",
        |e| kafka(e)["bootstrapServers"] = json!([]),
        &["spec.kafka.bootstrapServers", "at least 1"],
    ),
    (
        "a setting that is Decree's",
        |e| kafka(e)["topic"] = json!({"config": {"retention.ms": "1"}}),
        &["spec.kafka.topic.config", "remove them from topic.config"],
    ),
    (
        "nothing that orders",
        |e| drop(e["spec"].as_object_mut().and_then(|s| s.remove("kafka"))),
        &["spec", "one of kafka and consensusGroup is needed"],
    ),
    (
        "two things that order",
        |e| e["spec"]["consensusGroup"] = json!({"name": "policy"}),
        &["spec", "kafka beside consensusGroup is not supported yet"],
    ),
    ("no agents", |e| e["spec"]["agents"] = json!([]), &["spec.agents", "at least 1"]),
    (
        "one class twice",
        |e| e["spec"]["agents"] = json!([class(e).clone(), class(e).clone()]),
        &["spec.agents[1]", "Duplicate"],
    ),
    (
        "one Service for two classes",
        |e| {
            let mut other = class(e).clone();
            other["class"] = json!("other");
            e["spec"]["agents"] = json!([class(e).clone(), other]);
        },
        &["spec", "a Service name of its own"],
    ),
    (
        "a heartbeat that is too fast",
        |e| e["spec"]["failureDetection"] = json!({"heartbeat": "1ms"}),
        &["spec.failureDetection.heartbeat", "from 100ms to 1m"],
    ),
    (
        "a field that is not there",
        |e| e["spec"]["consensusGruop"] = json!({}),
        &["unknown field", "spec.consensusGruop"],
    ),
];

const POD_FAULTS: [Fault; 5] = [
    (
        "an engine that is not there",
        |p| p["metadata"]["labels"]["decree.dev/engine"] = json!("polices"),
        &["polices", ENGINE, "two-classes"],
    ),
    (
        "no class where there are two",
        |p| p["metadata"]["labels"]["decree.dev/engine"] = json!("two-classes"),
        &["decree.dev/class", "one", "two"],
    ),
    ("the host's network", |p| p["spec"]["hostNetwork"] = json!(true), &["hostNetwork"]),
    (
        "a port of the sidecar's",
        |p| p["spec"]["containers"][0]["ports"] = json!([{"containerPort": 7071}]),
        &["7071"],
    ),
    ("a container named decree", |p| p["spec"]["containers"][0]["name"] = json!("decree"), &["decree"]),
];

#[test]
#[ignore = "needs a bed: cargo verify"]
fn an_invalid_engine_is_refused() -> Result<()> {
    Bed::of_test()?.in_namespace("refusals", |namespace| {
        let good = manifests::opa_engine(namespace.bed(), ENGINE);
        refuse_each(namespace, &good, &ENGINE_FAULTS)?;
        let mut long = good.clone();
        long["metadata"]["name"] = json!("a".repeat(41));
        refuse(namespace, &long, "a name that is too long", &["metadata.name", "at most 40 characters"])?;

        namespace.apply(&good.to_string())?;
        let changes: [Fault; 2] = [
            (
                "another topic",
                |e| kafka(e)["topic"] = json!({"name": "other"}),
                &["kafka.topic.name", "make a new DecisionEngine"],
            ),
            (
                "another class",
                |e| class(e)["class"] = json!("other"),
                &["class names", "make a new DecisionEngine"],
            ),
        ];
        refuse_each(namespace, &good, &changes)
    })
}

#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_pod_that_cannot_be_an_agent_is_refused() -> Result<()> {
    Bed::of_test()?.in_namespace("pods", |namespace| {
        let engine = manifests::recorder_engine(namespace.bed(), ENGINE);
        let mut two = manifests::recorder_engine(namespace.bed(), "two-classes");
        let mut classes = [class(&mut two).clone(), class(&mut two).clone()];
        classes[0]["class"] = json!("one");
        classes[1]["class"] = json!("two");
        two["spec"]["agents"] = json!(classes);
        namespace.apply(&engine.to_string())?;
        namespace.apply(&two.to_string())?;
        // The webhook hears of engines a moment after the API server.
        let pod = manifests::recorder_pod(ENGINE);
        namespace.wait("the injection to know the engine", Duration::from_secs(30), || {
            namespace
                .bed()
                .kubectl_with_input(
                    &["--namespace", namespace.name(), "apply", "--dry-run=server", "-f", "-"],
                    &pod.to_string(),
                )
                .map(Some)
        })?;
        refuse_each(namespace, &pod, &POD_FAULTS)
    })
}

fn refuse_each(namespace: &Namespace, good: &Value, faults: &[Fault]) -> Result<()> {
    for (fault, spoil, words) in faults {
        let mut bad = good.clone();
        spoil(&mut bad);
        refuse(namespace, &bad, fault, words)?;
    }
    println!("{} refused with their remedies", faults.len());
    Ok(())
}

fn refuse(namespace: &Namespace, manifest: &Value, fault: &str, words: &[&str]) -> Result<()> {
    let refusal = namespace.apply_expect_refused(&manifest.to_string())?;
    for word in words {
        ensure!(refusal.contains(word), "{fault}: {word:?} is not in the refusal: {refusal}");
    }
    println!("{fault}: {}", refusal.lines().last().unwrap_or_default());
    Ok(())
}

fn class(engine: &mut Value) -> &mut Value {
    &mut engine["spec"]["agents"][0]
}

fn kafka(engine: &mut Value) -> &mut Value {
    &mut engine["spec"]["kafka"]
}
