//! Bringing a bed up: what waits for what, and the rest side by side.

use std::fs::{self, File};
use std::path::PathBuf;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use crate::cluster::{BED_VARIABLE, BROKERS, Bed, DNS_SERVICE, NODES, SWITCH, broker_address, node_name};
use crate::foreign::Foreign;
use crate::images::{self, Image};
use crate::parts::progress::Progress;
use crate::{control_plane, dns, kafka, network, node, process, proxy, teardown};

const READY_LIMIT: Duration = Duration::from_secs(120);

impl Bed {
    /// The running bed of this name, brought up if it is not.
    pub fn up(name: &str, progress: &Progress) -> Result<Self> {
        let bed = Self::named(name)?;
        ensure!(
            rustix::process::geteuid().is_root(),
            "a bed makes network namespaces and mounts: run this as root"
        );
        let _lock = bed.lock()?;
        if bed.is_up() {
            progress.say(&format!("bed {name:?} is up already"));
            return Ok(bed);
        }
        bed.parts.ensure(progress)?;
        progress.step(&format!("starting bed {name:?}"), None, || bed.start())?;
        Ok(bed)
    }

    /// Brokers and nothing else, started anew: what a benchmark needs. [`Bed::down`] takes them away.
    pub fn brokers_up(name: &str, progress: &Progress) -> Result<Self> {
        let bed = Self::named(name)?;
        let _lock = bed.lock()?;
        bed.parts.ensure(progress)?;
        progress.step(&format!("starting the brokers of bed {name:?}"), None, || {
            teardown::everything(&bed)?;
            fs::create_dir_all(bed.dir()).with_context(|| format!("create {}", bed.dir().display()))?;
            network::create(&bed)?;
            kafka::create(&bed)?;
            kafka::start(&bed, 1..=BROKERS)
        })?;
        Ok(bed)
    }

    /// The running bed of this name.
    pub fn attach(name: &str) -> Result<Self> {
        let bed = Self::named(name)?;
        ensure!(bed.is_up(), "bed {name:?} is not up: `cargo bed up --name {name}`");
        Ok(bed)
    }

    /// The running bed, or cluster of the user's, that the environment names: what a test on a cluster calls first.
    pub fn of_test() -> Result<Self> {
        if let Some(cluster) = Foreign::of_environment()? {
            return Self::foreign(cluster);
        }
        match std::env::var(BED_VARIABLE) {
            Ok(name) => Self::attach(&name),
            Err(_) => {
                bail!("this test needs a bed: run `cargo verify`, or set {BED_VARIABLE} to a running one")
            }
        }
    }

    /// Whether it was brought up to the end and not taken down since.
    pub fn is_up(&self) -> bool {
        self.ready_file().exists() && process::is_alive(self, "kube-apiserver")
    }

    /// The bed's processes by name, and which of them run.
    pub fn processes(&self) -> Vec<(String, bool)> {
        process::all(self)
    }

    /// Takes the bed down: nothing of it is left on the machine.
    pub fn down(&self) -> Result<()> {
        let _lock = self.lock()?;
        teardown::everything(self)
    }

    /// Two that bring the same bed up or down go one after the other.
    fn lock(&self) -> Result<File> {
        let directory = self.dir();
        let beds = directory.parent().context("find the directory of beds")?;
        fs::create_dir_all(beds).with_context(|| format!("create {}", beds.display()))?;
        let path: PathBuf = beds.join(format!("{}.lock", self.name()));
        let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        flock(&file, FlockOperation::LockExclusive).with_context(|| format!("lock {}", path.display()))?;
        Ok(file)
    }

    fn start(&self) -> Result<()> {
        // What a crash left.
        teardown::everything(self)?;
        fs::create_dir_all(self.dir()).with_context(|| format!("create {}", self.dir().display()))?;
        let started = self.start_all();
        if started.is_err() {
            // The logs stay: they say why.
            teardown::all_but_logs(self)?;
        }
        started
    }

