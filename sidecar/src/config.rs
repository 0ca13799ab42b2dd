//! What belongs to this pod (flags and environment) and where the engine's document is found.

use std::net::SocketAddr;
use std::path::PathBuf;

use decree_wire::pod::{env, path, port};
use decree_wire::probe::{Liveness, Restart};

pub mod credentials;
pub mod document;

/// What this process is told at its start and never changes.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    /// What belongs to the pod.
    #[command(flatten)]
    pub pod: Pod,
    /// Where things are on this machine.
    #[command(flatten)]
    pub places: Places,
}

/// What belongs to the pod; set at injection.
#[derive(Clone, Debug, clap::Args)]
pub struct Pod {
    /// The pod's name.
    #[arg(long = "pod", env = env::POD)]
    pub name: String,
    /// The pod's uid.
    #[arg(long = "pod-uid", env = env::UID, default_value = "")]
    pub uid: String,
    /// The pod's namespace.
    #[arg(long, env = env::NAMESPACE, default_value = "default")]
    pub namespace: String,
    /// The agent class; may be left out where the engine has one.
    #[arg(long, env = env::CLASS)]
    pub class: Option<String>,
    /// The newest command version that the application understands.
    #[arg(long = "command-version", env = env::VERSION, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub version: u32,
    /// What gives the application an empty state again: the container's restart, or the pod's.
    #[arg(long, env = env::RESTART, default_value_t = Restart::default())]
    pub restart: Restart,
    /// The user's own liveness check, as JSON; none where the user has none.
    #[arg(long, env = env::LIVENESS)]
    pub liveness: Option<Liveness>,
    /// The pod's `terminationGracePeriodSeconds`: a member of a group goes on voting for nearly as long.
    #[arg(long, env = env::GRACE, default_value_t = 30)]
    pub grace_seconds: u64,
    /// The pod's own address, where a check that names no host goes.
    #[arg(long = "pod-ip", env = env::IP, default_value = "127.0.0.1")]
    pub ip: String,
}

/// Files and addresses. The defaults are those of a pod; the flags are for running without Kubernetes.
#[derive(Clone, Debug, clap::Args)]
pub struct Places {
    /// The engine's document: a file, or the folder that its Secret is mounted at.
    #[arg(long, env = "DECREE_DOCUMENT", default_value = path::DOCUMENT)]
    pub document: PathBuf,
    /// The folder of the journal and the dedup window.
    #[arg(long, env = "DECREE_STATE", default_value = path::STATE)]
    pub state: PathBuf,
    /// The folder of the Unix socket.
    #[arg(long, env = "DECREE_RUN", default_value = path::RUN)]
    pub run: PathBuf,
    /// The pod's token, shown to who issues certificates.
    #[arg(long, env = "DECREE_TOKEN", default_value = path::TOKEN)]
    pub token: PathBuf,
    /// Where the application's local API listens.
    #[arg(long, env = "DECREE_API", default_value_t = SocketAddr::from(([127, 0, 0, 1], port::API)))]
    pub api: SocketAddr,
    /// Where `/livez`, `/readyz`, `/metrics` and `/status` listen; default: every address of the pod.
    #[arg(long, env = "DECREE_HEALTH", default_value_t = anywhere(port::HEALTH))]
    pub health: SocketAddr,
    /// Where HTTP replication listens; default: every address of the pod.
    #[arg(long, env = "DECREE_REPLICATE", default_value_t = anywhere(port::REPLICATE))]
    pub replicate: SocketAddr,
    /// Where peers come in, if a group orders; default: every address of the pod.
    #[arg(long, env = "DECREE_PEERS", default_value_t = anywhere(port::PEERS))]
    pub peers: SocketAddr,
}

impl Places {
    /// The local API's Unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        // The name is the injection's; only the folder can differ.
        self.run.join(PathBuf::from(path::SOCKET).file_name().unwrap_or_default())
    }
}

/// Both address families where the pod has them; IPv4 alone where the kernel has no IPv6.
fn anywhere(port: u16) -> SocketAddr {
    let six = std::net::UdpSocket::bind((std::net::Ipv6Addr::UNSPECIFIED, 0)).is_ok();
    if six {
        (std::net::Ipv6Addr::UNSPECIFIED, port).into()
    } else {
        (std::net::Ipv4Addr::UNSPECIFIED, port).into()
    }
}
