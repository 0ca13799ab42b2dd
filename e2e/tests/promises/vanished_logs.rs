//! A log that was deleted, made again or trimmed is recognised and named, and no agent goes on with a wrong entry.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use decree_e2e::agents::Agent;
use decree_e2e::fold::{self, Fold};
use decree_e2e::{Bed, Namespace, manifests};
use decree_wire::pod::CONTAINER;
use serde_json::{Value, json};

const ENGINE: &str = "ledger";
const LIMIT: Duration = Duration::from_secs(60);
/// The operator looks at a topic that nobody complains of now and then only.
const NAMED: Duration = Duration::from_secs(120);
/// Commands before the log vanishes, and those that somebody else puts in its place.
const BEFORE: usize = 10;
const STRANGE: usize = 40;

#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_deleted_topic_is_called_lost_and_not_made_again() -> Result<()> {
    Bed::of_test()?.in_namespace("lost", |namespace| {
        let (log, agents) = start(namespace)?;
        log.delete()?;
        let condition = namespace.wait_engine_reason(ENGINE, "LogLost", NAMED)?;
        println!("{condition}");
        ensure!(said(&condition).contains(&log.topic), "the topic is not named: {condition}");

        // Any change has the operator look again; it must not make what it knows to have made.
        let patch = r#"{"spec":{"failureDetection":{"suspectAfter":4}}}"#;
        namespace.kubectl(&["patch", "decisionengine", ENGINE, "--type=merge", "-p", patch])?;
        namespace.wait("the change to be seen", LIMIT, || {
            let engine = namespace.get_json("decisionengine", ENGINE)?;
            Ok((engine["status"]["observedGeneration"] == engine["metadata"]["generation"]).then_some(()))
        })?;
        namespace.wait_engine_reason(ENGINE, "LogLost", LIMIT)?;
        ensure!(!log.exists()?, "{} was made again", log.topic);
        agents.iter().try_for_each(|agent| ensure_prefix(agent, &log.commands, BEFORE))?;
        give_up(namespace, &log, &agents, 0)
    })
}

/// A person gives the old log up: each agent that followed it is replaced, and begins with the one in its place, where so
/// many commands stand.
fn give_up(namespace: &Namespace, log: &Log<'_>, before: &[Agent], there: usize) -> Result<()> {
    let engine = namespace.get_json("decisionengine", ENGINE)?;
    let id = engine["status"]["topic"]["id"].as_str().context("find the lost topic's id")?;
    let accept = format!("decree.dev/accept-new-log={id}");
    namespace.kubectl(&["annotate", "decisionengine", ENGINE, &accept])?;
    namespace.wait_engine(ENGINE, "Ready", "True", NAMED)?;
    ensure!(log.exists()?, "{} was not made", log.topic);
    let fresh = namespace.wait("two agents of the new log", 2 * NAMED, || {
        let agents = namespace.wait_agents(ENGINE, 2, Duration::ZERO)?;
        let old = agents.iter().find(|agent| before.iter().any(|old| old.pod == agent.pod));
        ensure!(old.is_none(), "{old:?} is still there");
        Ok(Some(agents))
    })?;
    log.produce("new", BEFORE)?;
    let fold = Fold::of_topic(log.bed, &log.topic)?;
    fresh.iter().try_for_each(|agent| {
        agent.wait_recorded(there + BEFORE, LIMIT)?;
        fold.ensure_recorded(agent)
    })
}

