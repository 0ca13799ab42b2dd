//! What an application may write to: nothing that outlives its pod, unless somebody said that its content does not matter.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use decree_e2e::{Bed, Namespace, manifests};
use serde_json::{Value, json};

const ENGINE: &str = "keeper";
const REMEDIES: [&str; 4] = ["readOnly: true", "agents[].app.scratch", ENGINE, "emptyDir"];

#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_volume_that_outlives_the_pod_is_refused_with_the_remedy() -> Result<()> {
    Bed::of_test()?.in_namespace("volumes", |namespace| {
        namespace.apply(&manifests::recorder_engine(namespace.bed(), ENGINE).to_string())?;
        let claim = json!({"name": "data", "persistentVolumeClaim": {"claimName": "none"}});
        let share = json!({"name": "data", "nfs": {"server": "s", "path": "/p"}});
        let folder = json!({"name": "data", "hostPath": {"path": "/var/empty"}});
        for (volume, kind) in [(&claim, "persistentVolumeClaim"), (&share, "nfs"), (&folder, "hostPath")] {
            let refusal = namespace.apply_expect_refused(&keeper(volume, false).to_string())?;
            let words = REMEDIES.iter().chain([&"volume data", &kind]);
            for word in words {
                ensure!(refusal.contains(word), "{word:?} is not in the refusal: {refusal}");
            }
            println!("{}", refusal.lines().last().unwrap_or_default());
        }
        ensure!(
            restart(namespace, &keeper(&claim, true))? == "Container",
            "read-only, nothing is kept there"
        );
        let empty = json!({"name": "data", "emptyDir": {}});
        ensure!(restart(namespace, &keeper(&empty, false))? == "Pod", "an emptyDir outlives the container");
        Ok(())
    })
}

#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_stateful_set_runs_once_its_claim_is_called_scratch() -> Result<()> {
    Bed::of_test()?.in_namespace("scratch", |namespace| {
        let mut engine = manifests::recorder_engine(namespace.bed(), ENGINE);
        namespace.apply(&engine.to_string())?;
        namespace.apply(&stateful_set().to_string())?;
        let event = namespace.wait_event(ENGINE, "agents[].app.scratch", Duration::from_secs(60))?;
        println!("{}", event["message"]);
        ensure!(namespace.list_json("pods", "")?.is_empty(), "a pod was made all the same");

        engine["spec"]["agents"][0]["app"]["scratch"] = json!(["data"]);
        namespace.apply(&engine.to_string())?;
        namespace.wait_agents(ENGINE, 1, Duration::from_secs(180))?;
        let status = namespace.get_json("pod", &format!("{ENGINE}-0"))?["metadata"]["annotations"]
            ["decree.dev/status"]
            .clone();
        ensure!(status.as_str().is_some_and(|text| text.contains(r#""restart":"Container""#)), "{status}");
        Ok(())
    })
}

/// A lone recorder with a volume.
fn keeper(volume: &Value, read_only: bool) -> Value {
    let mut pod = manifests::recorder_pod(ENGINE);
    pod["spec"]["volumes"] = json!([volume]);
    let mount = json!({"name": "data", "mountPath": "/data", "readOnly": read_only});
    pod["spec"]["containers"][0]["volumeMounts"] = json!([mount]);
    pod
}

fn stateful_set() -> Value {
    let mut set = manifests::recorders(ENGINE, 1, &[]);
    set["kind"] = json!("StatefulSet");
    set["spec"]["serviceName"] = json!(ENGINE);
    set["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "data", "mountPath": "/data"}]);
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}});
    set["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": claim}]);
    set
}

/// What the injection says that a restart takes, of a pod that is not made.
fn restart(namespace: &Namespace, pod: &Value) -> Result<String> {
    let arguments = ["--namespace", namespace.name(), "apply", "--dry-run=server", "-o", "json", "-f", "-"];
    let admitted = namespace.bed().kubectl_with_input(&arguments, &pod.to_string())?;
    let admitted: Value = serde_json::from_str(&admitted).context("read the pod")?;
    let status = admitted["metadata"]["annotations"]["decree.dev/status"].as_str();
    let status: Value = serde_json::from_str(status.context("find what the injection did")?)?;
    println!("restart: {}, because {}", status["restart"], status["because"]);
    status["restart"].as_str().map(str::to_owned).context("find what a restart takes")
}
