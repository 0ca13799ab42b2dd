//! Faults on purpose: containers, nodes, links and brokers that die or are cut off, and their repair.

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::cluster::{BROKERS, Bed, NODES, broker_name, node_name};
use crate::namespace::Namespace;
use crate::{cgroup, kafka, network, node};

impl Bed {
    /// Cuts a node off: it runs on, but nobody reaches it and it reaches nobody.
    pub fn cut_node(&self, node: usize) -> Result<()> {
        network::set_link(self, &checked_node(node)?, false)
    }

    pub fn heal_node(&self, node: usize) -> Result<()> {
        network::set_link(self, &checked_node(node)?, true)
    }

    /// Ends all processes of a node at once, its containers included, like a power cut.
    pub fn kill_node(&self, node: usize) -> Result<()> {
        cgroup::kill(self, Some(&checked_node(node)?))
    }

    /// Starts a killed node again.
    pub fn start_node(&self, node: usize) -> Result<()> {
        checked_node(node)?;
        node::start_runtime(self, node)?;
        node::start_kubelet(self, node)
    }

    /// Cuts a broker off from its peers and from clients.
    pub fn cut_broker(&self, broker: usize) -> Result<()> {
        network::set_link(self, &checked_broker(broker)?, false)
    }

    pub fn heal_broker(&self, broker: usize) -> Result<()> {
        network::set_link(self, &checked_broker(broker)?, true)
    }

    /// Stops a broker in its own order, and waits until it has ended.
    pub fn stop_broker(&self, broker: usize) -> Result<()> {
        kafka::stop(self, broker, Signal::TERM)
    }

    /// Ends a broker at once.
    pub fn kill_broker(&self, broker: usize) -> Result<()> {
        kafka::stop(self, broker, Signal::KILL)
    }

    /// Starts a broker and waits until it takes part.
    pub fn start_broker(&self, broker: usize) -> Result<()> {
        checked_broker(broker)?;
        kafka::start(self, [broker])
    }
}

impl Namespace {
    /// Sends a signal to the first process of a container, native sidecars included: `SIGKILL`, `SIGSTOP`, ….
    pub fn kill_container(&self, pod: &str, container: &str, signal: &str) -> Result<()> {
        let found = self.get_json("pod", pod)?;
        let node = found["spec"]["nodeName"].as_str().with_context(|| format!("pod {pod} is on no node"))?;
        let statuses = ["containerStatuses", "initContainerStatuses"]
            .into_iter()
            .filter_map(|kind| found["status"][kind].as_array())
            .flatten();
        let id = statuses
            .filter(|status| status["name"] == container)
            .find_map(|status| status["containerID"].as_str()?.strip_prefix("containerd://"))
            .with_context(|| format!("pod {pod} has no started container {container}"))?;
        let number = (1..=NODES)
            .find(|number| node_name(*number) == node)
            .with_context(|| format!("node {node} is not of this bed"))?;
        node::runtime_client(self.bed(), number)
            .args(["tasks", "kill", "--signal", signal, id])
            .run(self.bed())
            .with_context(|| format!("send {signal} to {container} of {pod}"))
    }
}

fn checked_node(node: usize) -> Result<String> {
    ensure!((1..=NODES).contains(&node), "there is no node {node}, only 1 to {NODES}");
    Ok(node_name(node))
}

fn checked_broker(broker: usize) -> Result<String> {
    ensure!((1..=BROKERS).contains(&broker), "there is no broker {broker}, only 1 to {BROKERS}");
    Ok(broker_name(broker))
}
