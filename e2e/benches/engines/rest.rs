//! What the operator holds, burns and asks for while many engines rest.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use decree_e2e::install::{NAMESPACE, RELEASE};
use decree_e2e::parts::progress::Progress;
use decree_e2e::{Bed, Namespace, manifests, wait};
use serde_json::{Value, json};

/// So many engines a namespace.
const EACH: usize = 100;
const READY: Duration = Duration::from_secs(900);
/// After the last engine is ready nothing is measured for so long.
const CALM: Duration = Duration::from_secs(90);
/// How many are ready is asked so often: it costs the API server more than anything that is measured.
const LOOK: Duration = Duration::from_secs(10);

pub(crate) fn run(bed: &Bed, engines: usize, watched: Duration, progress: &Progress) -> Result<()> {
    let namespaces =
        (0..engines.div_ceil(EACH)).map(|_| bed.namespace("rest")).collect::<Result<Vec<_>>>()?;
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let create = move |(index, namespace): (usize, &Namespace)| {
            let count = EACH.min(engines - index * EACH);
            namespace.apply(&list(bed, count).to_string()).map(drop)
        };
        let creating: Vec<_> =
            namespaces.iter().enumerate().map(|each| scope.spawn(move || create(each))).collect();
        creating
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| anyhow!("who creates engines panicked"))?)
    })?;
    progress.say(&format!("{engines} engines were created in {:.0} s", begun.elapsed().as_secs_f64()));
    wait::until(format!("{engines} engines to be ready"), READY, || {
        let ready = ready(&namespaces)?;
        if ready >= engines {
            return Ok(Some(()));
        }
        progress.say(&format!("{ready} of {engines} engines are ready"));
        std::thread::sleep(LOOK);
        Ok(None)
    })?;
    let provisioned = begun.elapsed();
    std::thread::sleep(CALM);
    let leader = leader(bed)?;
    let (mut requests, ticks) = (Requests::from_here(bed)?, leader.ticks()?);
    std::thread::sleep(watched);
    let asked = requests.counted()?;
    let burnt = leader.ticks()?.saturating_sub(ticks) as f64 / 100.0 / watched.as_secs_f64();
    println!("\n{engines} engines at rest, watched for {} s\n", watched.as_secs());
    println!("{:44} {:>10.1} MB   goal 40", "the leader holds", leader.resident()?);
    println!("{:44} {:>10.3} of a core", "it burns", burnt);
    println!("{:44} {:>10.1} s", "provisioned in", provisioned.as_secs_f64());
    println!("\nWhat all operators ask the API server for meanwhile, a minute\n");
    let a_minute = |count: usize| count as f64 * 60.0 / watched.as_secs_f64();
    for (what, count) in &asked {
        println!("{what:44} {:>10.1}", a_minute(*count));
    }
    println!("{:44} {:>10.1}", "all", a_minute(asked.values().sum()));
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

/// What the operators ask for, from a moment on.
struct Requests(BufReader<File>);

impl Requests {
    fn from_here(bed: &Bed) -> Result<Self> {
        let path = bed.operators_requests();
        let mut file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        file.seek(SeekFrom::End(0)).with_context(|| format!("go to the end of {}", path.display()))?;
        Ok(Self(BufReader::new(file)))
    }

    /// How many there were since, by verb and resource.
    fn counted(&mut self) -> Result<BTreeMap<String, usize>> {
        let mut counts = BTreeMap::new();
        let mut line = String::new();
        while self.0.read_line(&mut line).context("read what the operators asked for")? > 0 {
            let request: Value = serde_json::from_str(&line).with_context(|| format!("read {line:?}"))?;
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (verb, of) = (word(&request["verb"]), &request["objectRef"]);
            let resource = [word(&of["resource"]), word(&of["subresource"])];
            let resource = resource.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>();
            *counts.entry(format!("{verb} {}", resource.join("/"))).or_default() += 1;
            line.clear();
        }
        Ok(counts)
    }
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
