//! kube-proxy: Service addresses, on every node and in the switch.

use std::fs;

use anyhow::{Context, Result};
use serde_json::json;

use crate::cluster::{Bed, POD_RANGE};
use crate::process::Program;

/// Starts the proxy of a host on behalf of a node. The switch is no node: its proxy goes by another's name.
pub(crate) fn start(bed: &Bed, host: &str, node: &str) -> Result<()> {
    let config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clusterCIDR": POD_RANGE,
        "hostnameOverride": node,
        "clientConnection": {"kubeconfig": bed.dir().join("pki/kube-proxy.kubeconfig")},
        // The table of connections is the machine's: not to be resized.
        "conntrack": {"maxPerCore": 0, "min": 0},
        "oomScoreAdj": 0,
    });
    let name = process_name(host);
    let file = bed.dir().join(format!("{name}.json"));
    fs::write(&file, config.to_string()).with_context(|| format!("write {}", file.display()))?;
    let program = Program::new(name, host, bed.parts.kubernetes.join("kube-proxy"));
    program.arg(format!("--config={}", file.display())).start(bed)?;
    Ok(())
}

pub(crate) fn process_name(host: &str) -> String {
    format!("kube-proxy-{host}")
}

/// Whether the proxy of a host has written its rules.
pub(crate) fn is_ready(bed: &Bed, host: &str) -> Result<()> {
    bed.inside_host(host, || {
        ureq::get("http://127.0.0.1:10256/healthz").call().context("ask kube-proxy for its health")?;
        Ok(())
    })
}
