//! What the operator holds, burns and asks for while many engines rest.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use decree_e2e::install::{NAMESPACE, RELEASE};
use decree_e2e::{Bed, Namespace, manifests, wait};
use serde_json::{Value, json};

/// So many engines a namespace.
const EACH: usize = 100;
const READY: Duration = Duration::from_secs(1800);
/// After the last engine is ready nothing is measured for so long.
const CALM: Duration = Duration::from_secs(90);
/// The API server counts the requests of whoever has a flow schema of its own.
const SCHEMA: &str = "decree-bench";

pub(crate) fn run(bed: &Bed, engines: usize, watched: Duration) -> Result<()> {
    bed.kubectl_with_input(&["apply", "--server-side", "-f", "-"], &schema().to_string())?;
    let namespaces =
        (0..engines.div_ceil(EACH)).map(|_| bed.namespace("rest")).collect::<Result<Vec<_>>>()?;
    let begun = Instant::now();
    for (index, namespace) in namespaces.iter().enumerate() {
        let count = EACH.min(engines - index * EACH);
        namespace.apply(&list(bed, count).to_string())?;
    }
    wait::until(format!("{engines} engines to be ready"), READY, || {
        ready(&namespaces).map(|ready| (ready >= engines).then_some(()))
    })?;
    let provisioned = begun.elapsed();
    std::thread::sleep(CALM);
    let leader = leader(bed)?;
    let (requests, ticks) = (requests(bed)?, leader.ticks()?);
    std::thread::sleep(watched);
    let asked = self::requests(bed)?.saturating_sub(requests);
    let burnt = leader.ticks()?.saturating_sub(ticks) as f64 / 100.0 / watched.as_secs_f64();
    println!("\n{engines} engines at rest, watched for {} s\n", watched.as_secs());
    println!("{:44} {:>10.1} MB   goal 40", "the leader holds", leader.resident()?);
    println!("{:44} {:>10.3} of a core", "it burns", burnt);
    let a_minute = asked as f64 * 60.0 / watched.as_secs_f64();
    println!(
        "{:44} {a_minute:>10.1} a minute, leases and watches included",
        "all operators ask the API server"
    );
    println!("{:44} {:>10.1} s", "provisioned in", provisioned.as_secs_f64());
    Ok(())
}

fn list(bed: &Bed, count: usize) -> Value {
    let engine = |index: usize| {
        let mut engine = manifests::recorder_engine(bed, &format!("engine-{index}"));
        engine["spec"]["kafka"]["replicationFactor"] = json!(1);
        engine["spec"]["kafka"]["deletionPolicy"] = json!("Delete");
        engine
    };
    json!({"apiVersion": "v1", "kind": "List", "items": (0..count).map(engine).collect::<Vec<_>>()})
}

fn ready(namespaces: &[Namespace]) -> Result<usize> {
    let mut ready = 0;
    for namespace in namespaces {
        let engines = namespace.list_json("decisionengine", "")?;
        ready += engines
            .iter()
            .filter(|engine| decree_e2e::agents::status_of(engine, "Ready") == Some("True"))
            .count();
    }
    Ok(ready)
}

fn schema() -> Value {
    json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": SCHEMA},
        "spec": {
            "matchingPrecedence": 500,
            "priorityLevelConfiguration": {"name": "workload-high"},
            "rules": [{
                "subjects": [{"kind": "ServiceAccount", "serviceAccount": {"namespace": NAMESPACE, "name": RELEASE}}],
                "resourceRules": [
                    {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true},
                ],
            }],
        },
    })
}

fn requests(bed: &Bed) -> Result<u64> {
    let text = bed.kubectl(&["get", "--raw", "/metrics"])?;
    let label = format!("flow_schema=\"{SCHEMA}\"");
    let lines = text.lines().filter(|line| {
        line.starts_with("apiserver_flowcontrol_dispatched_requests_total") && line.contains(&label)
    });
    let counts = lines.map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<f64>());
    Ok(counts.sum::<Result<f64, _>>().context("read the API server's metrics")? as u64)
}

/// The operator that reconciles.
struct Leader(u32);

fn leader(bed: &Bed) -> Result<Leader> {
    let lease = bed.kubectl_json(&["--namespace", NAMESPACE, "get", "lease", RELEASE])?;
    let holder = lease["spec"]["holderIdentity"].as_str().context("nobody leads")?;
    let pod = bed.kubectl_json(&["--namespace", NAMESPACE, "get", "pod", holder])?;
    Ok(Leader(bed.container_process(&pod, "operator")?.id()))
}

impl Leader {
    /// Resident MB.
    fn resident(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("find VmRSS")?;
        let kib: f64 = line.split_whitespace().nth(1).context("read VmRSS")?.parse()?;
        Ok(kib * 1024.0 / 1e6)
    }

    /// User and system time, in hundredths of a second.
    fn ticks(&self) -> Result<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0))?;
        let (_, rest) = stat.rsplit_once(") ").context("read a process's times")?;
        let times = rest.split(' ').skip(11).take(2).map(str::parse::<u64>);
        Ok(times.sum::<Result<u64, _>>()?)
    }
}
