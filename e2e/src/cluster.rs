//! What a bed is: its name, its places on this machine, its addresses; and how a process gets inside.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::foreign::{self, Foreign};
use crate::parts::Parts;

/// Kubernetes nodes, and brokers, of every bed; both are counted from 1.
pub const NODES: usize = 3;
pub const BROKERS: usize = 3;

/// Where Helm installs the operator.
pub const OPERATORS_NAMESPACE: &str = "decree-system";
/// Helm's name for it, and its service account's.
pub const OPERATOR: &str = "decree";

/// The address of the switch: the API server and DNS listen there.
pub(crate) const SWITCH: &str = "10.77.0.1";
pub(crate) const POD_RANGE: &str = "10.78.0.0/16";
pub(crate) const SERVICE_RANGE: &str = "10.96.0.0/16";
pub(crate) const KUBERNETES_SERVICE: &str = "10.96.0.1";
pub(crate) const DNS_SERVICE: &str = "10.96.0.10";

/// A test finds its bed by the name in this variable.
pub(crate) const BED_VARIABLE: &str = "DECREE_BED";

/// Where beds live: not under /run, which may be memory, and short, for the sockets in it.
const ROOT: &str = "/var/lib/decree-bed";

/// One bed, running or not: everything about it follows from its name. Or a cluster of the user's that takes its place.
#[derive(Debug, Clone)]
pub struct Bed {
    name: String,
    pub(crate) parts: Parts,
    foreign: Option<Foreign>,
}

impl Bed {
    /// The bed of this name, without asking whether it runs.
    pub fn named(name: &str) -> Result<Self> {
        ensure!(
            (1..=20).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
            "a bed's name has 1 to 20 characters of a-z, 0-9 and -, not {name:?}"
        );
        Ok(Self { name: name.to_owned(), parts: Parts::locate()?, foreign: None })
    }

    /// A cluster of the user's.
    pub fn foreign(cluster: Foreign) -> Result<Self> {
        Ok(Self { foreign: Some(cluster), ..Self::named("foreign")? })
    }

    /// The cluster of the user's that this is, if it is no bed.
    pub(crate) fn as_foreign(&self) -> Option<&Foreign> {
        self.foreign.as_ref()
    }

    /// Fails on a cluster of the user's. A test that needs the bed's hands is named in `cargo verify` as left out there.
    pub(crate) fn ensure_own(&self, what: &str) -> Result<()> {
        ensure!(self.foreign.is_none(), "only on a bed of its own can this program {what}");
        Ok(())
    }

    /// Names of the beds that this machine has anything of.
    pub fn all() -> Result<Vec<String>> {
        let Ok(entries) = std::fs::read_dir(ROOT) else { return Ok(Vec::new()) };
        let mut names: Vec<String> = entries
            .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
            .filter(|name| Self::named(name).is_ok())
            .collect();
        names.sort();
        Ok(names)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The binaries that the bed is made of.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The bed's directory: state, logs and volumes of all its processes.
    pub fn dir(&self) -> PathBuf {
        match self.foreign {
            None => Path::new(ROOT).join(&self.name),
            Some(_) => std::env::temp_dir().join("decree-foreign"),
        }
    }

    /// One log file a process.
    pub fn logs(&self) -> PathBuf {
        self.dir().join("log")
    }

    /// What the operator has asked the API server for, a line of JSON each, in Kubernetes' form of an audit.
    pub fn operators_requests(&self) -> PathBuf {
        self.logs().join("operators-requests.log")
    }

    /// Credentials that may do everything.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir().join("pki/admin.kubeconfig")
    }

    pub(crate) fn ready_file(&self) -> PathBuf {
        self.dir().join("ready")
    }

    /// The network namespace of a host: `switch`, `node1`, `kafka1` and so on.
    pub(crate) fn network_namespace(&self, host: &str) -> PathBuf {
        Path::new("/run/netns").join(self.namespace_name(host))
    }

    pub(crate) fn namespace_name(&self, host: &str) -> String {
        format!("decree-{}-{host}", self.name)
    }