    fn start_all(&self) -> Result<()> {
        network::create(self)?;
        control_plane::create_credentials(self)?;
        std::thread::scope(|scope| {
            let brokers = scope.spawn(|| {
                kafka::create(self)?;
                kafka::start(self, 1..=BROKERS)
            });
            let runtimes: Vec<_> =
                (1..=NODES).map(|node| scope.spawn(move || start_runtime(self, node))).collect();
            control_plane::start_api_server(self)?;
            control_plane::start_controllers(self)?;
            dns::start(self)?;
            for (node, runtime) in (1..=NODES).zip(runtimes) {
                joined(runtime)?;
                node::start_kubelet(self, node)?;
            }
            proxy::start(self, "switch", &node_name(1))?;
            self.apply(&manifests())?;
            wait_until_ready(scope, self)?;
            joined(brokers)
        })?;
        fs::write(self.ready_file(), "").context("mark the bed as ready")
    }
}

fn start_runtime(bed: &Bed, node: usize) -> Result<()> {
    node::start_runtime(bed, node)?;
    let pause = Image::of_binary(node::PAUSE_IMAGE, &bed.parts.pause.join("pause"))?;
    images::load_on(bed, &pause, &[node])
}

fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a thread that brings up the bed panicked"))?
}

/// Nodes, Service addresses everywhere, and DNS.
fn wait_until_ready<'scope>(scope: &'scope Scope<'scope, '_>, bed: &'scope Bed) -> Result<()> {
    let nodes = scope.spawn(|| {
        let kubelets: Vec<String> = (1..=NODES).map(node::kubelet_name).collect();
        let kubelets: Vec<&str> = kubelets.iter().map(String::as_str).collect();
        process::wait_ready(bed, &kubelets, READY_LIMIT, || {
            let ready = ready_nodes(&bed.kubectl_json(&["get", "nodes"])?);
            ensure!(ready == NODES, "{ready} of {NODES} nodes are ready");
            Ok(())
        })
    });
    for host in std::iter::once("switch".to_owned()).chain((1..=NODES).map(node_name)) {
        process::wait_ready(bed, &[&proxy::process_name(&host)], READY_LIMIT, || {
            proxy::is_ready(bed, &host)
        })?;
    }
    process::wait_ready(bed, &["coredns"], READY_LIMIT, || dns::is_ready(bed))?;
    joined(nodes)
}

fn ready_nodes(nodes: &Value) -> usize {
    let is_ready = |node: &&Value| {
        let conditions = node["status"]["conditions"].as_array();
        conditions
            .is_some_and(|all| all.iter().any(|each| each["type"] == "Ready" && each["status"] == "True"))
    };
    nodes["items"].as_array().map_or(0, |nodes| nodes.iter().filter(is_ready).count())
}

/// What every cluster has and this one gets by hand: DNS's Service, a class of volumes; and names for the brokers,
/// `kafka-1.kafka:9092` to any pod.
fn manifests() -> String {
    let mut items = vec![
        json!({
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": "standard",
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": "kubernetes.io/host-path",
        }),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kafka"}}),
    ];
    let dns = [("dns", "UDP", 53), ("dns-tcp", "TCP", 53)];
    items.extend(service("kube-system", "kube-dns", DNS_SERVICE, SWITCH, &dns));
    for broker in 1..=BROKERS {
        let ports = [
            ("plaintext", "TCP", kafka::PLAINTEXT),
            ("tls", "TCP", kafka::TLS),
            ("mutual-tls", "TCP", kafka::MUTUAL_TLS),
            ("sasl", "TCP", kafka::SASL),
            ("sasl-tls", "TCP", kafka::SASL_TLS),
        ];
        items.extend(service("kafka", &format!("kafka-{broker}"), "None", &broker_address(broker), &ports));
    }
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

/// A Service without a selector and the slice of its one endpoint.
fn service(
    namespace: &str,
    name: &str,
    address: &str,
    endpoint: &str,
    ports: &[(&str, &str, u16)],
) -> [Value; 2] {
    let ports: Vec<Value> = ports
        .iter()
        .map(|(name, protocol, port)| json!({"name": name, "protocol": protocol, "port": port}))
        .collect();
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"namespace": namespace, "name": name, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [endpoint], "conditions": {"ready": true}}],
        "ports": ports,
    });
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"clusterIP": address, "ports": ports},
    });
    [service, slice]
}
