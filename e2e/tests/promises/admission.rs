//! An injected pod holds pod-security `restricted`, and stays its user's.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use decree_e2e::{Bed, manifests};
use decree_wire::pod::CONTAINER;

const ENGINE: &str = "ledger";

#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_restricted_namespace_admits_what_was_injected() -> Result<()> {
    Bed::of_test()?.in_namespace("restricted", |namespace| {
        let label = "pod-security.kubernetes.io/enforce=restricted";
        namespace.bed().kubectl(&["label", "namespace", namespace.name(), label])?;
        namespace.apply(&manifests::recorder_engine(namespace.bed(), ENGINE).to_string())?;
        namespace.apply(&manifests::recorders(ENGINE, 1, &[]).to_string())?;
        let agents = namespace.wait_agents(ENGINE, 1, Duration::from_secs(120))?;

        let pod = namespace.get_json("pod", &agents[0].pod)?;
        let default = &pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"];
        ensure!(default == "recorder", "kubectl's default container is {default}");
        let first = pod["spec"]["initContainers"].get(0).context("find the injected container")?;
        ensure!(
            first["name"] == CONTAINER && first["restartPolicy"] == "Always",
            "no native sidecar: {first}"
        );
        ensure!(first["securityContext"]["readOnlyRootFilesystem"] == true, "{}", first["securityContext"]);
        for kind in ["requests", "limits"] {
            for resource in ["cpu", "memory"] {
                ensure!(first["resources"][kind][resource].is_string(), "no {kind} of {resource}: {first}");
            }
        }
        ensure!(first["startupProbe"].is_object(), "no startup probe: {first}");
        let status = &pod["metadata"]["annotations"]["decree.dev/status"];
        ensure!(status.is_string(), "nothing says what the injection did");
        println!("{status}");
        Ok(())
    })
}

/// Who labels nothing is not touched, whatever becomes of Decree.
#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_pod_without_the_label_is_left_alone() -> Result<()> {
    Bed::of_test()?.in_namespace("unlabelled", |namespace| {
        let mut pod = manifests::recorder_pod(ENGINE);
        pod["metadata"]["labels"] = serde_json::json!({"app": "other"});
        namespace.apply(&pod.to_string())?;
        namespace.wait_ready_pods("app=other", 1, Duration::from_secs(60))?;
        let pod = namespace.get_json("pod", "lone")?;
        ensure!(pod["spec"]["initContainers"].is_null(), "something was injected: {}", pod["spec"]);
        Ok(())
    })
}