    /// A command that runs in the bed's switch, where Services, pods and brokers can be reached, with the bed's
    /// kubectl and Helm first in its path.
    pub fn command_inside(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = if self.foreign.is_some() {
            Command::new(program)
        } else {
            let mut command = Command::new("nsenter");
            command
                .arg(format!("--net={}", self.network_namespace("switch").display()))
                .arg("--")
                .arg(program);
            command
        };
        for (name, value) in self.environment() {
            command.env(name, value);
        }
        command
    }

    /// kubectl or Helm: the bed's own, which is built in a directory, or the user's for a cluster of the user's.
    pub(crate) fn tool(&self, directory: &Path, name: &str) -> Command {
        match self.foreign {
            None => self.command_inside(directory.join(name)),
            Some(_) => self.command_inside(name),
        }
    }

    /// An image of this checkout or of a test's application: `operator`, `sidecar`, `opa`, ….
    pub fn image(&self, name: &str) -> String {
        match &self.foreign {
            None => foreign::image(name),
            Some(cluster) => foreign::image_of(&cluster.images, name),
        }
    }

    /// The brokers' plain listeners.
    pub fn kafka_bootstrap(&self) -> String {
        match &self.foreign {
            None => self.kafka_listeners(9092),
            Some(cluster) => cluster.kafka.clone(),
        }
    }

    /// The brokers' listeners on one of the ports that [`crate::kafka`] names.
    pub fn kafka_listeners(&self, port: u16) -> String {
        let brokers: Vec<String> =
            (1..=BROKERS).map(|broker| format!("{}:{port}", broker_address(broker))).collect();
        brokers.join(",")
    }

    /// Certificates for the listeners with TLS: `ca.crt`, and of a client `client.crt`, `client.key`, both in
    /// `client.pem`.
    pub fn kafka_certificates(&self) -> PathBuf {
        self.dir().join("kafka/pki")
    }

    /// What a process on the bed finds in its environment.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        if let Some(cluster) = &self.foreign {
            return cluster.environment();
        }
        let path = format!(
            "{}:{}:{}",
            self.parts.kubernetes.display(),
            self.parts.helm.display(),
            std::env::var("PATH").unwrap_or_default()
        );
        vec![
            (BED_VARIABLE, self.name.clone()),
            ("KUBECONFIG", self.kubeconfig().display().to_string()),
            ("DECREE_KAFKA", self.kafka_bootstrap()),
            ("DECREE_KAFKA_CERTIFICATES", self.kafka_certificates().display().to_string()),
            ("PATH", path),
        ]
    }

    /// Moves the calling thread, and the threads and processes it starts from now on, into the bed's switch.
    /// A program that wants to be inside as a whole calls this first.
    pub fn enter(&self) -> Result<()> {
        self.enter_host("switch")
    }

    /// Runs a function in the bed's switch, on a thread of its own.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.inside_host("switch", work)
    }

    pub(crate) fn inside_host<T: Send>(
        &self,
        host: &str,
        work: impl FnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        let enter_and_work = || {
            if self.foreign.is_none() {
                self.enter_host(host)?;
            }
            work()
        };
        std::thread::scope(|scope| scope.spawn(enter_and_work).join())
            .map_err(|_| anyhow!("a thread inside {host} of bed {:?} panicked", self.name))?
    }

    fn enter_host(&self, host: &str) -> Result<()> {
        let path = self.network_namespace(host);
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("enter {}", path.display()))
    }
}

pub(crate) fn node_name(node: usize) -> String {
    format!("node{node}")
}

pub(crate) fn node_address(node: usize) -> String {
    format!("10.77.0.{}", 100 + node)
}

pub(crate) fn node_pod_range(node: usize) -> String {
    format!("10.78.{node}.0/24")
}

pub(crate) fn broker_name(broker: usize) -> String {
    format!("kafka{broker}")
}

pub(crate) fn broker_address(broker: usize) -> String {
    format!("10.77.0.{}", 10 + broker)
}

/// Every network namespace on the bridge, with its address there.
pub(crate) fn hosts() -> impl Iterator<Item = (String, String)> {
    let nodes = (1..=NODES).map(|node| (node_name(node), node_address(node)));
    nodes.chain((1..=BROKERS).map(|broker| (broker_name(broker), broker_address(broker))))
}
