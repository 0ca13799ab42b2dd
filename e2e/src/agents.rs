//! Engines and agents as tests see them: conditions, what a sidecar says of itself, what its application holds.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use decree_wire::pod::port;
use serde_json::Value;

use crate::client::{Client, Request};
use crate::manifests::{ENGINE_LABEL, RECORDER_PORT};
use crate::namespace::{Namespace, is_ready};

/// One agent of an engine, as it was when it was listed.
#[derive(Debug, Clone)]
pub struct Agent {
    pub pod: String,
    pub address: String,
}

impl Namespace {
    /// Waits until the engine's condition is as wanted, and gives the engine.
    pub fn wait_engine(&self, engine: &str, condition: &str, status: &str, limit: Duration) -> Result<Value> {
        self.wait(&format!("{condition}={status} of engine {engine}"), limit, || {
            let found = self.get_json("decisionengine", engine)?;
            let generation = &found["metadata"]["generation"];
            if status_of(&found, condition) == Some(status)
                && found["status"]["observedGeneration"] == *generation
            {
                return Ok(Some(found));
            }
            bail!("generation {generation}, status {}", found["status"])
        })
    }

    /// Waits until a condition of the engine gives this reason, and gives the condition.
    pub fn wait_engine_reason(&self, engine: &str, reason: &str, limit: Duration) -> Result<Value> {
        self.wait(&format!("a condition with reason {reason} of engine {engine}"), limit, || {
            let found = self.get_json("decisionengine", engine)?;
            let condition = conditions(&found).find(|condition| condition["reason"] == reason).cloned();
            condition.map(Some).with_context(|| format!("status {}", found["status"]))
        })
    }

    /// Waits until so many agents are ready and no other pod of the engine is there.
    pub fn wait_agents(&self, engine: &str, count: usize, limit: Duration) -> Result<Vec<Agent>> {
        let pods = self.wait_ready_pods(&format!("{}={engine}", ENGINE_LABEL), count, limit)?;
        pods.iter().map(Agent::of_pod).collect()
    }

    /// Waits until all agents say that they stand at one position with one digest.
    pub fn wait_equal_digests(&self, agents: &[Agent], limit: Duration) -> Result<Value> {
        self.wait("one digest at one position", limit, || {
            let digests: Vec<Value> =
                agents.iter().map(|agent| Ok(agent.replica()?["digest"].clone())).collect::<Result<_>>()?;
            let first = digests.first().context("find an agent")?;
            if first.is_object() && digests.iter().all(|digest| digest == first) {
                return Ok(Some(first.clone()));
            }
            bail!("{digests:?}")
        })
    }

    /// Waits until Kubernetes has an Event about a pod that says this.
    pub fn wait_event(&self, pod: &str, words: &str, limit: Duration) -> Result<Value> {
        self.wait(&format!("an Event about {pod} with {words:?}"), limit, || {
            let events = self.list_json("events", "")?;
            let about: Vec<Value> =
                events.into_iter().filter(|event| event["involvedObject"]["name"] == pod).collect();
            let said = |event: &Value| event["message"].as_str().unwrap_or_default().contains(words);
            if let Some(event) = about.iter().find(|event| said(event)) {
                return Ok(Some(event.clone()));
            }
            let messages: Vec<&Value> = about.iter().map(|event| &event["message"]).collect();
            bail!("{messages:?}")
        })
    }
}

impl Agent {
    pub fn of_pod(pod: &Value) -> Result<Self> {
        let text =
            |value: &Value, what| value.as_str().map(str::to_owned).with_context(|| format!("find {what}"));
        Ok(Self {
            pod: text(&pod["metadata"]["name"], "a pod's name")?,
            address: text(&pod["status"]["podIP"], "a pod's address")?,
        })
    }

    /// What the sidecar says of itself.
    pub fn status(&self) -> Result<Value> {
        Client::new(format!("http://{}:{}", self.address, port::HEALTH)).get_json("/status")
    }

    /// Where its replica is: `state`, `position`, `digest` and more; null before there is one.
    pub fn replica(&self) -> Result<Value> {
        self.status().map(|mut status| status["replica"].take())
    }

    /// A client of the agent's HTTP replication.
    pub fn replicated(&self) -> Client {
        Client::new(format!("http://{}:{}", self.address, port::REPLICATE))
    }

    /// Reads from the application through the sidecar, with all that was ordered before.
    pub fn read_after_barrier(&self, path: &str) -> Result<Value> {
        let headers = vec![("decree-read", "barrier".to_owned())];
        let request = Request { method: "GET", path: path.to_owned(), headers, ..Request::default() };
        let outcome = self.replicated().send_until_answered(&request, Duration::from_secs(30));
        outcome.last.and_then(|reply| reply.json()).with_context(|| format!("read {path} from {}", self.pod))
    }

    /// What a recorder in this pod has recorded, in its order.
    pub fn recorded(&self) -> Result<Vec<Value>> {
        let log = Client::new(format!("http://{}:{RECORDER_PORT}", self.address)).get_json("/log")?;
        log.as_array().cloned().context("read a list from a recorder")
    }

    /// Waits until this agent's recorder has so many, and gives them.
    pub fn wait_recorded(&self, count: usize, limit: Duration) -> Result<Vec<Value>> {
        crate::wait::until(format!("{count} commands in {}", self.pod), limit, || {
            let recorded = self.recorded()?;
            ensure!(recorded.len() >= count, "{} are there", recorded.len());
            Ok(Some(recorded))
        })
    }
}

/// Fails unless every id was recorded once, and by all agents in one order with the same position, seed and time.
pub fn ensure_once_and_alike(agents: &[Agent]) -> Result<Vec<Value>> {
    let mut logs =
        agents.iter().map(|agent| Ok((&agent.pod, agent.recorded()?))).collect::<Result<Vec<_>>>()?;
    let (first_pod, first) = logs.pop().context("find an agent")?;
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for command in &first {
        *times.entry(format!("{} {}", command["source"], command["id"])).or_default() += 1;
    }
    times.retain(|_, times| *times > 1);
    ensure!(times.is_empty(), "recorded more than once in {first_pod}: {times:?}");
    let rising = first.windows(2).all(|pair| pair[0]["position"].as_u64() < pair[1]["position"].as_u64());
    ensure!(rising, "positions do not rise in {first_pod}");
    for (pod, log) in logs {
        let differing = log.iter().zip(&first).find(|(one, other)| one != other);
        ensure!(differing.is_none(), "{pod} and {first_pod} differ: {differing:?}");
        ensure!(log.len() == first.len(), "{pod} has {}, {first_pod} {}", log.len(), first.len());
    }
    Ok(first)
}

/// The status of an object's condition.
pub fn status_of<'a>(object: &'a Value, condition: &str) -> Option<&'a str> {
    conditions(object).find(|each| each["type"] == condition)?["status"].as_str()
}

fn conditions(object: &Value) -> impl Iterator<Item = &Value> {
    object["status"]["conditions"].as_array().into_iter().flatten()
}

/// Whether a listed pod is there to stay and ready.
pub fn is_serving(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null() && is_ready(pod)
}
