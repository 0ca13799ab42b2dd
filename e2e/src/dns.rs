//! DNS of the cluster: CoreDNS as a process in the switch, behind the Service that pods are told of.

use std::fs;

use anyhow::{Context, Result};

use crate::cluster::Bed;
use crate::process::Program;

pub(crate) fn start(bed: &Bed) -> Result<()> {
    let corefile = format!(
        ".:53 {{
    errors
    ready 127.0.0.1:8181
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {}
        ttl 5
    }}
    cache 5
}}
",
        bed.kubeconfig().display()
    );
    let file = bed.dir().join("Corefile");
    fs::write(&file, corefile).with_context(|| format!("write {}", file.display()))?;
    let program = Program::new("coredns", "switch", bed.parts.coredns.join("coredns"));
    program.args(["-conf".to_owned(), file.display().to_string()]).start(bed)?;
    Ok(())
}

/// Whether it has seen the cluster's Services.
pub(crate) fn is_ready(bed: &Bed) -> Result<()> {
    bed.inside(|| {
        ureq::get("http://127.0.0.1:8181/ready").call().context("ask CoreDNS whether it is ready")?;
        Ok(())
    })
}
