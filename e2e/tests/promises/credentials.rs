//! Credentials for Kafka that are missing or wrong are named, heal when they are mended, and are exchanged live.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use decree_e2e::agents::{Agent, ensure_once_and_alike};
use decree_e2e::client::Request;
use decree_e2e::kafka::{MUTUAL_TLS, SASL};
use decree_e2e::namespace::Namespace;
use decree_e2e::{Bed, manifests};
use serde_json::{Value, json};

pub(crate) const ENGINE: &str = "ledger";
const AGENTS: usize = 2;
/// A changed Secret reaches a pod within the kubelet's sync period and its cache's age.
const LIMIT: Duration = Duration::from_secs(180);

#[test]
#[ignore = "needs a bed: cargo verify"]
fn passwords_are_named_healed_and_rotated() -> Result<()> {
    Bed::of_test()?.in_namespace("passwords", |namespace| {
        let user = |role: &str| format!("{}-{role}", namespace.name());
        for role in ["agents", "operator"] {
            set_password(namespace, &user(role), "first")?;
        }
        apply_engine_with_passwords(namespace)?;
        says(namespace, "SecretMissing", &["Secret operator", "Secret agents", "spec.kafka.admin.sasl"])?;

        secret(namespace, "agents", &[("username", &user("agents")), ("password", "first")])?;
        secret(namespace, "operator", &[("username", &user("operator")), ("password", "wrong")])?;
        says(namespace, "KafkaUnauthenticated", &["invalid credentials", "spec.kafka"])?;
        secret(namespace, "operator", &[("username", &user("operator")), ("password", "first")])?;
        namespace.wait_engine(ENGINE, "Ready", "True", LIMIT)?;
        let written = namespace.get_json("secret", &format!("decree-{ENGINE}"))?;
        ensure!(
            written["data"]["kafka-password"].is_string(),
            "the agents' password is not with the document"
        );
        ensure!(written["data"].as_object().is_some_and(|data| data.len() == 3), "more than theirs is there");

        namespace.apply(&manifests::recorders(ENGINE, AGENTS, &[]).to_string())?;
        let agents = namespace.wait_agents(ENGINE, AGENTS, LIMIT)?;
        let lives = lives(namespace)?;
        propose(&agents, 0..20)?;

        // Wrong for the agents: what they have goes on, and they say what is wrong.
        secret(namespace, "agents", &[("username", &user("agents")), ("password", "second")])?;
        troubled(namespace, &agents, "do not take these credentials")?;
        propose(&agents, 20..40)?;
        // Mended at the other end: nobody has to touch anything here.
        set_password(namespace, &user("agents"), "second")?;
        went_over(namespace, &agents, 1)?;
        untroubled(namespace, &agents)?;
        propose(&agents, 40..60)?;
        // The operator's, changed at both ends.
        set_password(namespace, &user("operator"), "third")?;
        secret(namespace, "operator", &[("username", &user("operator")), ("password", "third")])?;
        namespace.wait_engine(ENGINE, "Ready", "True", LIMIT)?;

        settle(namespace, &agents, 60)?;
        ensure!(self::lives(namespace)? == lives, "a pod was made anew, or a container restarted");
        Ok(())
    })
}

#[test]
#[ignore = "needs a bed: cargo verify"]
fn certificates_are_named_healed_and_renewed() -> Result<()> {
    Bed::of_test()?.in_namespace("certificates", |namespace| {
        let folder = namespace.bed().kafka_certificates();
        let pem = |file: &str| fs::read_to_string(folder.join(file)).with_context(|| format!("read {file}"));
        let client = |file: &str| -> Result<()> {
            let (certificate, key) = (pem(&format!("{file}.crt"))?, pem(&format!("{file}.key"))?);
            secret(namespace, "client", &[("tls.crt", &certificate), ("tls.key", &key)])
        };
        let mut engine = manifests::replicated_recorder_engine(namespace.bed(), ENGINE);
        engine["spec"]["kafka"]["bootstrapServers"] = servers(namespace, MUTUAL_TLS);
        engine["spec"]["kafka"]["tls"] =
            json!({"caSecret": {"name": "ca"}, "clientSecret": {"name": "client"}});
        // A certificate, but not of who signed the brokers'.
        secret(namespace, "ca", &[("ca.crt", &pem("client.crt")?)])?;
        client("client")?;
        namespace.apply(&engine.to_string())?;
        says(namespace, "UntrustedCertificate", &["certificate verify failed", "caSecret"])?;
        secret(namespace, "ca", &[("ca.crt", &pem("ca.crt")?)])?;
        namespace.wait_engine(ENGINE, "Ready", "True", LIMIT)?;
        says(namespace, "AdminCredentialsShared", &["spec.kafka.admin"])?;

        namespace.apply(&manifests::recorders(ENGINE, AGENTS, &[]).to_string())?;
        let agents = namespace.wait_agents(ENGINE, AGENTS, LIMIT)?;
        let lives = lives(namespace)?;
        propose(&agents, 0..20)?;
        let renewed = format!("client-{}", namespace.name());
        namespace.bed().sign_kafka_client(&renewed)?;
        client(&renewed)?;
        went_over(namespace, &agents, 1)?;
        propose(&agents, 20..40)?;
        settle(namespace, &agents, 40)?;
        ensure!(self::lives(namespace)? == lives, "a pod was made anew, or a container restarted");
        Ok(())
    })
}

