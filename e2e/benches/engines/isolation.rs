//! How long one engine's change waits for its reconcile, beside another engine that is in trouble.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use decree_e2e::{Bed, Namespace, manifests};
use serde_json::json;

const ENGINE: &str = "ledger";
const LIMIT: Duration = Duration::from_secs(60);
/// So many changes are timed.
const CHANGES: u64 = 30;
/// A broker's host, and a port where nobody listens.
const AWAY: &str = "10.77.0.11:9999";

pub(crate) fn run(bed: &Bed) -> Result<()> {
    bed.in_namespace("well", |well| {
        well.apply(&manifests::recorder_engine(bed, ENGINE).to_string())?;
        well.wait_engine(ENGINE, "Ready", "True", LIMIT)?;
        let alone = changes(well, 0)?;
        bed.in_namespace("unwell", |unwell| {
            let mut engine = manifests::recorder_engine(bed, ENGINE);
            engine["spec"]["kafka"]["bootstrapServers"] = json!([AWAY]);
            unwell.apply(&engine.to_string())?;
            unwell.wait_engine_reason(ENGINE, "KafkaUnreachable", LIMIT)?;
            let (over, events) = (AtomicBool::new(false), AtomicUsize::new(0));
            let beside = std::thread::scope(|scope| {
                scope.spawn(|| flood(unwell, &over, &events));
                let beside = changes(well, CHANGES);
                over.store(true, Ordering::Relaxed);
                beside
            })?;
            println!("\nA change until its status is written, {CHANGES} of them, through kubectl\n");
            println!("{:44} {:>8} {:>8}", "", "p50", "max");
            for (what, times) in [("alone", alone), ("beside an engine without Kafka, and events", beside)] {
                let longest = times.last().copied().unwrap_or_default();
                let median = times.get(times.len() / 2).copied().unwrap_or_default();
                println!("{what:44} {:>5} ms {:>5} ms", median.as_millis(), longest.as_millis());
            }
            println!("events of the other meanwhile: {}", events.load(Ordering::Relaxed));
            Ok(())
        })
    })
}

/// Changes the engine again and again; how long each took, sorted.
fn changes(namespace: &Namespace, from: u64) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for change in from..from + CHANGES {
        let patch = json!({"spec": {"failureDetection": {"suspectAfter": 4 + change % 2}}}).to_string();
        let begun = Instant::now();
        let patched = [
            "patch",
            "decisionengine",
            ENGINE,
            "--type=merge",
            "-p",
            &patch,
            "-o",
            "jsonpath={.metadata.generation}",
        ];
        let generation = namespace.kubectl(&patched)?;
        let seen = format!("--for=jsonpath={{.status.observedGeneration}}={}", generation.trim());
        namespace
            .kubectl(&["wait", "decisionengine", ENGINE, &seen, "--timeout=60s"])
            .context("wait for the status")?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}

/// As many events as one client can make.
fn flood(namespace: &Namespace, over: &AtomicBool, events: &AtomicUsize) {
    while !over.load(Ordering::Relaxed) {
        let count = events.fetch_add(1, Ordering::Relaxed);
        let annotation = format!("example.org/event={count}");
        let annotated =
            namespace.kubectl(&["annotate", "decisionengine", ENGINE, "--overwrite", &annotation]);
        if let Err(error) = annotated {
            eprintln!("no event: {error:#}");
        }
    }
}
