//! Running agents are cared for: evicted one at a time when only that helps, guarded by one budget, and what leads around
//! the log or runs outdated is named.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use decree_e2e::agents::status_of;
use decree_e2e::client::{Client, Request};
use decree_e2e::{Bed, Namespace, manifests};
use serde_json::{Value, json};

const ENGINE: &str = "policy";
const LIMIT: Duration = Duration::from_secs(60);
const START: Duration = Duration::from_secs(120);

#[test]
#[ignore = "needs a bed: cargo verify"]
fn one_budget_keeps_agents_from_being_evicted_at_once() -> Result<()> {
    Bed::of_test()?.in_namespace("budget", |namespace| {
        namespace.apply(&manifests::opa_engine(namespace.bed(), ENGINE).to_string())?;
        namespace.apply(&manifests::opa(ENGINE, 2).to_string())?;
        let agents = namespace.wait_agents(ENGINE, 2, START)?;
        let budget = format!("decree-{ENGINE}.opa");
        let found = namespace.wait("a budget that counts both", LIMIT, || {
            let found = namespace.get_json("poddisruptionbudget", &budget)?;
            ensure!(found["status"]["currentHealthy"] == 2, "{}", found["status"]);
            Ok(Some(found))
        })?;
        ensure!(found["spec"]["maxUnavailable"] == 1, "{}", found["spec"]);
        ensure!(found["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow", "{}", found["spec"]);
        evict(namespace, &agents[0].pod)?;
        let refusal = match evict(namespace, &agents[1].pod) {
            Ok(()) => bail!("both agents were evicted at once"),
            Err(refusal) => format!("{refusal:#}"),
        };
        ensure!(refusal.contains("disruption budget"), "{refusal}");
        println!("the second at once: {}", refusal.lines().last().unwrap_or_default());
        namespace.wait_agents(ENGINE, 2, START)?;

        // Beside a user's own budget two would make every eviction fail.
        let own = json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "own"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": ENGINE}}},
        });
        namespace.apply(&own.to_string())?;
        let condition = namespace.wait_engine_reason(ENGINE, "OtherDisruptionBudget", LIMIT)?;
        println!("{}", condition["message"]);
        ensure!(said(&condition).contains("own"), "{condition}");
        namespace.wait("Decree's budget to go", LIMIT, || {
            ensure!(names(namespace, "poddisruptionbudget")? == ["own"], "it is still there");
            Ok(Some(()))
        })?;
        let agents = namespace.wait_agents(ENGINE, 2, START)?;
        evict(namespace, &agents[0].pod).context("evict a pod that one budget selects")?;
        namespace.kubectl(&["delete", "poddisruptionbudget", "own"])?;
        wait_no_condition(namespace, "OtherDisruptionBudget")?;
        namespace.wait("Decree's budget to be back", LIMIT, || {
            ensure!(names(namespace, "poddisruptionbudget")? == [budget.as_str()], "it is not");
            Ok(Some(()))
        })
    })
}

