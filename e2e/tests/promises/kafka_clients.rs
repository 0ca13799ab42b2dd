//! Plain Kafka clients take part: what they produce is applied, what sidecars wrote they read, the lag they see.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use decree_e2e::client::Request;
use decree_e2e::{Bed, Namespace, manifests};
use decree_wire::pod::port;
use serde_json::Value;

const ENGINE: &str = "ledger";
const LIMIT: Duration = Duration::from_secs(30);
const PLAIN: usize = 25;
const HELD: usize = 5;

#[test]
#[ignore = "needs a bed: cargo verify"]
fn plain_kafka_clients_take_part() -> Result<()> {
    Bed::of_test()?.in_namespace("kafka", |namespace| {
        namespace.apply(&manifests::recorder_engine(namespace.bed(), ENGINE).to_string())?;
        namespace.apply(&manifests::recorders(ENGINE, 1, &[]).to_string())?;
        let agents = namespace.wait_agents(ENGINE, 1, Duration::from_secs(120))?;
        let agent = &agents[0];
        let topic = format!("decree.{}.{ENGINE}", namespace.name());

        let sent: Vec<String> = (0..PLAIN).map(|number| format!(r#"{{"plain":{number}}}"#)).collect();
        produce(namespace, &topic, &sent)?;
        let recorded = agent.wait_recorded(PLAIN, LIMIT)?;
        let bodies: Vec<&str> = recorded.iter().filter_map(|each| each["body"].as_str()).collect();
        ensure!(bodies == sent, "produced {sent:?}, applied {bodies:?}");
        println!("{PLAIN} records of Kafka's console producer were applied in their order");

        let api = namespace.forward(&agent.pod, port::API)?;
        let request = Request {
            method: "POST",
            path: "/v1/commands".to_owned(),
            headers: vec![
                ("content-type", "application/json".to_owned()),
                ("ce-id", "from-a-sidecar".to_owned()),
                ("ce-type", "test.sale".to_owned()),
            ],
            body: r#"{"by":"sidecar"}"#.to_owned(),
            id: None,
        };
        let reply = api.client().send_until_answered(&request, LIMIT).last?;
        ensure!(reply.status == 200, "{reply:?}");
        let position = reply.header("decree-position").context("find a position")?.to_owned();
        let read = consume(namespace, &topic, &position)?;
        for part in [r#"{"by":"sidecar"}"#, "ce_id:from-a-sidecar", "ce_type:test.sale", "ce_specversion:1.0"]
        {
            ensure!(read.contains(part), "{part} is not in what the console consumer read: {read}");
        }
        println!("the console consumer read: {}", read.trim());

        lag_is_seen(namespace, &topic, &agent.pod)
    })
}

fn lag_is_seen(namespace: &Namespace, topic: &str, pod: &str) -> Result<()> {
    let group = format!("decree.{}.{ENGINE}.{pod}", namespace.name());
    let mut held = vec![r#"{"hold_ms":45000}"#.to_owned()];
    held.extend((0..HELD).map(|number| format!(r#"{{"behind":{number}}}"#)));
    produce(namespace, topic, &held)?;
    namespace.wait("a lag in kafka-consumer-groups", LIMIT, || match lag(namespace, &group)? {
        lag if lag > HELD as u64 => {
            println!("kafka-consumer-groups sees {group} lag by {lag}");
            Ok(Some(()))
        }
        lag => bail!("{lag}"),
    })?;
    namespace.wait("no lag in kafka-consumer-groups", Duration::from_secs(150), || {
        match lag(namespace, &group)? {
            0 => Ok(Some(())),
            lag => bail!("{lag}"),
        }
    })
}

fn produce(namespace: &Namespace, topic: &str, lines: &[String]) -> Result<()> {
    let input = lines.join("\n") + "\n";
    namespace.bed().kafka_tool("kafka-console-producer", &["--topic", topic], Some(&input)).map(drop)
}

fn consume(namespace: &Namespace, topic: &str, position: &str) -> Result<String> {
    let arguments = [
        ["--topic", topic],
        ["--partition", "0"],
        ["--offset", position],
        ["--max-messages", "1"],
        ["--timeout-ms", "20000"],
        ["--property", "print.headers=true"],
    ];
    namespace.bed().kafka_tool("kafka-console-consumer", arguments.as_flattened(), None)
}

/// The column LAG of the one partition.
fn lag(namespace: &Namespace, group: &str) -> Result<u64> {
    let table =
        namespace.bed().kafka_tool("kafka-consumer-groups", &["--describe", "--group", group], None)?;
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let header =
        rows.find(|row| row.contains(&"LAG")).with_context(|| format!("find a table in {table:?}"))?;
    let column = header.iter().position(|name| *name == "LAG").context("find the column LAG")?;
    let value = rows.find_map(|row| row.get(column).map(|value| (*value).to_owned()));
    let value = value.with_context(|| format!("find a row in {table:?}"))?;
    value.parse().with_context(|| format!("read {} as a lag", Value::from(value)))
}
