//! `cargo demo`: three unmodified policy agents that stay the same, on a real cluster, while one of them is killed.

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use decree_e2e::parts::progress::Progress;
use decree_e2e::{Bed, client, door::Door, foreign, install, wait};
use serde_json::{Value, json};

/// Show Decree on a cluster of this machine's own.
#[derive(Debug, Parser)]
#[command(name = "cargo demo")]
struct Arguments {
    /// Which bed to use; it is started if it is down, and stays up
    #[arg(long, default_value = "demo", conflicts_with = "kubeconfig")]
    name: String,
    #[command(flatten)]
    foreign: foreign::Options,
}

const NAMESPACE: &str = "shop";
const CLIENTS: usize = 4;
const CHANGES: usize = 100;
const MANIFESTS: &str = include_str!("demo/policy.yaml");
/// What the manifests name on a bed, and is the user's own elsewhere.
const BED_SERVERS: &str = r#"["10.77.0.11:9092", "10.77.0.12:9092", "10.77.0.13:9092"]"#;
const BED_IMAGE: &str = "decree.dev/opa:dev";
const POLICY: &str = include_str!("demo/discount.rego");

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            eprintln!("What the cluster says: {}kubectl get events -A", inside(&arguments));
            ExitCode::FAILURE
        }
    }
}

/// What precedes a command that is to see the cluster.
fn inside(arguments: &Arguments) -> String {
    match arguments.foreign.clone().cluster() {
        None => format!("cargo bed sh --name {} -- ", arguments.name),
        Some(_) => String::new(),
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let progress = Progress::new();
    let bed = match arguments.foreign.clone().cluster() {
        None => own_bed(&arguments.name, &progress)?,
        Some(cluster) => Bed::foreign(cluster)?,
    };
    install::helm(&bed, &progress)?;
    // Pods of another cluster are not reached from here.
    let _door = match arguments.foreign.clone().cluster() {
        None => None,
        Some(_) => Some(Door::open(&bed)?),
    };
    progress.step("starting three Open Policy Agent pods", None, || start(&bed))?;
    let service = service(&bed)?;
    let killed = progress.step("changing policy and data while a pod is killed", None, || {
        bed.inside(|| change(&bed, &service))
    })?;
    let rows = progress.step("comparing the pods", None, || {
        let rows = bed.inside(|| compare(&bed))?;
        settled(&bed).map(|()| rows)
    })?;
    report(&bed, &killed, &rows, &inside(arguments))
}

/// A bed that has the images of this checkout.
fn own_bed(name: &str, progress: &Progress) -> Result<Bed> {
    let bed = Bed::named(name)?;
    install::prepare(&bed, progress)?;
    install::build(&bed, progress)?;
    let bed = Bed::up(bed.name(), progress)?;
    install::load_images(&bed, progress)?;
    Ok(bed)
}

/// One `DecisionEngine`, and a Deployment that differs from any other by one label.
fn start(bed: &Bed) -> Result<()> {
    let exists = bed.kubectl(&["get", "namespace", NAMESPACE, "--ignore-not-found", "-o", "name"])?;
    if exists.is_empty() {
        bed.kubectl(&["create", "namespace", NAMESPACE])?;
    }
    let servers: Vec<String> = bed.kafka_bootstrap().split(',').map(str::to_owned).collect();
    ensure!(
        MANIFESTS.contains(BED_SERVERS) && MANIFESTS.contains(BED_IMAGE),
        "the manifests name a bed's parts"
    );
    let manifests =
        MANIFESTS.replace(BED_SERVERS, &json!(servers).to_string()).replace(BED_IMAGE, &bed.image("opa"));
    bed.kubectl_with_input(&["-n", NAMESPACE, "apply", "--server-side", "-f", "-"], &manifests)?;
    bed.kubectl(&[
        "-n",
        NAMESPACE,
        "wait",
        "decisionengine/policy",
        "--for=condition=Ready",
        "--timeout=120s",
    ])?;
    bed.kubectl(&["-n", NAMESPACE, "rollout", "status", "deployment/opa", "--timeout=180s"])?;
    Ok(())
}

fn service(bed: &Bed) -> Result<String> {
    let service = bed.kubectl_json(&["-n", NAMESPACE, "get", "service", "policy"])?;
    let address = service["spec"]["clusterIP"].as_str().context("the engine's Service has no address yet")?;
    Ok(format!("http://{address}"))
}

/// Sends the policy and then `CHANGES` changes of data from `CLIENTS` clients; deletes a pod half-way. A client
/// repeats what was not answered, under the same id: that is all that it has to know.
fn change(bed: &Bed, service: &str) -> Result<String> {
    // Ids of this run, so that a second demo on the same log is not taken for a repeat of the first.
    let run = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis();
    send(&format!("{run}-policy"), "PUT", &format!("{service}/v1/policies/discount"), "text/plain", POLICY)?;
    let data = format!("{service}/v1/data/discounts");
    send(&format!("{run}-data"), "PUT", &data, "application/json", "{}")?;
    let sent = AtomicUsize::new(0);
    let client = |client: usize| {
        for change in (client..CHANGES).step_by(CLIENTS) {
            let patch = json!([{"op": "add", "path": format!("/customer-{change}"), "value": change % 7}]);
            send(
                &format!("{run}-{change}"),
                "PATCH",
                &data,
                "application/json-patch+json",
                &patch.to_string(),
            )?;
            sent.fetch_add(1, Ordering::Relaxed);
        }
        anyhow::Ok(())
    };
    std::thread::scope(|scope| {
        let client = &client;
        let clients: Vec<_> = (0..CLIENTS).map(|n| scope.spawn(move || client(n))).collect();
        let half = || Ok((sent.load(Ordering::Relaxed) * 2 >= CHANGES).then_some(()));
        let killed =
            wait::until("half of the changes", Duration::from_secs(60), half).and_then(|()| kill(bed));
        for client in clients {
            client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        killed
    })
}

fn send(id: &str, method: &str, url: &str, content_type: &str, body: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(url)
            .header("content-type", content_type)
            .header("idempotency-key", id)
            .body(body)?;
        let outcome = agent(url).run(request);
        match outcome {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(mut answer) if !matches!(answer.status().as_u16(), 429 | 502..=504) => {
                bail!("{method} {url}: {} {}", answer.status(), answer.body_mut().read_to_string()?)
            }
            _ if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(100)),
            Ok(answer) => bail!("{method} {url}: {} for a minute", answer.status()),
            Err(error) => return Err(error).with_context(|| format!("{method} {url}")),
        }
    }
}

