//! Ports by name lead to the sidecar, probes to the application, and a liveness check that fails still restarts it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use decree_e2e::agents::ensure_once_and_alike;
use decree_e2e::client::{Client, Request};
use decree_e2e::{Bed, Namespace, manifests};
use decree_wire::pod::{CONTAINER, port};
use serde_json::{Value, json};

const ENGINE: &str = "policy";
/// The Service that a user had before there was Decree.
const OWN_SERVICE: &str = "own";
const CHANGES: usize = 12;
const LIMIT: Duration = Duration::from_secs(60);

#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_users_own_service_with_a_named_port_leads_through_the_sidecar() -> Result<()> {
    Bed::of_test()?.in_namespace("named", |namespace| {
        namespace.apply(&manifests::opa_engine(namespace.bed(), ENGINE).to_string())?;
        let mut opa = manifests::opa(ENGINE, 3);
        let container = &mut opa["spec"]["template"]["spec"]["containers"][0];
        let health = json!({"httpGet": {"path": "/health", "port": "http"}, "timeoutSeconds": 10});
        container["startupProbe"] = json!({"tcpSocket": {"port": "http"}, "failureThreshold": 60});
        container["readinessProbe"] = health.clone();
        container["livenessProbe"] = health;
        namespace.apply(&opa.to_string())?;
        namespace.apply(&own_service().to_string())?;
        let agents = namespace.wait_agents(ENGINE, 3, Duration::from_secs(120))?;

        let client = Client::new(format!("http://{}", namespace.service_address(OWN_SERVICE)?));
        for number in 0..CHANGES {
            // OPA answers a new document with 204.
            let request = change("PUT", format!("/v1/data/named/k{number}"), number);
            let reply = client.send_until_answered(&request, LIMIT).last?;
            ensure!(reply.status < 300, "{request:?}: {reply:?}");
            ensure!(reply.header("decree-position").is_some(), "it went around the log: {reply:?}");
        }
        let expected: Value = (0..CHANGES).map(|number| (format!("k{number}"), json!(number))).collect();
        for agent in &agents {
            let found = agent.read_after_barrier("/v1/data/named")?;
            ensure!(found["result"] == expected, "{}: {found}", agent.pod);
            let pod = namespace.get_json("pod", &agent.pod)?;
            let container = &pod["spec"]["containers"][0];
            let entry = &container["ports"][0];
            ensure!(entry["name"] == "http" && entry["containerPort"] == port::REPLICATE, "{entry}");
            for probe in ["startupProbe", "readinessProbe"] {
                let asked = [&container[probe]["httpGet"]["port"], &container[probe]["tcpSocket"]["port"]];
                ensure!(asked.contains(&&json!(manifests::OPA_PORT)), "{probe}: {}", container[probe]);
            }
            ensure!(restarts(&pod, "opa")? == 0, "a check failed: {}", pod["status"]);
        }
        println!("{CHANGES} changes through a Service with targetPort http are in every pod");
        Ok(())
    })
}

#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_liveness_check_that_fails_restarts_the_application_and_the_log_rebuilds_it() -> Result<()> {
    Bed::of_test()?.in_namespace("liveness", |namespace| {
        namespace.apply(&manifests::replicated_recorder_engine(namespace.bed(), ENGINE).to_string())?;
        let mut recorders = manifests::recorders(ENGINE, 2, &[]);
        recorders["spec"]["template"]["spec"]["containers"][0]["livenessProbe"] = json!({
            "httpGet": {"path": "/livez", "port": "http"},
            "periodSeconds": 1, "timeoutSeconds": 10, "failureThreshold": 2
        });
        namespace.apply(&recorders.to_string())?;
        let agents = namespace.wait_agents(ENGINE, 2, Duration::from_secs(120))?;
        let service = Client::new(format!("http://{}", namespace.service_address(ENGINE)?));
        for number in 0..CHANGES {
            let reply = service.send_until_answered(&change("POST", "/decisions".to_owned(), number), LIMIT);
            ensure!(reply.last?.status == 200, "change {number} was not applied");
        }

        let sick = &agents[0];
        let application = Client::new(format!("http://{}:{}", sick.address, manifests::RECORDER_PORT));
        let reply = application.send(&change("POST", "/sicken".to_owned(), 0))?;
        ensure!(reply.status == 200, "{reply:?}");
        wait_restarted(namespace, &sick.pod)?;
        let event = namespace.wait_event(&sick.pod, "failed liveness probe", LIMIT)?;
        println!("{}: {}", sick.pod, event["message"]);

        let agents = namespace.wait_agents(ENGINE, 2, Duration::from_secs(120))?;
        ensure!(agents.iter().any(|agent| agent.pod == sick.pod), "the pod was replaced");
        for agent in &agents {
            agent.wait_recorded(CHANGES, LIMIT)?;
        }
        let recorded = ensure_once_and_alike(&agents)?;
        ensure!(recorded.len() == CHANGES, "{} are there", recorded.len());
        let pod = namespace.get_json("pod", &sick.pod)?;
        ensure!(restarts(&pod, CONTAINER)? == 0, "the sidecar was restarted as well: {}", pod["status"]);
        Ok(())
    })
}

fn wait_restarted(namespace: &Namespace, pod: &str) -> Result<()> {
    namespace.wait("the application to be restarted", Duration::from_secs(120), || {
        let pod = namespace.get_json("pod", pod)?;
        ensure!(restarts(&pod, "recorder")? > 0, "{}", pod["status"]["containerStatuses"]);
        Ok(Some(()))
    })
}

fn restarts(pod: &Value, container: &str) -> Result<u64> {
    let status = &pod["status"];
    let all = [&status["containerStatuses"], &status["initContainerStatuses"]];
    let mut all = all.into_iter().filter_map(Value::as_array).flatten();
    let found = all.find(|each| each["name"] == container);
    found
        .and_then(|each| each["restartCount"].as_u64())
        .with_context(|| format!("find {container} in {status}"))
}

fn own_service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": OWN_SERVICE},
        "spec": {"selector": {"app": ENGINE}, "ports": [{"port": 80, "targetPort": "http"}]},
    })
}

fn change(method: &'static str, path: String, number: usize) -> Request {
    let headers = vec![("content-type", "application/json".to_owned())];
    Request { method, path, id: Some(format!("change-{number}")), headers, body: number.to_string() }
}