/// An engine that comes in with what the Secrets `agents` and `operator` hold.
pub(crate) fn apply_engine_with_passwords(namespace: &Namespace) -> Result<()> {
    let mut engine = manifests::replicated_recorder_engine(namespace.bed(), ENGINE);
    let sasl = |secret: &str| json!({"mechanism": "SCRAM-SHA-512", "secret": {"name": secret}});
    engine["spec"]["kafka"]["bootstrapServers"] = servers(namespace, SASL);
    engine["spec"]["kafka"]["sasl"] = sasl("agents");
    engine["spec"]["kafka"]["admin"] = json!({"sasl": sasl("operator")});
    namespace.apply(&engine.to_string()).map(drop)
}

fn servers(namespace: &Namespace, port: u16) -> Value {
    json!(namespace.bed().kafka_listeners(port).split(',').collect::<Vec<_>>())
}

pub(crate) fn set_password(namespace: &Namespace, user: &str, password: &str) -> Result<()> {
    let config = format!("SCRAM-SHA-512=[iterations=4096,password={password}]");
    let about = ["--alter", "--entity-type", "users", "--entity-name", user, "--add-config", &config];
    namespace.bed().kafka_tool("kafka-configs", &about, None).map(drop)
}

pub(crate) fn secret(namespace: &Namespace, name: &str, entries: &[(&str, &str)]) -> Result<()> {
    let data: Value = entries.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
    namespace.apply(&secret.to_string()).map(drop)
}

/// Waits for a condition with that reason and these words.
pub(crate) fn says(namespace: &Namespace, reason: &str, words: &[&str]) -> Result<()> {
    namespace.wait(&format!("{reason} that says {words:?}"), LIMIT, || {
        let engine = namespace.get_json("decisionengine", ENGINE)?;
        let conditions = engine["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let says = |condition: &Value| {
            let message = condition["message"].as_str().unwrap_or_default();
            condition["reason"] == reason && words.iter().all(|word| message.contains(word))
        };
        ensure!(conditions.iter().any(says), "{conditions:?}");
        Ok(Some(()))
    })?;
    println!("{reason}: {words:?}");
    Ok(())
}

/// What of each pod changes when it is made anew or a container of it restarts.
pub(crate) fn lives(namespace: &Namespace) -> Result<Vec<Value>> {
    let pods = namespace.list_json("pods", "")?;
    let restarts = |pod: &Value, field: &str| {
        let all = pod["status"][field].as_array().cloned().unwrap_or_default();
        all.into_iter().map(|container| container["restartCount"].clone()).collect::<Vec<_>>()
    };
    let of = |pod: &Value| {
        json!([
            pod["metadata"]["uid"],
            restarts(pod, "containerStatuses"),
            restarts(pod, "initContainerStatuses")
        ])
    };
    let mut lives: Vec<_> = pods.iter().map(of).collect();
    lives.sort_by_key(ToString::to_string);
    Ok(lives)
}

pub(crate) fn command(number: usize) -> Request {
    Request {
        method: "POST",
        path: "/decisions".into(),
        id: Some(format!("number-{number}")),
        body: number.to_string(),
        ..Request::default()
    }
}

/// Each number once, to one agent after the other, each repeated until it is answered.
pub(crate) fn propose(agents: &[Agent], numbers: std::ops::Range<usize>) -> Result<()> {
    for number in numbers {
        let agent = &agents[number % agents.len()];
        let outcome = agent.replicated().send_until_answered(&command(number), LIMIT);
        let reply = outcome.last.with_context(|| format!("propose {number} to {}", agent.pod))?;
        ensure!(reply.status == 200, "{number} was answered {}: {}", reply.status, reply.body);
    }
    Ok(())
}

pub(crate) fn troubled(namespace: &Namespace, agents: &[Agent], words: &str) -> Result<()> {
    for agent in agents {
        namespace.wait(&format!("{} says {words:?}", agent.pod), LIMIT, || {
            let troubles = agent.status()?["troubles"].to_string();
            ensure!(troubles.contains(words), "{troubles}");
            Ok(Some(()))
        })?;
    }
    println!("agents say {words:?}");
    Ok(())
}

pub(crate) fn untroubled(namespace: &Namespace, agents: &[Agent]) -> Result<()> {
    for agent in agents {
        namespace.wait(&format!("{} has no trouble", agent.pod), LIMIT, || {
            let troubles = agent.status()?["troubles"].clone();
            ensure!(troubles.as_array().is_none_or(Vec::is_empty), "{troubles}");
            Ok(Some(()))
        })?;
    }
    Ok(())
}

pub(crate) fn is_untroubled(agents: &[Agent]) -> Result<bool> {
    let troubles = agents.iter().map(|agent| Ok(agent.status()?["troubles"].clone()));
    let troubles = troubles.collect::<Result<Vec<_>>>()?;
    Ok(troubles.iter().all(|troubles| troubles.as_array().is_none_or(Vec::is_empty)))
}

fn went_over(namespace: &Namespace, agents: &[Agent], times: usize) -> Result<()> {
    for agent in agents {
        namespace.wait(&format!("{} goes over to the new credentials", agent.pod), LIMIT, || {
            let log = namespace.logs(&agent.pod, "decree")?;
            let seen = log.matches("went over to another connection").count();
            ensure!(seen >= times, "{seen} of {times} times");
            Ok(Some(()))
        })?;
    }
    Ok(())
}

fn settle(namespace: &Namespace, agents: &[Agent], count: usize) -> Result<()> {
    for agent in agents {
        agent.wait_recorded(count, LIMIT)?;
    }
    let all = ensure_once_and_alike(agents)?;
    ensure!(all.len() == count, "{} were recorded, and {count} proposed", all.len());
    namespace.wait_equal_digests(agents, LIMIT).map(drop)
}
