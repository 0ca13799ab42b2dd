//! etcd, the API server, its controllers and the scheduler, in the bed's switch.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use rcgen::KeyPair;
use serde_json::{Value, json};

use crate::cluster::{
    Bed, KUBERNETES_SERVICE, OPERATOR, OPERATORS_NAMESPACE, POD_RANGE, SERVICE_RANGE, SWITCH, node_name,
};
use crate::pki::{Authority, Subject};
use crate::process::{self, Program};

const START_LIMIT: Duration = Duration::from_secs(90);

/// Makes all certificates and keys of the cluster.
pub(crate) fn create_credentials(bed: &Bed) -> Result<()> {
    let authority = Authority::create(bed, "pki")?;
    let names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"];
    let hosts = names.into_iter().chain([
        "kubernetes.default.svc.cluster.local",
        SWITCH,
        KUBERNETES_SERVICE,
        "127.0.0.1",
    ]);
    let hosts = hosts.map(str::to_owned).collect();
    authority.sign("apiserver", &Subject { name: "kube-apiserver", organisation: None, hosts })?;
    authority.client("admin", "admin", "system:masters")?;
    authority.client("kube-controller-manager", "system:kube-controller-manager", "")?;
    authority.client("kube-scheduler", "system:kube-scheduler", "")?;
    authority.client("kube-proxy", "system:kube-proxy", "")?;
    for node in (1..=crate::cluster::NODES).map(node_name) {
        authority.client(&node, &format!("system:node:{node}"), "system:nodes")?;
    }
    let (key, file) = (KeyPair::generate()?, bed.dir().join("pki/service-accounts"));
    fs::write(file.with_extension("key"), key.serialize_pem())?;
    fs::write(file.with_extension("pub"), key.public_key_pem())
        .with_context(|| format!("write {}", file.display()))
}

/// Starts etcd and the API server, and waits until it serves.
pub(crate) fn start_api_server(bed: &Bed) -> Result<()> {
    let policy = audit_policy(bed);
    fs::write(&policy, audited().to_string()).with_context(|| format!("write {}", policy.display()))?;
    etcd(bed).start(bed)?;
    api_server(bed).start(bed)?;
    process::wait_ready(bed, &["etcd", "kube-apiserver"], START_LIMIT, || {
        bed.kubectl(&["get", "--raw", "/readyz"]).map(drop)
    })
}

/// Starts what works through the API server.
pub(crate) fn start_controllers(bed: &Bed) -> Result<()> {
    controller_manager(bed)?.start(bed)?;
    scheduler(bed).start(bed)?;
    Ok(())
}

fn pki(bed: &Bed, file: &str) -> String {
    bed.dir().join("pki").join(file).display().to_string()
}

fn etcd(bed: &Bed) -> Program {
    Program::new("etcd", "switch", bed.parts.etcd.join("etcd"))
        .arg(format!("--data-dir={}", bed.dir().join("etcd").display()))
        .args(["--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379"])
        .args(["--listen-peer-urls=http://127.0.0.1:2380", "--log-level=warn"])
        // The store need not survive the machine.
        .arg("--unsafe-no-fsync")
}

fn audit_policy(bed: &Bed) -> PathBuf {
    bed.dir().join("audit-policy.json")
}

/// The operator's requests, each once, and nobody else's.
fn audited() -> Value {
    let operator = format!("system:serviceaccount:{}:{}", OPERATORS_NAMESPACE, OPERATOR);
    json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived", "ResponseStarted"],
        "rules": [{"level": "Metadata", "users": [operator]}, {"level": "None"}],
    })
}

fn api_server(bed: &Bed) -> Program {
    Program::new("kube-apiserver", "switch", bed.parts.kubernetes.join("kube-apiserver"))
        .args(["--etcd-servers=http://127.0.0.1:2379", "--secure-port=6443", "--allow-privileged=true"])
        .arg(format!("--advertise-address={SWITCH}"))
        .arg(format!("--service-cluster-ip-range={SERVICE_RANGE}"))
        .arg(format!("--client-ca-file={}", pki(bed, "ca.crt")))
        .arg(format!("--tls-cert-file={}", pki(bed, "apiserver.crt")))
        .arg(format!("--tls-private-key-file={}", pki(bed, "apiserver.key")))
        .arg(format!("--kubelet-client-certificate={}", pki(bed, "admin.crt")))
        .arg(format!("--kubelet-client-key={}", pki(bed, "admin.key")))
        .arg("--kubelet-preferred-address-types=InternalIP")
        .arg(format!("--audit-policy-file={}", audit_policy(bed).display()))
        .arg(format!("--audit-log-path={}", bed.operators_requests().display()))
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .arg(format!("--service-account-key-file={}", pki(bed, "service-accounts.pub")))
        .arg(format!("--service-account-signing-key-file={}", pki(bed, "service-accounts.key")))
        .args(["--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction"])
}

/// The provisioner of volumes makes directories in a fixed place, which is the bed's own in its mount namespace;
/// and open ones, for it sets no owner.
fn controller_manager(bed: &Bed) -> Result<Program> {
    let name = "kube-controller-manager";
    let volumes = volumes(bed)?;
    Ok(Program::new(name, "switch", "unshare")
        .args(["--mount", "--propagation", "slave", "sh", "-ec"])
        .arg(format!("{volumes}; umask 0; exec \"$@\""))
        .arg(name)
        .arg(bed.parts.kubernetes.join(name).display().to_string())
        .arg(format!("--kubeconfig={}", pki(bed, "kube-controller-manager.kubeconfig")))
        .arg(format!("--cluster-cidr={POD_RANGE}"))
        .arg(format!("--root-ca-file={}", pki(bed, "ca.crt")))
        .arg(format!("--cluster-signing-cert-file={}", pki(bed, "ca.crt")))
        .arg(format!("--cluster-signing-key-file={}", pki(bed, "ca.key")))
        .arg(format!("--service-account-private-key-file={}", pki(bed, "service-accounts.key")))
        .args(["--use-service-account-credentials=true", "--leader-elect=false"])
        .arg("--enable-hostpath-provisioner=true"))
}

/// The shell command that puts the bed's volumes where Kubernetes' hostpath provisioner has them.
pub(crate) fn volumes(bed: &Bed) -> Result<String> {
    let (own, fixed) = (bed.dir().join("volumes"), "/tmp/hostpath_pv");
    for directory in [own.as_path(), fixed.as_ref()] {
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    }
    Ok(format!("mount --bind {} {fixed}", own.display()))
}

fn scheduler(bed: &Bed) -> Program {
    Program::new("kube-scheduler", "switch", bed.parts.kubernetes.join("kube-scheduler"))
        .arg(format!("--kubeconfig={}", pki(bed, "kube-scheduler.kubeconfig")))
        .arg("--leader-elect=false")
}