#[test]
#[ignore = "needs a bed: cargo verify"]
fn what_leads_around_the_log_or_is_outdated_is_named() -> Result<()> {
    Bed::of_test()?.in_namespace("around", |namespace| {
        let mut engine = manifests::opa_engine(namespace.bed(), ENGINE);
        namespace.apply(&engine.to_string())?;
        namespace.apply(&manifests::opa(ENGINE, 1).to_string())?;
        let agents = namespace.wait_agents(ENGINE, 1, START)?;
        let service = |name: &str, target: Value| {
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
                "spec": {"selector": {"app": ENGINE}, "ports": [{"port": 80, "targetPort": target}]},
            })
        };
        namespace.apply(&service("named", json!("http")).to_string())?;
        namespace.apply(&service("numbered", json!(manifests::OPA_PORT)).to_string())?;
        let condition = namespace.wait_engine_reason(ENGINE, "Bypassed", LIMIT)?;
        println!("{}", condition["message"]);
        ensure!(said(&condition).contains("Service numbered"), "{condition}");
        ensure!(!said(&condition).contains("Service named"), "{condition}");
        namespace.kubectl(&["delete", "service", "numbered"])?;
        wait_no_condition(namespace, "Bypassed")?;

        // Nothing on a bed enforces a policy: that it is as it should be is all that can be seen.
        engine["spec"]["agents"][0]["replicate"]["isolate"] = json!(true);
        namespace.apply(&engine.to_string())?;
        let policy = namespace.wait("a NetworkPolicy", LIMIT, || {
            namespace.get_json("networkpolicy", &format!("decree-{ENGINE}.opa")).map(Some)
        })?;
        let ports = policy["spec"]["ingress"][0]["ports"].to_string();
        ensure!(ports.contains("8180") && ports.contains("8182") && !ports.contains("8181"), "{ports}");
        engine["spec"]["agents"][0]["replicate"]["isolate"] = json!(false);
        namespace.apply(&engine.to_string())?;
        namespace.wait("no NetworkPolicy", LIMIT, || {
            ensure!(names(namespace, "networkpolicy")?.is_empty(), "it is still there");
            Ok(Some(()))
        })?;

        engine["spec"]["agents"][0]["app"]["port"] = json!(manifests::OPA_PORT + 1);
        namespace.apply(&engine.to_string())?;
        let condition = namespace.wait_engine_reason(ENGINE, "PodsOutdated", LIMIT)?;
        println!("{}", condition["message"]);
        ensure!(
            said(&condition).contains(&agents[0].pod) && said(&condition).contains("app.port"),
            "{condition}"
        );
        engine["spec"]["agents"][0]["app"]["port"] = json!(manifests::OPA_PORT);
        namespace.apply(&engine.to_string())?;
        wait_no_condition(namespace, "PodsOutdated")
    })
}

#[test]
#[ignore = "needs a bed: cargo verify"]
fn pods_without_a_sidecar_are_found_and_replaced() -> Result<()> {
    Bed::of_test()?.in_namespace("bare", |namespace| {
        let label = format!("{}={ENGINE}", manifests::ENGINE_LABEL);
        namespace.apply(&manifests::recorder_engine(namespace.bed(), ENGINE).to_string())?;
        namespace.wait_engine(ENGINE, "Ready", "True", LIMIT)?;
        let mut deployment = manifests::recorders(ENGINE, 1, &[]);
        unlabelled(&mut deployment["spec"]["template"]);
        let mut lone = manifests::recorder_pod(ENGINE);
        unlabelled(&mut lone);
        lone["metadata"]["labels"] = json!({"app": "lone"});
        namespace.apply(&deployment.to_string())?;
        namespace.apply(&lone.to_string())?;
        let owned = pod_name(&namespace.wait_ready_pods(&format!("app={ENGINE}"), 1, START)?[0])?;
        namespace.wait_ready_pods("app=lone", 1, START)?;

        // As if it had started while the webhook was away.
        namespace.kubectl(&["label", "pod", "lone", &label])?;
        let condition = namespace.wait_engine_reason(ENGINE, "BareAgents", LIMIT)?;
        println!("{}", condition["message"]);
        ensure!(said(&condition).contains("lone"), "{condition}");
        let engine = namespace.get_json("decisionengine", ENGINE)?;
        ensure!(engine["status"]["agents"]["summary"] == "0/1", "{}", engine["status"]["agents"]);

        namespace.kubectl(&["label", "pod", &owned, &label])?;
        let event = namespace.wait_event(&owned, "evicted by Decree", LIMIT)?;
        println!("{}: {}", event["reason"], event["message"]);
        namespace.wait("a successor", START, || {
            let pods = namespace.list_json("pods", &format!("app={ENGINE}"))?;
            ensure!(
                pods.iter().all(|pod| pod["metadata"]["name"] != owned.as_str()),
                "{owned} is still there"
            );
            Ok(Some(()))
        })?;
        ensure!(
            namespace.get_json("pod", "lone")?["metadata"]["deletionTimestamp"].is_null(),
            "lone is ending"
        );
        namespace.delete_pod("lone")?;
        wait_no_condition(namespace, "BareAgents")
    })
}