fn agent(url: &str) -> ureq::Agent {
    client::http(url, Duration::from_secs(10))
}

fn kill(bed: &Bed) -> Result<String> {
    let pods = pods(bed)?;
    let (victim, _) = pods.first().context("no pod to kill")?;
    bed.kubectl(&["-n", NAMESPACE, "delete", "pod", victim, "--grace-period=0", "--force"])?;
    Ok(victim.clone())
}

/// Names and addresses of the pods that are not ending.
fn pods(bed: &Bed) -> Result<Vec<(String, String)>> {
    let list = bed.kubectl_json(&["-n", NAMESPACE, "get", "pods", "-l", "decree.dev/engine=policy"])?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let living = list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|p| p["metadata"]["deletionTimestamp"].is_null());
    Ok(living.map(|pod| (text(&pod["metadata"]["name"]), text(&pod["status"]["podIP"]))).collect())
}

/// What one pod says of itself.
struct Row {
    pod: String,
    position: String,
    digest: String,
    decision: String,
}

/// Asks every pod, behind a barrier, until all have dealt with the same last entry and the killed one is replaced.
fn compare(bed: &Bed) -> Result<Vec<Row>> {
    wait::until("three pods at one position", Duration::from_secs(120), || {
        let pods = pods(bed)?;
        ensure!(pods.len() == 3, "{} pods", pods.len());
        let rows = pods.iter().map(|(pod, address)| ask(pod, address)).collect::<Result<Vec<_>>>()?;
        Ok(rows.iter().all(|row| row.position == rows[0].position).then_some(rows))
    })
}

/// Waits until the engine's status tells what the pods did; its numbers are written now and then.
fn settled(bed: &Bed) -> Result<()> {
    wait::until("the engine's status to show three equal agents", Duration::from_secs(90), || {
        let engine = bed.kubectl_json(&["-n", NAMESPACE, "get", "decisionengine", "policy"])?;
        let status = &engine["status"];
        let shown = status["agents"]["summary"] == "3/3" && status["digests"] == "equal";
        Ok((shown && status["head"].is_i64() && status["lag"].is_string()).then_some(()))
    })
}

fn ask(pod: &str, address: &str) -> Result<Row> {
    let question = json!({"input": {"customer": "customer-41"}}).to_string();
    let url = format!("http://{address}:7072/v1/data/shop/discount");
    let decision = agent(&url)
        .post(&url)
        .header("content-type", "application/json")
        .send(question)?
        .body_mut()
        .read_to_string()?;
    let decision: Value =
        serde_json::from_str(&decision).with_context(|| format!("{pod} answered {decision:?}"))?;
    let url = format!("http://{address}:7071/status");
    let status = agent(&url).get(&url).call()?.body_mut().read_to_string()?;
    let status: Value = serde_json::from_str(&status)?;
    let replica = &status["replica"];
    Ok(Row {
        pod: pod.to_owned(),
        position: replica["position"].to_string(),
        digest: replica["digest"]["hash"]
            .as_str()
            .map(|hash| hash.chars().take(16).collect())
            .unwrap_or_default(),
        decision: decision["result"].to_string(),
    })
}

fn report(bed: &Bed, killed: &str, rows: &[Row], inside: &str) -> Result<()> {
    println!();
    println!(
        "{CHANGES} changes went through Service \"policy\" from {CLIENTS} clients; {killed} was killed in the middle."
    );
    println!("Every pod now says:\n");
    println!("  {:<24} {:>8}  {:<16}  discount of customer-41", "POD", "POSITION", "DIGEST");
    for Row { pod, position, digest, decision } in rows {
        println!("  {pod:<24} {position:>8}  {digest:<16}  {decision}");
    }
    println!();
    let same = rows.iter().all(|row| row.digest == rows[0].digest && row.decision == rows[0].decision);
    ensure!(same && !rows[0].digest.is_empty(), "the pods differ: this is a bug in Decree");
    println!("{}", bed.kubectl(&["-n", NAMESPACE, "get", "decisionengine", "policy"])?);
    println!(
        "Equal in all three. The pods' image is Open Policy Agent as it is; their manifest has one label more.\n"
    );
    println!("What to try next:");
    println!("  {inside}kubectl -n {NAMESPACE} scale deployment opa --replicas=5");
    println!("  {inside}kubectl -n {NAMESPACE} explain decisionengine.spec");
    if inside.is_empty() {
        println!("Remove it:");
        println!("  kubectl delete namespace {NAMESPACE}");
        println!("  helm uninstall {} -n {}", install::RELEASE, install::NAMESPACE);
    } else {
        let name = bed.name();
        println!("  cargo bed sh --name {name}      a shell inside, with kubectl and helm");
        println!("Take it down:");
        println!("  cargo bed down --name {name}");
    }
    Ok(())
}