#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_topic_made_again_is_not_followed() -> Result<()> {
    Bed::of_test()?.in_namespace("replaced", |namespace| {
        let (log, agents) = start(namespace)?;
        log.delete()?;
        log.create()?;
        log.produce("strange", STRANGE)?;
        let condition = namespace.wait_engine_reason(ENGINE, "LogReplaced", NAMED)?;
        println!("{condition}");
        ensure!(said(&condition).contains(&log.topic), "the topic is not named: {condition}");
        for agent in &agents {
            println!("{}: {}", agent.pod, wait_trouble(namespace, agent, "LogReplaced")?);
            ensure_prefix(agent, &log.commands, BEFORE)?;
            // All share it: were they unready for it, nobody could read any more.
            ensure!(agent.status()?["ready"] == true, "{} is not ready", agent.pod);
        }

        // One that knows nothing of the old log must not begin with the new one either.
        namespace.kill_pod(&agents[0].pod)?;
        let fresh = fresh_agent(namespace, &agents)?;
        println!("{}: {}", fresh.pod, wait_trouble(namespace, &fresh, "LogReplaced")?);
        ensure!(fresh.status()?["ready"] == false, "{} is ready and knows nothing", fresh.pod);
        ensure!(fresh.recorded()?.is_empty(), "{} applied what is in the new topic", fresh.pod);
        ensure_prefix(&agents[1], &log.commands, BEFORE)?;
        give_up(namespace, &log, &agents, STRANGE)
    })
}

#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_log_trimmed_past_an_agent_halts_that_agent_alone() -> Result<()> {
    Bed::of_test()?.in_namespace("trimmed", |namespace| {
        let (log, agents) = start(namespace)?;
        let (behind, ahead) = (&agents[0], &agents[1]);
        namespace.kill_container(&behind.pod, CONTAINER, "SIGSTOP")?;
        // Twice: what a stopped sidecar has asked for already may still reach it, in one piece.
        let missed = log.produce("missed", 1).and_then(|()| log.produce("missed-too", BEFORE));
        let trimmed = missed
            .and_then(|()| ahead.wait_recorded(2 * BEFORE + 1, LIMIT))
            .and_then(|_| log.trim_to(log.end()? - 1));
        namespace.kill_container(&behind.pod, CONTAINER, "SIGCONT")?;
        trimmed?;

        println!("{}: {}", behind.pod, wait_trouble(namespace, behind, "LogTrimmed")?);
        let condition = namespace.wait("the agent's name in LogTrimmed", NAMED, || {
            let condition = namespace.wait_engine_reason(ENGINE, "LogTrimmed", Duration::ZERO)?;
            ensure!(said(&condition).contains(&behind.pod), "{condition}");
            Ok(Some(condition))
        })?;
        println!("{condition}");

        log.produce("after", 1)?;
        let whole = ahead.wait_recorded(2 * BEFORE + 2, LIMIT)?;
        let whole: Vec<String> = whole.iter().map(body).collect();
        ensure!(whole[..BEFORE] == log.commands[..], "{whole:?}");
        // Its application may have been restarted: nothing answered for it while its sidecar was stopped.
        let kept = namespace.wait("the recorder to answer", LIMIT, || behind.recorded().map(Some))?.len();
        ensure!(kept <= BEFORE + 1, "{} has {kept} commands, some from behind the gap", behind.pod);
        ensure_prefix(behind, &whole, kept)?;

        // A new pod would need the log's start.
        namespace.kubectl(&["scale", &format!("deployment/{ENGINE}"), "--replicas=3"])?;
        let fresh = fresh_agent(namespace, &agents)?;
        println!("{}: {}", fresh.pod, wait_trouble(namespace, &fresh, "LogTrimmed")?);
        ensure!(fresh.recorded()?.is_empty(), "{} began in the middle of the log", fresh.pod);
        Ok(())
    })
}

/// An engine with two recorders that have applied the first commands.
fn start(namespace: &Namespace) -> Result<(Log<'_>, Vec<Agent>)> {
    namespace.apply(&manifests::recorder_engine(namespace.bed(), ENGINE).to_string())?;
    namespace.wait_engine(ENGINE, "Ready", "True", LIMIT)?;
    namespace.apply(&manifests::recorders(ENGINE, 2, &[]).to_string())?;
    let agents = namespace.wait_agents(ENGINE, 2, Duration::from_secs(120))?;
    let mut log = Log {
        bed: namespace.bed(),
        topic: format!("decree.{}.{ENGINE}", namespace.name()),
        commands: Vec::new(),
    };
    log.produce("before", BEFORE)?;
    agents.iter().try_for_each(|agent| agent.wait_recorded(BEFORE, LIMIT).map(drop))?;
    let fold = Fold::of_topic(log.bed, &log.topic)?;
    agents.iter().try_for_each(|agent| fold.ensure_recorded(agent))?;
    log.commands = fold.commands.into_iter().map(|command| command.body).collect();
    Ok((log, agents))
}

