//! An engine whose Kafka or topic is not as it must be says so, and heals when that is mended.

use std::time::Duration;

use anyhow::{Result, ensure};
use decree_e2e::agents::status_of;
use decree_e2e::{Bed, manifests};
use serde_json::{Value, json};

const ENGINE: &str = "ledger";
const LIMIT: Duration = Duration::from_secs(60);

#[test]
#[ignore = "needs a bed: cargo verify"]
fn an_unreachable_kafka_is_named_and_heals() -> Result<()> {
    Bed::of_test()?.in_namespace("unreachable", |namespace| {
        let right = manifests::recorder_engine(namespace.bed(), ENGINE);
        let mut wrong = right.clone();
        // A broker's host, and a port where nobody listens.
        wrong["spec"]["kafka"]["bootstrapServers"] = json!(["10.77.0.11:9999"]);
        namespace.apply(&wrong.to_string())?;
        let condition = namespace.wait_engine_reason(ENGINE, "KafkaUnreachable", LIMIT)?;
        println!("{condition}");
        ensure!(said(&condition).contains("10.77.0.11:9999"), "the servers are not named: {condition}");
        let engine = namespace.get_json("decisionengine", ENGINE)?;
        ensure!(status_of(&engine, "Ready") == Some("False"), "{}", engine["status"]);

        namespace.apply(&right.to_string())?;
        let engine = namespace.wait_engine(ENGINE, "Ready", "True", LIMIT)?;
        ensure!(engine["status"]["topic"]["created"] == true, "{}", engine["status"]);
        Ok(())
    })
}

#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_topic_with_two_partitions_is_named_and_heals() -> Result<()> {
    Bed::of_test()?.in_namespace("conflict", |namespace| {
        let topic = format!("decree.{}.{ENGINE}", namespace.name());
        let topics = |arguments: &[&str]| {
            namespace.bed().kafka_tool("kafka-topics", &[arguments, &["--topic", &topic]].concat(), None)
        };
        topics(&["--create", "--partitions", "2", "--replication-factor", "3"])?;
        namespace.apply(&manifests::recorder_engine(namespace.bed(), ENGINE).to_string())?;
        let condition = namespace.wait_engine_reason(ENGINE, "TopicConflict", LIMIT)?;
        println!("{condition}");
        ensure!(said(&condition).contains("partition"), "partitions are not named: {condition}");

        topics(&["--delete"])?;
        namespace.wait_engine(ENGINE, "Ready", "True", LIMIT)?;
        let described = topics(&["--describe"])?;
        ensure!(described.contains("PartitionCount: 1"), "{described}");
        for setting in ["min.insync.replicas=2", "retention.ms=-1", "message.timestamp.type=LogAppendTime"] {
            ensure!(described.contains(setting), "{setting} is not in {described}");
        }
        Ok(())
    })
}

#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_topics_settings_are_put_back() -> Result<()> {
    Bed::of_test()?.in_namespace("drift", |namespace| {
        namespace.apply(&manifests::recorder_engine(namespace.bed(), ENGINE).to_string())?;
        namespace.wait_engine(ENGINE, "Ready", "True", LIMIT)?;
        let topic = format!("decree.{}.{ENGINE}", namespace.name());
        let configs = |arguments: &[&str]| {
            let about = ["--entity-type", "topics", "--entity-name", topic.as_str()];
            namespace.bed().kafka_tool("kafka-configs", &[arguments, &about].concat(), None)
        };
        configs(&["--alter", "--add-config", "retention.ms=60000"])?;
        // Any change of the engine has it look again at once, as the next resync would.
        let patch = r#"{"spec":{"failureDetection":{"suspectAfter":4}}}"#;
        namespace.kubectl(&["patch", "decisionengine", ENGINE, "--type=merge", "-p", patch])?;
        namespace.wait("retention.ms=-1", Duration::from_secs(120), || {
            let described = configs(&["--describe"])?;
            ensure!(described.contains("retention.ms=-1"), "{described}");
            Ok(Some(()))
        })
    })
}

fn said(condition: &Value) -> &str {
    condition["message"].as_str().unwrap_or_default()
}
