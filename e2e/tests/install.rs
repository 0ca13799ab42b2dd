//! Decree comes by Helm or by plain `kubectl apply`, and what is applied twice changes nothing.
//!
//! It takes the operator away for a while, so it is a test program of its own: nothing runs beside it.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use decree_e2e::install::{self, NAMESPACE, RELEASE};
use decree_e2e::parts::progress::Progress;
use decree_e2e::{Bed, Namespace, manifests};
use serde_json::{Value, json};

const ENGINE: &str = "ledger";
const LIMIT: Duration = Duration::from_secs(60);
const CHARTS: [&str; 2] = ["decree-crds", "decree"];

/// There is one installation.
static INSTALLATION: Mutex<()> = Mutex::new(());

#[test]
#[ignore = "needs a bed: cargo verify"]
fn charts_are_well_formed() -> Result<()> {
    let bed = Bed::of_test()?;
    for chart in CHARTS {
        bed.helm(&["lint", "--strict", &path(chart)])?;
        let rendered = bed.helm(&["template", chart, &path(chart), "--namespace", "elsewhere"])?;
        ensure!(rendered.contains("kind: "), "{chart} renders nothing");
    }
    let all = "serviceMonitor.enabled=true,serviceMonitor.labels.a=b,replicas=3,priorityClassName=p,nodeSelector.a=b";
    let rendered = bed.helm(&["template", "decree", &path("decree"), "--set", all])?;
    for part in [
        "kind: ServiceMonitor",
        "replicas: 3",
        "kind: PodDisruptionBudget",
        "aggregate-to-view",
        "pre-delete",
    ] {
        ensure!(rendered.contains(part), "no {part} in {rendered}");
    }
    let refusal = bed.helm(&["template", "decree", &path("decree"), "--set", "replicas=many"]);
    ensure!(refusal.is_err(), "a value of the wrong kind was taken");
    Ok(())
}

#[test]
#[ignore = "needs a bed: cargo verify"]
fn applied_twice_an_engine_changes_nothing() -> Result<()> {
    let _alone = INSTALLATION.lock();
    Bed::of_test()?.in_namespace("twice", |namespace| {
        let engine = manifests::recorder_engine(namespace.bed(), ENGINE).to_string();
        apply_server_side(namespace.bed(), namespace.name(), &engine)?;
        let before = namespace.wait_engine(ENGINE, "Ready", "True", LIMIT)?;
        let objects = ["secret", "decisionengine"];
        let versions = owned(namespace, &objects)?;
        apply_server_side(namespace.bed(), namespace.name(), &engine)?;
        let difference = namespace.bed().kubectl_with_input(
            &["--namespace", namespace.name(), "diff", "--server-side", "--field-manager=gitops", "-f", "-"],
            &engine,
        );
        ensure!(difference.as_ref().is_ok_and(|text| text.trim().is_empty()), "{difference:?}");
        let after = namespace.get_json("decisionengine", ENGINE)?;
        ensure!(before["metadata"]["generation"] == after["metadata"]["generation"], "the spec was changed");
        // A change that is in no document has the operator look again; what it then writes must be what is there.
        let patch = r#"{"spec":{"failureDetection":{"suspectAfter":4}}}"#;
        namespace.kubectl(&["patch", "decisionengine", ENGINE, "--type=merge", "-p", patch])?;
        namespace.wait_engine(ENGINE, "Ready", "True", LIMIT)?;
        let again = owned(namespace, &objects[..1])?;
        ensure!(
            again.iter().all(|(object, version)| versions.get(object) == Some(version)),
            "{versions:?}, {again:?}"
        );
        Ok(())
    })
}

