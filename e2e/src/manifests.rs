//! Engines and applications that tests put on the bed, as the manifests that a user would write.

use serde_json::{Value, json};

use crate::cluster::Bed;
use crate::foreign::image;

/// What makes a pod an agent: the label, and its value the engine's name.
pub const ENGINE_LABEL: &str = "decree.dev/engine";

/// Where the applications listen.
pub const OPA_PORT: u16 = 8181;
pub const RECORDER_PORT: u16 = 8080;
pub const COUNTER_PORT: u16 = 8080;

/// An engine whose agents are unmodified Open Policy Agents; its Service has its name.
pub fn opa_engine(bed: &Bed, name: &str) -> Value {
    let app = json!({"port": OPA_PORT, "health": {"path": "/health"}});
    replicating(bed, name, "opa", &app, &json!({"methods": ["PUT", "PATCH", "DELETE"], "pathPrefix": "/v1/"}))
}

/// An engine whose agents are counters; its Service has its name.
pub fn counter_engine(bed: &Bed, name: &str) -> Value {
    let app = json!({"port": COUNTER_PORT, "health": {"path": "/health"}});
    replicating(bed, name, "counter", &app, &json!({"methods": ["POST"], "pathPrefix": "/"}))
}

/// The same, ordered by a group among its own sidecars, with no Kafka at all; the group has the engine's name.
pub fn grouped_counter_engine(bed: &Bed, name: &str) -> Value {
    let mut engine = counter_engine(bed, name);
    engine["spec"]["consensusGroup"] = json!({"name": name});
    if let Some(spec) = engine["spec"].as_object_mut() {
        spec.remove("kafka");
    }
    engine
}

/// A group with so many voters.
pub fn group(name: &str, voters: usize) -> Value {
    json!({
        "apiVersion": "decree.dev/v1alpha1",
        "kind": "ConsensusGroup",
        "metadata": {"name": name},
        "spec": {"voters": voters},
    })
}

/// An engine whose agents are recorders that are sent the requests themselves; its Service has its name.
pub fn replicated_recorder_engine(bed: &Bed, name: &str) -> Value {
    replicating(bed, name, "recorder", &recorder(), &json!({"methods": ["POST"], "pathPrefix": "/decisions"}))
}

/// An engine whose agents are recorders.
pub fn recorder_engine(bed: &Bed, name: &str) -> Value {
    let class = json!({"class": "recorder", "app": recorder(), "apply": {"path": "/decisions"}});
    engine(bed, name, &class)
}

fn recorder() -> Value {
    json!({"port": RECORDER_PORT, "health": {"path": "/healthz"}})
}

fn replicating(bed: &Bed, name: &str, class: &str, app: &Value, rule: &Value) -> Value {
    let service = json!({"name": name, "port": 80});
    engine(
        bed,
        name,
        &json!({"class": class, "app": app, "replicate": {"rules": [rule], "service": service}}),
    )
}

fn engine(bed: &Bed, name: &str, class: &Value) -> Value {
    json!({
        "apiVersion": "decree.dev/v1alpha1",
        "kind": "DecisionEngine",
        "metadata": {"name": name},
        "spec": {
            "kafka": {"bootstrapServers": bed.kafka_bootstrap().split(',').collect::<Vec<_>>()},
            "agents": [class],
        },
    })
}

/// Three or so Open Policy Agents, as their makers deliver them.
pub fn opa(engine: &str, replicas: usize) -> Value {
    deployment(
        engine,
        replicas,
        json!({
            "name": "opa",
            "image": image("opa"),
            "args": ["run", "--server", "--addr=0.0.0.0:8181", "--log-level=error"],
            "ports": [{"name": "http", "containerPort": OPA_PORT}],
        }),
    )
}

/// Counters that keep their state in memory.
pub fn counters(engine: &str, replicas: usize) -> Value {
    deployment(engine, replicas, counter_container())
}

/// Counters that keep their state in files of an emptyDir, which outlives the container.
pub fn counters_on_disk(engine: &str, replicas: usize) -> Value {
    let mut container = counter_container();
    container["args"] = json!(["--state", "/state"]);
    container["volumeMounts"] = json!([{"name": "state", "mountPath": "/state"}]);
    let mut deployment = deployment(engine, replicas, container);
    let pod = &mut deployment["spec"]["template"]["spec"];
    pod["volumes"] = json!([{"name": "state", "emptyDir": {}}]);
    pod["securityContext"]["fsGroup"] = json!(65532);
    deployment
}

/// Recorders, each with this environment.
pub fn recorders(engine: &str, replicas: usize, environment: &[(&str, &str)]) -> Value {
    deployment(engine, replicas, recorder_container(environment))
}

/// A Job that ends once its recorder has recorded so many commands.
pub fn recorder_job(engine: &str, commands: usize) -> Value {
    let environment = [("EXIT_AFTER", commands.to_string())];
    let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut template = pod_template(engine, recorder_container(&environment));
    template["spec"]["restartPolicy"] = json!("Never");
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": engine},
        "spec": {"backoffLimit": 0, "template": template},
    })
}

/// A lone pod that wants to be an agent, for tests of what the injection refuses.
pub fn recorder_pod(engine: &str) -> Value {
    let template = pod_template(engine, recorder_container(&[]));
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "lone", "labels": template["metadata"]["labels"]},
        "spec": template["spec"],
    })
}

fn counter_container() -> Value {
    json!({
        "name": "counter",
        "image": image("counter"),
        "ports": [{"name": "http", "containerPort": COUNTER_PORT}],
    })
}

fn recorder_container(environment: &[(&str, &str)]) -> Value {
    let environment: Vec<Value> =
        environment.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    json!({
        "name": "recorder",
        "image": image("recorder"),
        "env": environment,
        "ports": [{"name": "http", "containerPort": RECORDER_PORT}],
    })
}

fn deployment(engine: &str, replicas: usize, container: Value) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": engine},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": engine}},
            "template": pod_template(engine, container),
        },
    })
}

/// What pod-security `restricted` demands of a user is here, so that nothing but the injection can offend it.
fn pod_template(engine: &str, mut container: Value) -> Value {
    container["imagePullPolicy"] = json!("IfNotPresent");
    container["securityContext"] =
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    container["resources"] = json!({"requests": {"cpu": "10m", "memory": "32Mi"}});
    json!({
        "metadata": {"labels": {"app": engine, ENGINE_LABEL: engine}},
        "spec": {
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
        },
    })
}
