//! Faults on purpose: containers, nodes, links and brokers that die or are cut off, and their repair.

use std::fs;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

use crate::cluster::{BROKERS, Bed, NODES, broker_name, node_name};
use crate::namespace::Namespace;
use crate::{cgroup, kafka, network, node};

impl Bed {
    /// Cuts a node off: it runs on, but nobody reaches it and it reaches nobody.
    pub fn cut_node(&self, node: usize) -> Result<()> {
        network::set_link(self, &checked_node(self, node)?, false)
    }

    pub fn heal_node(&self, node: usize) -> Result<()> {
        network::set_link(self, &checked_node(self, node)?, true)
    }

    /// Ends all processes of a node at once, its containers included, like a power cut.
    pub fn kill_node(&self, node: usize) -> Result<()> {
        cgroup::kill(self, Some(&checked_node(self, node)?))
    }

    /// Starts a killed node again.
    pub fn start_node(&self, node: usize) -> Result<()> {
        checked_node(self, node)?;
        node::start_runtime(self, node)?;
        node::start_kubelet(self, node)
    }

    /// Has the kubelets wait as they come before they start a container again, ten seconds and doubling; or a second
    /// at most, as every bed begins.
    pub fn set_default_back_off(&self, default: bool) -> Result<()> {
        let file = node::default_back_off(self);
        if default {
            fs::write(&file, "").with_context(|| format!("write {}", file.display()))?;
        } else if file.exists() {
            fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
        }
        (1..=NODES).try_for_each(|node| node::restart_kubelet(self, node))
    }

    /// Cuts a broker off from its peers and from clients.
    pub fn cut_broker(&self, broker: usize) -> Result<()> {
        network::set_link(self, &checked_broker(self, broker)?, false)
    }

    pub fn heal_broker(&self, broker: usize) -> Result<()> {
        network::set_link(self, &checked_broker(self, broker)?, true)
    }

    /// Stops a broker in its own order, and waits until it has ended.
    pub fn stop_broker(&self, broker: usize) -> Result<()> {
        checked_broker(self, broker)?;
        kafka::stop(self, broker, Signal::TERM)
    }

    /// Ends a broker at once.
    pub fn kill_broker(&self, broker: usize) -> Result<()> {
        checked_broker(self, broker)?;
        kafka::stop(self, broker, Signal::KILL)
    }

    /// Starts a broker and waits until it takes part.
    pub fn start_broker(&self, broker: usize) -> Result<()> {
        checked_broker(self, broker)?;
        kafka::start(self, [broker])
    }

    /// Sends a signal to the first process of a container, native sidecars included: `SIGKILL`, `SIGSTOP`, ….
    pub fn kill_container(&self, namespace: &str, pod: &str, container: &str, signal: &str) -> Result<()> {
        self.ensure_own("kill a container's process")?;
        let (node, id) =
            place(&self.kubectl_json(&["--namespace", namespace, "get", "pod", pod])?, container)?;
        node::runtime_client(self, node)
            .args(["tasks", "kill", "--signal", signal, &id])
            .run(self)
            .with_context(|| format!("send {signal} to {container} of {pod}"))
    }

    /// The process of a running container of a listed pod, to be killed at a moment that is no guess.
    pub fn container_process(&self, pod: &Value, container: &str) -> Result<ContainerProcess> {
        self.ensure_own("kill a container's process")?;
        let (node, id) = place(pod, container)?;
        let file = node::container_pid(self, node, &id);
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        let pid = pid.with_context(|| format!("read a pid in {text:?}"))?;
        // An ended container's folder may stand for a moment longer.
        test_kill_process(pid).with_context(|| format!("find the process of {container}"))?;
        Ok(ContainerProcess(pid))
    }
}

/// The first process of a container, as the machine counts.
#[derive(Debug)]
pub struct ContainerProcess(Pid);

impl ContainerProcess {
    /// SIGKILL, at once: through containerd it takes a good part of a second.
    pub fn kill(&self) -> Result<()> {
        kill_process(self.0, Signal::KILL).context("kill the process of a container")
    }

    /// As the machine counts.
    pub fn id(&self) -> u32 {
        self.0.as_raw_nonzero().get().unsigned_abs()
    }
}

/// The node that a pod is on, and the id of its started container.
fn place(pod: &Value, container: &str) -> Result<(usize, String)> {
    let name = &pod["metadata"]["name"];
    let node = pod["spec"]["nodeName"].as_str().with_context(|| format!("pod {name} is on no node"))?;
    let statuses = ["containerStatuses", "initContainerStatuses"]
        .into_iter()
        .filter_map(|kind| pod["status"][kind].as_array())
        .flatten();
    let id = statuses
        .filter(|status| status["name"] == container)
        .find_map(|status| status["containerID"].as_str()?.strip_prefix("containerd://"))
        .with_context(|| format!("pod {name} has no started container {container}"))?;
    let number = (1..=NODES)
        .find(|number| node_name(*number) == node)
        .with_context(|| format!("node {node} is not of this bed"))?;
    Ok((number, id.to_owned()))
}

impl Namespace {
    /// [`Bed::kill_container`] in this namespace.
    pub fn kill_container(&self, pod: &str, container: &str, signal: &str) -> Result<()> {
        self.bed().kill_container(self.name(), pod, container, signal)
    }
}

fn checked_node(bed: &Bed, node: usize) -> Result<String> {
    bed.ensure_own("break nodes")?;
    ensure!((1..=NODES).contains(&node), "there is no node {node}, only 1 to {NODES}");
    Ok(node_name(node))
}

fn checked_broker(bed: &Bed, broker: usize) -> Result<String> {
    bed.ensure_own("break brokers")?;
    ensure!((1..=BROKERS).contains(&broker), "there is no broker {broker}, only 1 to {BROKERS}");
    Ok(broker_name(broker))
}