#[test]
#[ignore = "needs a bed: cargo verify"]
fn plain_kubectl_apply_installs_it_as_helm_does() -> Result<()> {
    let _alone = INSTALLATION.lock();
    let bed = Bed::of_test()?;
    works(&bed, "by-helm")?;
    bed.helm(&["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout", "120s"])?;
    let result = install_plainly(&bed).and_then(|()| works(&bed, "by-kubectl"));
    // What Helm is to own must not be there already.
    let removed = rendered(&bed, "decree").and_then(|manifests| {
        bed.kubectl_with_input(&["delete", "--ignore-not-found", "--wait", "-f", "-"], &manifests)
    });
    let restored = install::helm(&bed, &Progress::new());
    result.and(removed.map(drop)).and(restored)?;
    works(&bed, "by-helm-again")
}

#[test]
#[ignore = "needs a bed: cargo verify"]
fn upgraded_uninstalled_and_installed_again_it_harms_nothing_that_runs() -> Result<()> {
    let _alone = INSTALLATION.lock();
    let bed = Bed::of_test()?;
    bed.in_namespace("kept", |namespace| {
        namespace.apply(&manifests::recorder_engine(&bed, ENGINE).to_string())?;
        let first = namespace.wait_engine(ENGINE, "Ready", "True", LIMIT)?;
        namespace.apply(&manifests::recorders(ENGINE, 1, &[]).to_string())?;
        let agents = namespace.wait_agents(ENGINE, 1, Duration::from_secs(120))?;
        let lives = |namespace: &Namespace| -> Result<Value> {
            let pod = namespace.get_json("pod", &agents[0].pod)?;
            let starts = |kind: &str| pod["status"][kind][0]["restartCount"].clone();
            let uid = pod["metadata"]["uid"].clone();
            Ok(json!([uid, starts("containerStatuses"), starts("initContainerStatuses")]))
        };
        let before = lives(namespace)?;

        let chart = path("decree");
        let values = ["--set", "logLevel=debug", "--set", "replicas=1", "--set", "webhook.timeoutSeconds=15"];
        let place = ["--namespace", NAMESPACE, "--reuse-values", "--wait", "--timeout", "180s"];
        bed.helm(&[&["upgrade", RELEASE, &chart][..], &place, &values].concat())?;
        works(&bed, "upgraded")?;
        ensure!(lives(namespace)? == before, "an upgrade restarted an agent");

        let restored = without_an_operator(&bed, namespace);
        install::helm(&bed, &Progress::new())?;
        restored?;
        let after = namespace.wait_engine(ENGINE, "Ready", "True", LIMIT)?;
        ensure!(first["metadata"]["uid"] == after["metadata"]["uid"], "another engine");
        ensure!(first["status"]["topic"]["id"] == after["status"]["topic"]["id"], "another log");
        ensure!(lives(namespace)? == before, "an agent was restarted");
        // The pod that began without a sidecar is found, and made anew.
        namespace.wait_agents(ENGINE, 2, Duration::from_secs(240)).map(drop)
    })
}

/// Uninstalls; nothing of an engine goes, and a namespace ends whatever its engines' policy.
fn without_an_operator(bed: &Bed, namespace: &Namespace) -> Result<()> {
    let other = bed.namespace("unheld")?;
    let mut engine = manifests::recorder_engine(bed, ENGINE);
    engine["spec"]["kafka"]["deletionPolicy"] = json!("Delete");
    other.apply(&engine.to_string())?;
    other.wait_engine(ENGINE, "Ready", "True", LIMIT)?;
    bed.helm(&["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout", "180s"])?;
    let held = other.get_json("decisionengine", ENGINE)?;
    ensure!(held["metadata"]["finalizers"].is_null(), "it is still held: {}", held["metadata"]);
    bed.kubectl(&["delete", "namespace", other.name(), "--timeout=60s"])?;
    namespace.get_json("decisionengine", ENGINE)?;
    namespace.get_json("secret", &format!("decree-{ENGINE}"))?;
    namespace.kubectl(&["scale", &format!("deployment/{ENGINE}"), "--replicas=2"])?;
    namespace.wait("a pod without a sidecar", LIMIT, || {
        let pods = namespace.list_json("pods", &format!("decree.dev/engine={ENGINE}"))?;
        Ok((pods.len() == 2).then_some(()))
    })
}

