//! A test's own Kubernetes namespace: made for it, worked in, explained when the test fails, deleted in the end.

mod diagnosis;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cluster::Bed;
use crate::wait;

/// One namespace of a running bed.
#[derive(Debug)]
pub struct Namespace {
    bed: Bed,
    name: String,
}

impl Bed {
    /// Makes a namespace that nobody else has. It is deleted when dropped; a panicking test sees its state first.
    pub fn namespace(&self, prefix: &str) -> Result<Namespace> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("read the clock")?;
        let name = format!("{prefix}-{:06x}", (now.as_nanos() / 1000) & 0xff_ffff);
        self.kubectl(&["create", "namespace", &name])?;
        let namespace = Namespace { bed: self.clone(), name };
        // Pods are refused until it is there.
        namespace.wait("the default service account", Duration::from_secs(30), || {
            namespace.get_json("serviceaccount", "default").map(Some)
        })?;
        Ok(namespace)
    }

    /// Runs a test in a namespace of its own and shows the namespace's state if the test fails, with an error or
    /// a panic.
    pub fn in_namespace<T>(&self, prefix: &str, test: impl FnOnce(&Namespace) -> Result<T>) -> Result<T> {
        let namespace = self.namespace(prefix)?;
        let result = test(&namespace);
        if result.is_err() {
            namespace.explain();
        }
        result
    }
}

impl Namespace {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn bed(&self) -> &Bed {
        &self.bed
    }

    /// Runs kubectl in this namespace.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.bed.kubectl(&[&["--namespace", &self.name], arguments].concat())
    }

    /// Applies manifests, those that name no namespace in this one.
    pub fn apply(&self, manifests: &str) -> Result<String> {
        self.bed.kubectl_with_input(&["--namespace", &self.name, "apply", "-f", "-"], manifests)
    }

    /// Applies manifests that must be refused, and gives what was said.
    pub fn apply_expect_refused(&self, manifests: &str) -> Result<String> {
        match self.apply(manifests) {
            Ok(accepted) => bail!("expected to be refused, but: {}", accepted.trim()),
            Err(refusal) => Ok(format!("{refusal:#}")),
        }
    }

    pub fn get_json(&self, kind: &str, name: &str) -> Result<Value> {
        self.bed.kubectl_json(&["--namespace", &self.name, "get", kind, name])
    }

    /// Objects of a kind; an empty selector takes all.
    pub fn list_json(&self, kind: &str, selector: &str) -> Result<Vec<Value>> {
        let list =
            self.bed.kubectl_json(&["--namespace", &self.name, "get", kind, "--selector", selector])?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// Polls until the condition gives a value; what it fails with is what was last seen.
    pub fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        condition: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        wait::until(format!("{what} in {}", self.name), limit, condition)
    }

    /// Waits until as many pods as given are ready and no others are there; gives them.
    pub fn wait_ready_pods(&self, selector: &str, count: usize, limit: Duration) -> Result<Vec<Value>> {
        self.wait(&format!("{count} ready pods ({selector})"), limit, || {
            let pods = self.list_json("pods", selector)?;
            let ready = pods.iter().filter(|pod| is_ready(pod)).count();
            if ready == count && pods.len() == count {
                return Ok(Some(pods));
            }
            bail!("{ready} of {} are ready", pods.len())
        })
    }

    /// The address of a Service, good inside the bed: there is no DNS for processes of the machine.
    pub fn service_address(&self, service: &str) -> Result<String> {
        let found = self.get_json("service", service)?;
        found["spec"]["clusterIP"].as_str().map(str::to_owned).context("find the Service's address")
    }

    pub fn logs(&self, pod: &str, container: &str) -> Result<String> {
        self.kubectl(&["logs", pod, "--container", container])
    }

    /// Runs a program in a container and gives what it printed.
    pub fn exec(&self, pod: &str, container: &str, command: &[&str]) -> Result<String> {
        self.kubectl(&[&["exec", pod, "--container", container, "--"], command].concat())
    }

    /// Deletes a pod in Kubernetes' order; waits until it is gone.
    pub fn delete_pod(&self, pod: &str) -> Result<()> {
        self.kubectl(&["delete", "pod", pod]).map(drop)
    }

    /// Deletes a pod without any grace.
    pub fn kill_pod(&self, pod: &str) -> Result<()> {
        self.kubectl(&["delete", "pod", pod, "--grace-period=0", "--force"]).map(drop)
    }

    /// Prints pods, events and the ends of all containers' logs.
    pub fn explain(&self) {
        diagnosis::print(&self.bed, &self.name);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.explain();
        }
        if let Err(error) = self.bed.kubectl(&["delete", "namespace", &self.name, "--wait=false"]) {
            eprintln!("namespace {} stays behind: {error:#}", self.name);
        }
    }
}

/// Whether a pod says that it is ready.
pub fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|each| each["type"] == "Ready" && each["status"] == "True"))
}
