//! The operator is killed, all of its replicas, while labelled pods start: each ends with a sidecar or is visibly
//! refused, and none ever runs without.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use decree_e2e::agents::is_serving;
use decree_e2e::install;
use decree_e2e::{Bed, Namespace, manifests};
use decree_wire::pod::CONTAINER;
use serde_json::Value;

use super::whole;

const ENGINE: &str = "ledger";
const LIMIT: Duration = Duration::from_secs(60);
const BEFORE: usize = 5;
const PODS: usize = 30;
/// The kill and the pods race; so often at most, until a pod was refused.
const ATTEMPTS: usize = 5;

#[test]
#[ignore = "needs a bed: cargo verify"]
fn no_labelled_pod_runs_without_a_sidecar() -> Result<()> {
    whole::in_namespace("outage", |namespace| {
        namespace.apply(&manifests::recorder_engine(namespace.bed(), ENGINE).to_string())?;
        namespace.wait_engine(ENGINE, "Ready", "True", LIMIT)?;
        for attempt in 1..=ATTEMPTS {
            let name = format!("{ENGINE}-{attempt}");
            start_while_the_operator_dies(namespace, &name)?;
            if let Some(refusal) = refusal(namespace, &name)? {
                println!("refused meanwhile: {refusal}");
                return Ok(());
            }
            namespace.kubectl(&["delete", "deployment", &name, "--cascade=foreground"])?;
        }
        bail!("the operator was back {ATTEMPTS} times before a pod was refused, so nothing was tested")
    })
}

fn start_while_the_operator_dies(namespace: &Namespace, name: &str) -> Result<()> {
    let mut workload = manifests::recorders(ENGINE, BEFORE, &[]);
    workload["metadata"]["name"] = name.into();
    workload["spec"]["selector"]["matchLabels"]["app"] = name.into();
    workload["spec"]["template"]["metadata"]["labels"]["app"] = name.into();
    namespace.apply(&workload.to_string())?;
    let selector = format!("app={name}");
    wait_injected(namespace, &selector, BEFORE)?;

    kill_operator(namespace.bed())?;
    let replicas = format!("--replicas={PODS}");
    namespace.kubectl(&["scale", &format!("deployment/{name}"), &replicas])?;
    wait_injected(namespace, &selector, PODS)?;
    println!("{PODS} pods, each with a sidecar");
    // That the pods of the outage are agents as any others: the first of them are enough.
    namespace.wait("more ready agents than before the outage", 2 * LIMIT, || {
        let ready = namespace.list_json("pods", &selector)?.iter().filter(|pod| is_serving(pod)).count();
        ensure!(ready > BEFORE, "{ready} are ready");
        Ok(Some(()))
    })
}

/// Waits until so many pods are there. Each that is ever seen has a sidecar.
fn wait_injected(namespace: &Namespace, selector: &str, count: usize) -> Result<()> {
    let bare = namespace.wait(&format!("{count} pods"), 2 * LIMIT, || {
        let pods = namespace.list_json("pods", selector)?;
        if let Some(bare) = pods.iter().find(|pod| !has_sidecar(pod)) {
            return Ok(Some(Some(bare.clone())));
        }
        ensure!(pods.len() == count, "{} are there", pods.len());
        Ok(Some(None))
    })?;
    match bare {
        None => Ok(()),
        Some(bare) => bail!("a pod has no sidecar: {bare}"),
    }
}

fn has_sidecar(pod: &Value) -> bool {
    let containers = pod["spec"]["initContainers"].as_array();
    containers.is_some_and(|all| all.iter().any(|container| container["name"] == CONTAINER))
}

/// All replicas, without a word: their processes first, so that none says goodbye.
fn kill_operator(bed: &Bed) -> Result<()> {
    let selector = format!("app.kubernetes.io/instance={}", install::RELEASE);
    let pods = bed.kubectl_json(&["-n", install::NAMESPACE, "get", "pods", "--selector", &selector])?;
    let names: Vec<&str> = pods["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|pod| pod["metadata"]["name"].as_str())
        .collect();
    ensure!(!names.is_empty(), "no operator runs");
    for name in &names {
        bed.kill_container(install::NAMESPACE, name, "operator", "SIGKILL")?;
    }
    let delete = ["-n", install::NAMESPACE, "delete", "pod", "--grace-period=0", "--force"];
    bed.kubectl(&[&delete[..], &names].concat()).context("delete the operator's pods")?;
    println!("killed: {}", names.join(", "));
    Ok(())
}

/// What the Deployment's ReplicaSet said of a pod that it could not create.
fn refusal(namespace: &Namespace, deployment: &str) -> Result<Option<String>> {
    let events = namespace.list_json("events", "")?;
    let of_deployment = |event: &&Value| {
        event["reason"] == "FailedCreate"
            && event["involvedObject"]["name"].as_str().is_some_and(|name| name.starts_with(deployment))
    };
    Ok(events.iter().find(of_deployment).map(|event| event["message"].to_string()))
}
