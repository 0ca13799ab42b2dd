//! What of the spec decides what replicas do is an entry in the log: a change is one more, everywhere at once.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use decree_e2e::client::{Client, Request};
use decree_e2e::{Bed, Namespace, manifests};
use serde_json::json;

use super::credentials::lives;

const ENGINE: &str = "ledger";
const LIMIT: Duration = Duration::from_secs(60);

#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_changed_digest_is_one_more_settings_entry() -> Result<()> {
    Bed::of_test()?.in_namespace("settings", |namespace| {
        let mut engine = manifests::recorder_engine(namespace.bed(), ENGINE);
        namespace.apply(&engine.to_string())?;
        namespace.wait_engine(ENGINE, "Ready", "True", LIMIT)?;
        let first = in_force(namespace, -1)?;
        namespace.apply(&manifests::recorders(ENGINE, 1, &[]).to_string())?;
        namespace.wait_agents(ENGINE, 1, Duration::from_secs(120))?;
        for digest in ["Status", "None"] {
            let before = in_force(namespace, -1)?;
            engine["spec"]["agents"][0]["digest"] = json!(digest);
            namespace.apply(&engine.to_string())?;
            let after = in_force(namespace, before)?;
            println!("digest {digest}: settings at {before}, then at {after}");
        }
        ensure!(first == 0, "the log did not begin with its settings: {first}");
        namespace.wait_agents(ENGINE, 1, LIMIT).map(drop)
    })
}

#[test]
#[ignore = "needs a bed: cargo verify"]
fn an_idempotent_rule_has_a_command_in_doubt_delivered_again() -> Result<()> {
    Bed::of_test()?.in_namespace("idempotent", |namespace| {
        let mut engine = manifests::counter_engine(namespace.bed(), ENGINE);
        engine["spec"]["agents"][0]["replicate"]["rules"] = json!([
            {"methods": ["POST"], "pathPrefix": "/garble", "idempotent": true},
            {"methods": ["POST"], "pathPrefix": "/"},
        ]);
        namespace.apply(&engine.to_string())?;
        namespace.apply(&manifests::counters(ENGINE, 2).to_string())?;
        let agents = namespace.wait_agents(ENGINE, 2, Duration::from_secs(120))?;
        let begun = lives(namespace)?;
        let service = Client::new(format!("http://{}", namespace.service_address(ENGINE)?));
        for (path, token) in [("/increment", "before"), ("/garble", "doubtful"), ("/increment", "behind")] {
            let (path, body) = (path.to_owned(), token.to_owned());
            let request =
                Request { method: "POST", path, id: Some(body.clone()), body, ..Request::default() };
            let reply = service.send_until_answered(&request, LIMIT).last?;
            ensure!(reply.status == 200, "{token} was answered {reply:?}");
        }
        for agent in &agents {
            let tokens = agent.read_after_barrier("/tokens")?;
            ensure!(tokens == json!(["before", "doubtful", "doubtful", "behind"]), "{}: {tokens}", agent.pod);
            let tally = agent.replica()?["tally"].clone();
            println!("{}: {tally}", agent.pod);
            ensure!(tally["doubts"] == 1 && tally["redelivered"] == 1 && tally["rebuilds"] == 0, "{tally}");
        }
        namespace.wait_equal_digests(&agents, LIMIT)?;
        ensure!(lives(namespace)? == begun, "a pod was made anew, or a container restarted");
        Ok(())
    })
}

#[test]
#[ignore = "needs a bed: cargo verify"]
fn somebodys_topic_becomes_the_log_where_the_spec_says_so() -> Result<()> {
    Bed::of_test()?.in_namespace("adopt", |namespace| {
        let bed = namespace.bed();
        let topic = format!("decree.{}.{ENGINE}", namespace.name());
        let create = ["--create", "--partitions", "1", "--replication-factor", "3", "--topic", &topic];
        bed.kafka_tool("kafka-topics", &create, None)?;
        let servers = bed.kafka_bootstrap();
        bed.kafka_tool("kafka-console-producer", &["--topic", &topic], Some("one\ntwo\n"))
            .with_context(|| format!("produce to {servers}"))?;
        let mut engine = manifests::recorder_engine(bed, ENGINE);
        namespace.apply(&engine.to_string())?;
        let condition = namespace.wait_engine_reason(ENGINE, "TopicConflict", LIMIT)?;
        ensure!(condition.to_string().contains("topic.adopt"), "{condition}");
        engine["spec"]["kafka"]["topic"] = json!({"adopt": true});
        namespace.apply(&engine.to_string())?;
        let adopted = namespace.wait_engine(ENGINE, "Ready", "True", LIMIT)?;
        ensure!(adopted["status"]["topic"]["created"] == false, "{}", adopted["status"]);
        namespace.apply(&manifests::recorders(ENGINE, 1, &[]).to_string())?;
        let agents = namespace.wait_agents(ENGINE, 1, Duration::from_secs(120))?;
        agents[0].wait_recorded(2, LIMIT).map(drop)
    })
}

/// Where the settings entry in force stands, once that is behind `after`.
fn in_force(namespace: &Namespace, after: i64) -> Result<i64> {
    namespace.wait("the settings entry in force", LIMIT, || {
        let engine = namespace.get_json("decisionengine", ENGINE)?;
        let position = engine["status"]["topic"]["settings"]["position"].as_i64();
        Ok(position.filter(|position| *position > after))
    })
}
