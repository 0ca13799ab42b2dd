//! How long the webhook holds up the creation of a pod, beside one that it is not asked about.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use decree_e2e::client::{Client, Request};
use decree_e2e::{Bed, manifests};
use serde_json::{Value, json};

const ENGINE: &str = "ledger";
const LIMIT: Duration = Duration::from_secs(60);
/// So many of each are timed, in turn, after so many that are not.
const PODS: usize = 200;
const WARM: usize = 20;

pub(crate) fn run(bed: &Bed) -> Result<()> {
    bed.in_namespace("admission", |namespace| {
        namespace.apply(&manifests::recorder_engine(bed, ENGINE).to_string())?;
        namespace.wait_engine(ENGINE, "Ready", "True", LIMIT)?;
        let agent = manifests::recorder_pod(ENGINE);
        let mut other = agent.clone();
        other["metadata"]["labels"] = json!({"app": "other"});
        let api = bed.api_server()?;
        let path = format!("/api/v1/namespaces/{}/pods?dryRun=All", namespace.name());
        let (asked, not) = bed.inside(|| {
            let client = api.client();
            let mut times = (Vec::new(), Vec::new());
            for number in 0..PODS + WARM {
                let (agent, other) =
                    (created(&client, &path, &agent, 2)?, created(&client, &path, &other, 1)?);
                if number >= WARM {
                    times.0.push(agent);
                    times.1.push(other);
                }
            }
            Ok(times)
        })?;
        println!("\nA pod's creation in a dry run, {PODS} of each, one after the other\n");
        println!("{:44} {:>9} {:>9}", "", "p50", "p99");
        let (asked, not) =
            (shown("an agent, injected by the webhook", asked), shown("no agent, not asked about", not));
        println!("{:44} {:>9} {:>6.1} ms   goal 50", "the webhook's part of p99", "", asked - not);
        Ok(())
    })
}

/// How long it took; it has so many containers then.
fn created(client: &Client, path: &str, pod: &Value, containers: usize) -> Result<Duration> {
    let headers = vec![("content-type", "application/json".to_owned())];
    let request = Request {
        method: "POST",
        path: path.to_owned(),
        headers,
        body: pod.to_string(),
        ..Request::default()
    };
    let begun = Instant::now();
    let reply = client.send(&request)?;
    let took = begun.elapsed();
    ensure!(reply.status == 201, "{}: {}", reply.status, reply.body);
    let made: Value = serde_json::from_str(&reply.body).with_context(|| format!("read {:?}", reply.body))?;
    let spec = &made["spec"];
    let count = |field: &str| spec[field].as_array().map_or(0, Vec::len);
    ensure!(count("containers") + count("initContainers") == containers, "{spec}");
    Ok(took)
}

/// Prints a row; gives p99 in milliseconds.
fn shown(what: &str, mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    let at = |share: usize| {
        let index = (times.len() * share / 100).min(times.len().saturating_sub(1));
        times.get(index).copied().unwrap_or_default().as_secs_f64() * 1000.0
    };
    println!("{what:44} {:>6.1} ms {:>6.1} ms", at(50), at(99));
    at(99)
}