/// The engine's topic as one with every right would treat it.
struct Log<'a> {
    bed: &'a Bed,
    topic: String,
    /// What it held before it vanished.
    commands: Vec<String>,
}

impl Log<'_> {
    fn topics(&self, arguments: &[&str]) -> Result<String> {
        self.bed.kafka_tool("kafka-topics", &[arguments, &["--topic", &self.topic]].concat(), None)
    }

    fn delete(&self) -> Result<()> {
        self.topics(&["--delete"]).map(drop)
    }

    fn create(&self) -> Result<()> {
        self.topics(&["--create", "--partitions", "1", "--replication-factor", "3"]).map(drop)
    }

    fn exists(&self) -> Result<bool> {
        let all = self.bed.kafka_tool("kafka-topics", &["--list"], None)?;
        Ok(all.lines().any(|line| line == self.topic))
    }

    fn produce(&self, what: &str, count: usize) -> Result<()> {
        let lines: String =
            (0..count).map(|number| format!("{}\n", json!({"what": what, "number": number}))).collect();
        self.bed.kafka_tool("kafka-console-producer", &["--topic", &self.topic], Some(&lines)).map(drop)
    }

    fn end(&self) -> Result<u64> {
        fold::offset(self.bed, &self.topic, "latest")
    }

    /// Drops everything before an offset.
    fn trim_to(&self, offset: u64) -> Result<()> {
        let file = tempfile::NamedTempFile::new().context("make a file for kafka-delete-records")?;
        let wanted = json!({
            "version": 1,
            "partitions": [{"topic": self.topic, "partition": 0, "offset": offset}],
        });
        std::fs::write(file.path(), wanted.to_string())?;
        let path = file.path().display().to_string();
        self.bed.kafka_tool("kafka-delete-records", &["--offset-json-file", &path], None)?;
        let earliest = fold::offset(self.bed, &self.topic, "earliest")?;
        ensure!(earliest == offset, "the log begins at {earliest} after a trim to {offset}");
        Ok(())
    }
}

/// The agent that was not there before.
fn fresh_agent(namespace: &Namespace, before: &[Agent]) -> Result<Agent> {
    namespace.wait("a new pod whose sidecar answers", LIMIT, || {
        let pods = namespace.list_json("pods", &format!("app={ENGINE}"))?;
        let is_new = |pod: &&Value| before.iter().all(|agent| pod["metadata"]["name"] != agent.pod.as_str());
        let Some(pod) = pods.iter().find(is_new) else { return Ok(None) };
        let agent = Agent::of_pod(pod)?;
        agent.status()?;
        agent.recorded()?;
        Ok(Some(agent))
    })
}

/// Waits until the sidecar itself gives this reason.
fn wait_trouble(namespace: &Namespace, agent: &Agent, reason: &str) -> Result<Value> {
    namespace.wait(&format!("{reason} of {}", agent.pod), LIMIT, || {
        let status = agent.status()?;
        if status.to_string().contains(reason) {
            return Ok(Some(status["replica"].clone()));
        }
        bail!("{status}")
    })
}

/// Fails unless the agent's recorder was given just the first so many commands.
fn ensure_prefix(agent: &Agent, commands: &[String], count: usize) -> Result<()> {
    let recorded: Vec<String> = agent.recorded()?.iter().map(body).collect();
    ensure!(
        recorded[..] == commands[..count],
        "{} was given {recorded:?}, not {:?}",
        agent.pod,
        &commands[..count]
    );
    Ok(())
}

fn body(recorded: &Value) -> String {
    recorded["body"].as_str().unwrap_or_default().to_owned()
}

fn said(condition: &Value) -> &str {
    condition["message"].as_str().unwrap_or_default()
}
