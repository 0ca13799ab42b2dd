//! The way into a cluster whose pods and Services can't be reached from here: a proxy in a pod, and a port forwarded to it.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::client;
use crate::cluster::Bed;
use crate::forward::Forward;
use crate::install::NAMESPACE;

const NAME: &str = "decree-door";
const PORT: u16 = 3128;

/// Open until it is dropped.
#[derive(Debug)]
pub struct Door {
    bed: Bed,
    forward: Forward,
}

impl Door {
    /// Starts the proxy; clients of this process go through it from now on.
    pub fn open(bed: &Bed) -> Result<Self> {
        let manifest = pod(&bed.image("door")).to_string();
        bed.kubectl_with_input(&["--namespace", NAMESPACE, "apply", "-f", "-"], &manifest)?;
        let pod = format!("pod/{NAME}");
        let wait = ["--namespace", NAMESPACE, "wait", &pod, "--for=condition=Ready", "--timeout=120s"];
        bed.kubectl(&wait).context("start the proxy through which pods are reached")?;
        let door = Self { bed: bed.clone(), forward: Forward::open(bed, NAMESPACE, NAME, PORT)? };
        client::go_through(&door.address())?;
        Ok(door)
    }

    /// What a process that is started for this cluster is given in [`client::DOOR_VARIABLE`].
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.forward.port())
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let delete = ["--namespace", NAMESPACE, "delete", "pod", NAME, "--wait=false"];
        if let Err(error) = self.bed.kubectl(&delete) {
            eprintln!("pod {NAME} stays behind in {NAMESPACE}: {error:#}");
        }
    }
}

fn pod(image: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": NAME},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "door",
                "image": image,
                "ports": [{"containerPort": PORT}],
                "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
            }],
        },
    })
}