#[test]
#[ignore = "needs a bed: cargo verify"]
fn what_outlives_its_container_is_evicted_and_a_lone_pod_is_reported() -> Result<()> {
    Bed::of_test()?.in_namespace("evicted", |namespace| {
        namespace.apply(&manifests::counter_engine(namespace.bed(), ENGINE).to_string())?;
        let deployment = manifests::counters_on_disk(ENGINE, 2);
        let mut lone = deployment["spec"]["template"].clone();
        lone["apiVersion"] = json!("v1");
        lone["kind"] = json!("Pod");
        lone["metadata"]["name"] = json!("lone");
        lone["metadata"]["labels"]["app"] = json!("lone");
        namespace.apply(&deployment.to_string())?;
        namespace.apply(&lone.to_string())?;
        let agents = namespace.wait_agents(ENGINE, 3, START)?;
        let owned: Vec<&str> =
            agents.iter().map(|agent| agent.pod.as_str()).filter(|pod| *pod != "lone").collect();
        let group = |pod: &str| format!("decree.{}.{ENGINE}.{pod}", namespace.name());
        let groups = || namespace.bed().kafka_tool("kafka-consumer-groups", &["--list"], None);
        namespace.wait("a consumer group for each", LIMIT, || {
            let there = groups()?;
            ensure!(agents.iter().all(|agent| there.contains(&group(&agent.pod))), "{there}");
            Ok(Some(()))
        })?;

        // Before the first command a new life is as empty as the last one.
        let client = Client::new(format!("http://{}", namespace.service_address(ENGINE)?));
        for number in 0..3 {
            let request = Request {
                method: "POST",
                path: "/increment".to_owned(),
                id: Some(format!("one-{number}")),
                body: format!("one-{number}"),
                ..Request::default()
            };
            client.send_until_answered(&request, LIMIT).last?;
        }
        for agent in &agents {
            agent.read_after_barrier("/count")?;
        }
        for pod in &owned {
            namespace.kill_container(pod, "counter", "SIGKILL")?;
        }
        for pod in &owned {
            let event = namespace.wait_event(pod, "evicted by Decree", START)?;
            println!("{}: {}", event["reason"], event["message"]);
        }
        namespace.wait("successors of both", START, || {
            let engine = namespace.get_json("decisionengine", ENGINE)?;
            ensure!(engine["status"]["agents"]["summary"] == "3/3", "{}", engine["status"]);
            let pods = names(namespace, "pods")?;
            ensure!(owned.iter().all(|pod| !pods.contains(&(*pod).to_owned())), "{pods:?}");
            Ok(Some(()))
        })?;
        namespace.wait("their consumer groups to go", LIMIT, || {
            let there = groups()?;
            ensure!(owned.iter().all(|pod| !there.contains(&group(pod))), "{there}");
            ensure!(there.contains(&group("lone")), "{there}");
            Ok(Some(()))
        })?;

        namespace.kill_container("lone", "counter", "SIGKILL")?;
        let condition = namespace.wait_engine_reason(ENGINE, "EvictionCalledFor", LIMIT)?;
        println!("{}", condition["message"]);
        ensure!(
            said(&condition).contains("lone") && said(&condition).contains("no controller"),
            "{condition}"
        );
        namespace.wait_event("lone", "no controller owns it", LIMIT)?;
        ensure!(
            namespace.get_json("pod", "lone")?["metadata"]["deletionTimestamp"].is_null(),
            "lone is ending"
        );
        Ok(())
    })
}

fn evict(namespace: &Namespace, pod: &str) -> Result<()> {
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace.name()},
    });
    let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", namespace.name());
    namespace
        .bed()
        .kubectl_with_input(&["create", "--raw", &path, "-f", "-"], &eviction.to_string())
        .map(drop)
}

fn wait_no_condition(namespace: &Namespace, condition: &str) -> Result<()> {
    namespace.wait(&format!("no condition {condition}"), LIMIT, || {
        let engine = namespace.get_json("decisionengine", ENGINE)?;
        ensure!(status_of(&engine, condition).is_none(), "{}", engine["status"]["conditions"]);
        Ok(Some(()))
    })
}

fn names(namespace: &Namespace, kind: &str) -> Result<Vec<String>> {
    namespace.list_json(kind, "")?.iter().map(pod_name).collect()
}

fn pod_name(object: &Value) -> Result<String> {
    object["metadata"]["name"].as_str().map(str::to_owned).context("find an object's name")
}

fn unlabelled(template: &mut Value) {
    if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
        labels.remove(manifests::ENGINE_LABEL);
    }
}

fn said(condition: &Value) -> &str {
    condition["message"].as_str().unwrap_or_default()
}
