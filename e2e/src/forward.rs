//! Ways in as a person would take them: `kubectl port-forward` to a port that listens on a pod's localhost only,
//! `kubectl proxy` to the API server.

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

impl Bed {
    /// Opens a way to the API server, with all rights, for who is in the bed's switch.
    pub fn api_server(&self) -> Result<Forward> {
        Forward::started(self, &["proxy", "--port=0"])
    }
}

impl Forward {
    /// The same in any namespace.
    pub(crate) fn open(bed: &Bed, namespace: &str, pod: &str, port: u16) -> Result<Self> {
        Self::started(
            bed,
            &["--namespace", namespace, "port-forward", &format!("pod/{pod}"), &format!(":{port}")],
        )
    }

    fn started(bed: &Bed, arguments: &[&str]) -> Result<Self> {
        let what = format!("kubectl {}", arguments.join(" "));
        let mut kubectl = bed
            .kubectl_command(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .with_context(|| format!("start {what}"))?;
        let output = kubectl.stdout.take().with_context(|| format!("open the output of {what}"))?;
        let mut forward = Self { kubectl, port: 0 };
        // It says `Forwarding from 127.0.0.1:40123 -> 7070`, or `Starting to serve on 127.0.0.1:40123`; or it ends, and so
        // the output.
        let mut lines = BufReader::new(output).lines();
        let line = lines.next().with_context(|| format!("read what {what} says"))??;
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
