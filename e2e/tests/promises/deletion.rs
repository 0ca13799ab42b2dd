//! Deleting an engine keeps its topic or deletes it, as its policy says, and its namespace always terminates.

use std::time::Duration;

use anyhow::{Result, ensure};
use decree_e2e::{Bed, Namespace, manifests, wait};
use serde_json::{Value, json};

const ENGINE: &str = "ledger";
const LIMIT: Duration = Duration::from_secs(60);
/// After two minutes an engine goes without its topics.
const GIVEN_UP: Duration = Duration::from_secs(200);
/// Nobody listens there.
const AWAY: &str = "10.77.0.11:9999";

#[test]
#[ignore = "needs a bed: cargo verify"]
fn retain_keeps_the_topic_and_an_engine_of_that_name_goes_on_with_it() -> Result<()> {
    Bed::of_test()?.in_namespace("retain", |namespace| {
        let engine = manifests::recorder_engine(namespace.bed(), ENGINE).to_string();
        namespace.apply(&engine)?;
        let first = namespace.wait_engine(ENGINE, "Ready", "True", LIMIT)?;
        ensure!(first["metadata"]["finalizers"].is_null(), "{}", first["metadata"]);
        namespace.kubectl(&["delete", "decisionengine", ENGINE, "--timeout=30s"])?;
        ensure!(topic_exists(namespace)?, "the topic went with its engine");
        namespace.apply(&engine)?;
        let second = namespace.wait_engine(ENGINE, "Ready", "True", LIMIT)?;
        ensure!(
            first["status"]["topic"]["id"] == second["status"]["topic"]["id"],
            "another log: {}, then {}",
            first["status"],
            second["status"]
        );
        ensure!(second["status"]["topic"]["created"] == false, "{}", second["status"]);
        Ok(())
    })
}

#[test]
#[ignore = "needs a bed: cargo verify"]
fn delete_takes_what_the_engine_made_with_it() -> Result<()> {
    Bed::of_test()?.in_namespace("delete", |namespace| {
        namespace.apply(&engine(namespace.bed(), "Delete").to_string())?;
        let found = namespace.wait_engine(ENGINE, "Ready", "True", LIMIT)?;
        ensure!(found["metadata"]["finalizers"] == json!(["decree.dev/topics"]), "{}", found["metadata"]);
        // Back and forth: the finalizer follows.
        namespace.apply(&engine(namespace.bed(), "Retain").to_string())?;
        namespace.wait("no finalizer", LIMIT, || {
            let found = namespace.get_json("decisionengine", ENGINE)?;
            Ok(found["metadata"]["finalizers"].is_null().then_some(()))
        })?;
        namespace.apply(&engine(namespace.bed(), "Delete").to_string())?;
        namespace.wait("the finalizer", LIMIT, || {
            let found = namespace.get_json("decisionengine", ENGINE)?;
            Ok(found["metadata"]["finalizers"].is_array().then_some(()))
        })?;
        namespace.kubectl(&["delete", "decisionengine", ENGINE, "--timeout=60s"])?;
        namespace.wait("the topic to be gone", LIMIT, || Ok((!topic_exists(namespace)?).then_some(())))
    })
}

#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_namespace_terminates_though_kafka_is_away() -> Result<()> {
    let bed = Bed::of_test()?;
    let name = bed.in_namespace("away", |namespace| {
        namespace.apply(&engine(&bed, "Delete").to_string())?;
        namespace.wait_engine(ENGINE, "Ready", "True", LIMIT)?;
        let patch = json!({"spec": {"kafka": {"bootstrapServers": [AWAY]}}}).to_string();
        namespace.kubectl(&["patch", "decisionengine", ENGINE, "--type=merge", "-p", &patch])?;
        namespace.wait_engine_reason(ENGINE, "KafkaUnreachable", LIMIT)?;
        bed.kubectl(&["delete", "namespace", namespace.name(), "--wait=false"])?;
        println!("{}", namespace.wait_engine_reason(ENGINE, "Deleting", LIMIT)?);
        Ok(namespace.name().to_owned())
    })?;
    wait::until(format!("namespace {name} to terminate"), GIVEN_UP, || {
        let left = bed.kubectl(&["get", "namespace", &name, "--ignore-not-found", "-o", "name"])?;
        Ok(left.trim().is_empty().then_some(()))
    })
}

#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_paused_engine_is_left_as_it_is_and_says_so() -> Result<()> {
    Bed::of_test()?.in_namespace("paused", |namespace| {
        namespace.apply(&manifests::recorder_engine(namespace.bed(), ENGINE).to_string())?;
        namespace.wait_engine(ENGINE, "Ready", "True", LIMIT)?;
        namespace.kubectl(&["annotate", "decisionengine", ENGINE, "decree.dev/paused=true"])?;
        let paused = namespace.wait_engine(ENGINE, "Paused", "True", LIMIT)?;
        ensure!(decree_e2e::agents::status_of(&paused, "Ready") == Some("True"), "{}", paused["status"]);
        namespace.kubectl(&["delete", "secret", &format!("decree-{ENGINE}")])?;
        let patch = r#"{"spec":{"failureDetection":{"suspectAfter":5}}}"#;
        namespace.kubectl(&["patch", "decisionengine", ENGINE, "--type=merge", "-p", patch])?;
        std::thread::sleep(Duration::from_secs(5));
        let secrets = namespace.list_json("secret", "app.kubernetes.io/managed-by=decree")?;
        ensure!(secrets.is_empty(), "it was reconciled");
        namespace.kubectl(&["annotate", "decisionengine", ENGINE, "decree.dev/paused-"])?;
        namespace.wait("the Secret to be back", LIMIT, || {
            namespace.get_json("secret", &format!("decree-{ENGINE}")).map(Some)
        })?;
        namespace.wait("the pause to be over", LIMIT, || {
            let engine = namespace.get_json("decisionengine", ENGINE)?;
            Ok(decree_e2e::agents::status_of(&engine, "Paused").is_none().then_some(()))
        })
    })
}

fn engine(bed: &Bed, policy: &str) -> Value {
    let mut engine = manifests::recorder_engine(bed, ENGINE);
    engine["spec"]["kafka"]["deletionPolicy"] = json!(policy);
    engine
}

fn topic_exists(namespace: &Namespace) -> Result<bool> {
    let topic = format!("decree.{}.{ENGINE}", namespace.name());
    let topics = namespace.bed().kafka_tool("kafka-topics", &["--list"], None)?;
    Ok(topics.lines().any(|line| line == topic))
}