/// Renders and applies both charts, twice.
fn install_plainly(bed: &Bed) -> Result<()> {
    for chart in CHARTS {
        let manifests = rendered(bed, chart)?;
        apply_server_side(bed, NAMESPACE, &manifests)?;
        if chart == "decree" {
            let deployment = format!("--selector=app.kubernetes.io/instance={RELEASE}");
            bed.kubectl(&[
                "-n",
                NAMESPACE,
                "rollout",
                "status",
                "deployment",
                &deployment,
                "--timeout=120s",
            ])?;
        }
        let first = versions(bed, &manifests)?;
        apply_server_side(bed, NAMESPACE, &manifests)?;
        let second = versions(bed, &manifests)?;
        ensure!(!first.is_empty() && first == second, "applied twice: {first:?}, then {second:?}");
        println!("{chart}: {} objects, applied twice and unchanged", first.len());
    }
    Ok(())
}

/// An engine is provisioned and a pod becomes its agent.
fn works(bed: &Bed, prefix: &str) -> Result<()> {
    bed.in_namespace(prefix, |namespace| {
        namespace.apply(&manifests::recorder_engine(bed, ENGINE).to_string())?;
        namespace.wait_engine(ENGINE, "Ready", "True", LIMIT)?;
        namespace.apply(&manifests::recorders(ENGINE, 1, &[]).to_string())?;
        namespace.wait_agents(ENGINE, 1, Duration::from_secs(120)).map(drop)
    })
}

fn path(chart: &str) -> String {
    install::workspace().join("charts").join(chart).display().to_string()
}

fn rendered(bed: &Bed, chart: &str) -> Result<String> {
    let release = if chart == "decree" { RELEASE } else { chart };
    let values = install::values(bed);
    let set: Vec<&str> = match chart {
        "decree" => values.iter().flat_map(|value| ["--set", value.as_str()]).collect(),
        _ => Vec::new(),
    };
    let path = path(chart);
    bed.helm(&[&["template", release, &path, "--namespace", NAMESPACE, "--no-hooks"][..], &set].concat())
}

fn apply_server_side(bed: &Bed, namespace: &str, manifests: &str) -> Result<()> {
    // Helm's own fields are taken over: a person who changes from one to the other does the same.
    let arguments = ["apply", "--server-side", "--force-conflicts", "--field-manager=gitops", "-f", "-"];
    bed.kubectl_with_input(&[&["--namespace", namespace][..], &arguments].concat(), manifests).map(drop)
}

/// Generation, or where there is none the resource version, of each object in the manifests.
fn versions(bed: &Bed, manifests: &str) -> Result<BTreeMap<String, Value>> {
    let list = bed.kubectl_with_input(&["get", "-f", "-", "-o", "json"], manifests)?;
    let list: Value = serde_json::from_str(&list).context("parse what kubectl get printed")?;
    Ok(versions_in(list["items"].as_array().map_or(&[], Vec::as_slice)))
}

/// The same of what the operator keeps for an engine.
fn owned(namespace: &Namespace, kinds: &[&str]) -> Result<BTreeMap<String, Value>> {
    let lists = kinds.iter().map(|kind| namespace.list_json(kind, "")).collect::<Result<Vec<_>>>()?;
    Ok(versions_in(&lists.concat()))
}

fn versions_in(objects: &[Value]) -> BTreeMap<String, Value> {
    let version = |object: &Value| {
        let metadata = &object["metadata"];
        // A Deployment's status changes by itself.
        let number = if metadata["generation"].is_null() { "resourceVersion" } else { "generation" };
        (format!("{} {}", object["kind"], metadata["name"]), metadata[number].clone())
    };
    objects.iter().map(version).collect()
}
