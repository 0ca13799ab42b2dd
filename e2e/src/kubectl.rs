//! Everything that is asked of Kubernetes goes through the bed's own kubectl, and of charts through its Helm.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cluster::Bed;
use crate::finish::finish;

/// Longer than every time-out that they are told to have themselves.
const LIMIT: Duration = Duration::from_secs(600);

impl Bed {
    /// Runs kubectl and gives what it printed; what it complained of is in the error.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        run("kubectl", arguments, &mut self.kubectl_command(arguments), None)
    }

    /// The same with something on its standard input.
    pub fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> Result<String> {
        run("kubectl", arguments, &mut self.kubectl_command(arguments), Some(input))
    }

    /// Gives parsed what kubectl prints with `-o json`.
    pub fn kubectl_json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.kubectl(&[arguments, &["-o", "json"]].concat())?;
        serde_json::from_str(&text)
            .with_context(|| format!("parse what kubectl {} printed", arguments.join(" ")))
    }

    /// The command itself, for who wants it in the background (`port-forward`, `logs -f`, `get -w`).
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.tool(&self.parts.kubernetes, "kubectl");
        command.arg(format!("--cache-dir={}", self.dir().join("kubectl-cache").display())).args(arguments);
        command
    }

    /// Applies manifests that name their namespaces themselves.
    pub fn apply(&self, manifests: &str) -> Result<String> {
        self.kubectl_with_input(&["apply", "-f", "-"], manifests)
    }

    /// Runs Helm and gives what it printed.
    pub fn helm(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.tool(&self.parts.helm, "helm");
        for (variable, directory) in
            [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
        {
            command.env(variable, self.dir().join("helm").join(directory));
        }
        run("helm", arguments, command.args(arguments), None)
    }
}

fn run(program: &str, arguments: &[&str], command: &mut Command, input: Option<&str>) -> Result<String> {
    let what = format!("{program} {}", arguments.join(" "));
    let output = finish(&what, command, input.unwrap_or_default(), LIMIT)?;
    ensure!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
