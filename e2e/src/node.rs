//! A Kubernetes node: containerd and a kubelet in a network and a mount namespace of their own.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde_json::json;

use crate::cluster::{Bed, DNS_SERVICE, node_address, node_name, node_pod_range};
use crate::control_plane;
use crate::process::{self, Program};
use crate::{cgroup, proxy};

const START_LIMIT: Duration = Duration::from_secs(30);

pub(crate) const PAUSE_IMAGE: &str = "decree-pause:1";

/// Places that Kubernetes and containerd have by heart. A node has its own empty ones, in memory; as its mounts
/// are in its mount namespace alone, they end with its processes.
const FIXED_PLACES: [&str; 4] =
    ["/var/lib/kubelet", "/var/lib/cni", "/var/log/containers", "/run/containerd"];

/// Starts containerd and waits until images can be brought to it.
pub(crate) fn start_runtime(bed: &Bed, node: usize) -> Result<()> {
    let directory = directory(bed, node);
    fs::create_dir_all(directory.join("cni")).with_context(|| format!("create {}", directory.display()))?;
    fs::write(directory.join("cni/bed.conflist"), network_config(bed, node))?;
    let config = directory.join("containerd.toml");
    fs::write(&config, runtime_config(&directory))?;

    let mut mounts = vec!["mount --make-rshared /".to_owned(), control_plane::volumes(bed)?];
    // Without groups by quality of service, the kubelet leaves it to containerd where containers go, and that takes
    // a place below the root: the node's own group is the root that both see.
    for (own, root) in cgroup::roots(bed, &node_name(node))? {
        mounts.push(format!("mount --bind {} {}", own.display(), root.display()));
    }
    for place in FIXED_PLACES {
        fs::create_dir_all(place).with_context(|| format!("create {place}"))?;
        mounts.push(format!("mount -t tmpfs -o mode=755 {} {place}", node_name(node)));
    }
    let name = runtime_name(node);
    Program::new(&name, node_name(node), "unshare")
        .args(["--mount", "--cgroup", "--propagation", "slave", "sh", "-ec"])
        .arg(format!("{}; exec \"$@\"", mounts.join("; ")))
        .args([&name, "containerd", "--config", &config.display().to_string()])
        .start(bed)?;
    process::wait_ready(bed, &[&name], START_LIMIT, || {
        UnixStream::connect(runtime_socket(bed, node)).map(drop).context("connect to containerd")
    })
}

/// Starts the kubelet and kube-proxy beside the runtime.
pub(crate) fn start_kubelet(bed: &Bed, node: usize) -> Result<()> {
    start_kubelet_alone(bed, node)?;
    proxy::start(bed, &node_name(node), &node_name(node))
}

/// Starts the kubelet anew, with what it is to do by now; containers run on meanwhile.
pub(crate) fn restart_kubelet(bed: &Bed, node: usize) -> Result<()> {
    process::stop(bed, &kubelet_name(node), Signal::TERM, START_LIMIT)?;
    start_kubelet_alone(bed, node)
}

/// Where it stands that containers are started again with the kubelet's own back-off.
pub(crate) fn default_back_off(bed: &Bed) -> PathBuf {
    bed.dir().join("default-back-off")
}

fn start_kubelet_alone(bed: &Bed, node: usize) -> Result<()> {
    let name = node_name(node);
    let config = directory(bed, node).join("kubelet.json");
    fs::write(&config, kubelet_config(bed, node)).with_context(|| format!("write {}", config.display()))?;
    let runtime = process::pid(bed, &runtime_name(node)).context("find the node's containerd")?;
    Program::new(kubelet_name(node), &name, bed.parts.kubernetes.join("kubelet"))
        .with_view_of(runtime)
        .arg(format!("--config={}", config.display()))
        .arg(format!("--kubeconfig={}", bed.dir().join(format!("pki/{name}.kubeconfig")).display()))
        .arg(format!("--root-dir={}", directory(bed, node).join("kubelet").display()))
        .arg(format!("--cert-dir={}", directory(bed, node).join("kubelet-pki").display()))
        .arg(format!("--hostname-override={name}"))
        .arg(format!("--node-ip={}", node_address(node)))
        .arg(format!("--node-labels=topology.kubernetes.io/zone=zone{node}"))
        .start(bed)
        .map(drop)
}

pub(crate) fn directory(bed: &Bed, node: usize) -> PathBuf {
    bed.dir().join(node_name(node))
}

/// containerd's own client, as a process of the bed: it waits for ever for a containerd that is gone.
pub(crate) fn runtime_client(bed: &Bed, node: usize) -> Program {
    Program::new(format!("ctr-{}", node_name(node)), node_name(node), "ctr")
        .args(["--address".to_owned(), runtime_socket(bed, node).display().to_string()])
        .args(["--namespace", "k8s.io"])
}

/// The file in which containerd keeps the pid of a container's first process.
pub(crate) fn container_pid(bed: &Bed, node: usize, container: &str) -> PathBuf {
    let tasks = "containerd-state/io.containerd.runtime.v2.task/k8s.io";
    directory(bed, node).join(tasks).join(container).join("init.pid")
}

fn runtime_socket(bed: &Bed, node: usize) -> PathBuf {
    directory(bed, node).join("containerd.sock")
}

pub(crate) fn runtime_name(node: usize) -> String {
    format!("containerd-{}", node_name(node))
}

pub(crate) fn kubelet_name(node: usize) -> String {
    format!("kubelet-{}", node_name(node))
}

/// The pods of a node are on a bridge of its own; `hairpinMode` lets a pod reach itself through a Service.
fn network_config(bed: &Bed, node: usize) -> String {
    let config = json!({
        "cniVersion": "0.4.0",
        "name": format!("decree-{}", bed.name()),
        "plugins": [{
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": true,
            "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": node_pod_range(node)}]],
                "routes": [{"dst": "0.0.0.0/0"}],
                "dataDir": directory(bed, node).join("addresses"),
            },
        }],
    });
    config.to_string()
}

/// `restrict_oom_score_adj`: without CAP_SYS_RESOURCE every sandbox dies otherwise.
fn runtime_config(directory: &Path) -> String {
    let at = |name: &str| directory.join(name).display().to_string();
    format!(
        r#"version = 2
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  disable_apparmor = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{cni}"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  Root = "{runc}"
"#,
        root = at("containerd"),
        state = at("containerd-state"),
        socket = at("containerd.sock"),
        cni = at("cni"),
        runc = at("runc"),
    )
}

fn kubelet_config(bed: &Bed, node: usize) -> String {
    let mut config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": format!("unix://{}", runtime_socket(bed, node).display()),
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": bed.dir().join("pki/ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "podLogsDir": directory(bed, node).join("pod-logs"),
        "volumePluginDir": directory(bed, node).join("plugins"),
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": false,
        "enforceNodeAllocatable": [],
        "localStorageCapacityIsolation": false,
        // The machine is shared with whatever else is on it: its full disk is no reason to evict or to delete images.
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        "failSwapOn": false,
        "oomScoreAdj": 0,
        "serializeImagePulls": false,
        // Without groups a pod, a container that ends while its resources are compared ends the kubelet (nil pointer).
        "featureGates": {"InPlacePodVerticalScaling": false},
    });
    if !default_back_off(bed).exists() {
        // Tests kill one container many times.
        config["featureGates"]["KubeletCrashLoopBackOffMax"] = json!(true);
        config["crashLoopBackOff"] = json!({"maxContainerRestartPeriod": "1s"});
    }
    config.to_string()
}
