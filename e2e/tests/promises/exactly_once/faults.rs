//! Random faults by seed: application containers and sidecars that are killed, pods that are deleted.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use decree_e2e::agents::Agent;
use decree_e2e::dice::Dice;
use decree_e2e::faults::ContainerProcess;
use decree_e2e::manifests::ENGINE_LABEL;
use decree_e2e::{Namespace, wait};
use decree_wire::pod::CONTAINER;
use serde_json::Value;

use super::application::Application;
use super::clients::Load;

const LIMIT: Duration = Duration::from_secs(300);
/// A kill that is to meet a delivery waits so long for one.
const AIM: Duration = Duration::from_secs(3);
/// The most that passes between two faults beside what the clients' progress takes.
const GAP_MS: u64 = 2000;

/// How many of each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    pub(crate) containers: usize,
    pub(crate) sidecars: usize,
    pub(crate) pods: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Container,
    Sidecar,
    Pod,
}

/// What was done, and to whom.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    kind: Kind,
    pub(crate) pod: String,
    /// It hit while an answer was held; or the pod had no grace.
    hard: bool,
}

/// Makes faults one by one.
#[derive(Debug)]
pub(crate) struct Injector<'a> {
    pub(crate) namespace: &'a Namespace,
    pub(crate) engine: &'a str,
    pub(crate) application: Application,
    pub(crate) dice: Dice,
}

impl Form {
    pub(crate) fn faults(self) -> usize {
        self.containers + self.sidecars + self.pods
    }

    /// All faults in an order that the dice give.
    fn shuffled(self, dice: &mut Dice) -> Vec<Kind> {
        let of = |kind, count| std::iter::repeat_n(kind, count);
        let mut left: Vec<Kind> = of(Kind::Container, self.containers)
            .chain(of(Kind::Sidecar, self.sidecars))
            .chain(of(Kind::Pod, self.pods))
            .collect();
        let mut shuffled = Vec::new();
        while !left.is_empty() {
            let next = usize::try_from(dice.throw(left.len() as u64)).unwrap_or(0);
            shuffled.push(left.swap_remove(next));
        }
        shuffled
    }
}

impl Fault {
    /// Whether the pod itself was taken away.
    pub(crate) fn is_of_pod(&self) -> bool {
        self.kind == Kind::Pod
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match (self.kind, self.hard) {
            (Kind::Container, false) => "application killed",
            (Kind::Container, true) => "application killed in a delivery",
            (Kind::Sidecar, false) => "sidecar killed",
            (Kind::Sidecar, true) => "sidecar killed in a delivery",
            (Kind::Pod, false) => "pod deleted",
            (Kind::Pod, true) => "pod deleted without grace",
        };
        write!(f, "{what}: {}", self.pod)
    }
}

impl Injector<'_> {
    /// Makes all faults of a form, spread over the load: each once a random part of its share is acknowledged.
    pub(crate) fn run(&mut self, form: Form, load: &Load<'_>, total: usize) -> Result<Vec<Fault>> {
        let (kinds, mut faults) = (form.shuffled(&mut self.dice), Vec::new());
        let share = total / (kinds.len() + 1);
        for (number, kind) in kinds.into_iter().enumerate() {
            load.release(share * (number + 1));
            let part = usize::try_from(self.dice.throw(share as u64 / 2 + 1)).unwrap_or(0);
            load.wait_acknowledged(share * number + part)?;
            std::thread::sleep(Duration::from_millis(self.dice.throw(GAP_MS)));
            let fault = self.inject(kind).with_context(|| format!("fault {number}"))?;
            println!("fault {number} of {}: {fault}", form.faults());
            faults.push(fault);
        }
        load.release(total);
        Ok(faults)
    }

    fn inject(&mut self, kind: Kind) -> Result<Fault> {
        let hard = self.dice.throw(2) == 0;
        if kind == Kind::Pod {
            let pods = self.pods()?;
            let pod = self.choose(&pods).context("find a pod to delete")?;
            let pod = Agent::of_pod(pod)?.pod;
            if hard {
                self.namespace.kill_pod(&pod)?;
            } else {
                self.namespace.kubectl(&["delete", "pod", &pod, "--wait=false"])?;
            }
            return Ok(Fault { kind, pod, hard });
        }
        let container = if kind == Kind::Sidecar { CONTAINER } else { self.application.container() };
        // A process may end on its own before it is killed: that is another fault's doing, and another is chosen.
        wait::until("a process to kill", LIMIT, || {
            let (agent, process) = self.victim(container)?;
            let hard = hard && self.application.holds() && self.wait_for_delivery(&agent);
            process.kill()?;
            Ok(Some(Fault { kind, pod: agent.pod, hard }))
        })
    }

    /// An agent whose container of this name runs, and its process: a signal to that meets a delivery that was seen.
    fn victim(&mut self, container: &str) -> Result<(Agent, ContainerProcess)> {
        wait::until(format!("an agent whose {container} runs"), LIMIT, || {
            let pods = self.pods()?;
            let pod = self.choose(&pods).context("find a pod")?;
            let process = self.namespace.bed().container_process(pod, container)?;
            Ok(Some((Agent::of_pod(pod)?, process)))
        })
    }

    fn pods(&self) -> Result<Vec<Value>> {
        let mut pods = self.namespace.list_json("pods", &format!("{ENGINE_LABEL}={}", self.engine))?;
        pods.retain(|pod| {
            pod["metadata"]["deletionTimestamp"].is_null() && pod["status"]["podIP"].is_string()
        });
        Ok(pods)
    }

    fn choose<'p>(&mut self, pods: &'p [Value]) -> Option<&'p Value> {
        pods.get(usize::try_from(self.dice.throw(pods.len() as u64)).ok()?)
    }

    /// Whether one was seen.
    fn wait_for_delivery(&self, agent: &Agent) -> bool {
        let start = Instant::now();
        while start.elapsed() < AIM {
            if self.application.holding(&agent.address).is_ok_and(|held| held > 0) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }
}
