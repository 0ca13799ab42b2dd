//! A way to a port that listens on a pod's localhost only, as a person would take it: `kubectl port-forward`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use anyhow::{Context, Result};

use crate::client::Client;
use crate::cluster::Bed;
use crate::namespace::Namespace;

/// Open until it is dropped.
#[derive(Debug)]
pub struct Forward {
    kubectl: Child,
    port: u16,
}

impl Namespace {
    /// Opens a way to a port of a pod.
    pub fn forward(&self, pod: &str, port: u16) -> Result<Forward> {
        Forward::open(self.bed(), self.name(), pod, port)
    }
}

impl Forward {
    /// The same in any namespace.
    pub(crate) fn open(bed: &Bed, namespace: &str, pod: &str, port: u16) -> Result<Self> {
        let arguments =
            ["--namespace", namespace, "port-forward", &format!("pod/{pod}"), &format!(":{port}")];
        let mut kubectl = bed
            .kubectl_command(&arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("start kubectl port-forward")?;
        let output = kubectl.stdout.take().context("open the output of kubectl port-forward")?;
        let mut forward = Self { kubectl, port: 0 };
        // It says `Forwarding from 127.0.0.1:40123 -> 7070`, or ends and so ends the output.
        let mut lines = BufReader::new(output).lines();
        let line = lines.next().with_context(|| format!("forward port {port} of {pod}"))??;
        forward.port = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix("127.0.0.1:")?.parse().ok())
            .with_context(|| format!("find the local port in {line:?}"))?;
        // It goes on with a line a connection, and must not wait for somebody to read them.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(forward)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub fn client(&self) -> Client {
        Client::new(format!("http://127.0.0.1:{}", self.port))
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}
