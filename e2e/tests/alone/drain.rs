//! `kubectl drain` of a node under load: no request fails for good, nothing is lost or twice, and the agents of a class
//! are never all evicted at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use decree_e2e::client::Client;
use decree_e2e::cluster::NODES;
use decree_e2e::fold::Fold;
use decree_e2e::namespace::is_ready;
use decree_e2e::posting::Posting;
use decree_e2e::{Namespace, manifests};
use serde_json::Value;

use super::whole;

const ENGINE: &str = "ledger";
const LIMIT: Duration = Duration::from_secs(60);
const AGENTS: usize = 3;
const DRAINED: &str = "node1";

/// All agents stand on the node that is drained: without a budget they would all be evicted in one breath.
#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_drained_node_loses_nothing_and_never_all_agents() -> Result<()> {
    whole::in_namespace("drain", |namespace| {
        let agents = all_on_one_node(namespace)?;
        println!("on {DRAINED}: {agents:?}");
        let service = Client::new(format!("http://{}", namespace.service_address(ENGINE)?));
        let posting = Posting {
            service: &service,
            path: "/decisions",
            name: "flow",
            clients: 4,
            pace: Duration::from_millis(50),
            patience: LIMIT,
        };
        let (fewest, posted) = posting.during(|tally| {
            tally.wait_more(AGENTS, LIMIT)?;
            let fewest = drain_and_watch(namespace)?;
            tally.wait_more(AGENTS, LIMIT)?;
            Ok(fewest)
        })?;

        let topic = format!("decree.{}.{ENGINE}", namespace.name());
        let fold = Fold::of_topic(namespace.bed(), &topic)?;
        println!("{}; never fewer than {fewest} ready agents", posted.summary(&fold));
        posted.ensure_all_acknowledged()?;
        ensure!(fewest > 0, "all agents were away at once");
        let after = namespace.wait_agents(ENGINE, AGENTS, 2 * LIMIT)?;
        let pods = namespace.list_json("pods", &format!("app={ENGINE}"))?;
        ensure!(pods.iter().all(|pod| pod["spec"]["nodeName"] != DRAINED), "a pod is still on {DRAINED}");
        after.iter().try_for_each(|agent| agent.wait_recorded(fold.commands.len(), LIMIT).map(drop))?;
        posted.ensure_once(&fold, &after)?;
        namespace.wait_equal_digests(&after, LIMIT).map(drop)
    })
}

/// Starts the agents while only one node takes pods; gives their names.
fn all_on_one_node(namespace: &Namespace) -> Result<Vec<String>> {
    let others: Vec<String> =
        (1..=NODES).map(|node| format!("node{node}")).filter(|node| node != DRAINED).collect();
    namespace.apply(&manifests::replicated_recorder_engine(namespace.bed(), ENGINE).to_string())?;
    namespace.wait_engine(ENGINE, "Ready", "True", LIMIT)?;
    for node in &others {
        namespace.bed().kubectl(&["cordon", node])?;
    }
    namespace.apply(&manifests::recorders(ENGINE, AGENTS, &[]).to_string())?;
    let agents = namespace.wait_agents(ENGINE, AGENTS, 2 * LIMIT)?;
    for node in &others {
        namespace.bed().kubectl(&["uncordon", node])?;
    }
    Ok(agents.into_iter().map(|agent| agent.pod).collect())
}

/// Drains the node as its owner would; gives the fewest ready agents that were seen meanwhile.
fn drain_and_watch(namespace: &Namespace) -> Result<usize> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| fewest_ready(namespace, &over));
        let drained = namespace.bed().kubectl(&[
            "drain",
            DRAINED,
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            "--timeout=180s",
        ]);
        over.store(true, Ordering::SeqCst);
        let fewest = watch.join().map_err(|_| anyhow!("the watch of the pods panicked"))?;
        println!("{}", drained.with_context(|| format!("drain {DRAINED}"))?.trim());
        fewest
    })
}

fn fewest_ready(namespace: &Namespace, over: &AtomicBool) -> Result<usize> {
    let mut fewest = usize::MAX;
    while !over.load(Ordering::SeqCst) {
        let pods = namespace.list_json("pods", &format!("app={ENGINE}"))?;
        fewest = fewest.min(pods.iter().filter(|pod| serves(pod)).count());
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(fewest)
}

/// Ready, and not asked to end.
fn serves(pod: &Value) -> bool {
    is_ready(pod) && pod["metadata"]["deletionTimestamp"].is_null()
}
