//! The injection's decision as a table: every refusal with its remedy, every skip; and that it never injects twice.
#![allow(clippy::unwrap_used, clippy::panic)] // functions of tests, which clippy doesn't take for tests

use decree_crds::DecisionEngine;
use decree_operator::inject::select::Skip;
use decree_operator::inject::sidecar::Sidecar;
use decree_operator::inject::{Answer, answer};
use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;
use serde_json::{Value, json};

fn engine(name: &str, agents: &Value) -> DecisionEngine {
    let spec = json!({"kafka": {"bootstrapServers": ["k:9092"]}, "agents": agents});
    serde_json::from_value(json!({
        "apiVersion": "decree.dev/v1alpha1", "kind": "DecisionEngine",
        "metadata": {"name": name, "namespace": "shop"}, "spec": spec
    }))
    .unwrap()
}

fn agent(class: &str, container: Option<&str>) -> Value {
    json!({"class": class, "app": {"port": 9000, "container": container}, "apply": {"path": "/d"}})
}

fn engines() -> Vec<DecisionEngine> {
    vec![
        engine("single", &json!([agent("only", None)])),
        engine("named", &json!([agent("only", Some("app"))])),
        engine("double", &json!([agent("one", None), agent("two", None)])),
        engine("proxied", &json!([proxied()])),
    ]
}

fn proxied() -> Value {
    json!({
        "class": "only", "app": {"port": 9000, "container": "app", "scratch": ["tmp", "old"]},
        "replicate": {"rules": [{"methods": ["PUT"], "pathPrefix": "/"}]}
    })
}

fn decided(pod: &Value) -> Answer {
    let pod: Pod = serde_json::from_value(pod.clone()).unwrap();
    answer(&pod, "shop", &engines(), &Sidecar::new("decree/sidecar:test"))
}

fn pod(labels: &Value, spec: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": labels}, "spec": spec})
}

fn of(engine: &str) -> Value {
    json!({"decree.dev/engine": engine})
}

fn app() -> Value {
    json!({"containers": [{"name": "app"}]})
}

#[test]
fn what_can_not_be_an_agent_is_refused_with_the_remedy() {
    let two = json!({"containers": [{"name": "app"}, {"name": "log"}]});
    let double = |class: &str| json!({"decree.dev/engine": "double", "decree.dev/class": class});
    let with = |key: &str, value: Value| {
        let mut spec = app();
        spec[key] = value;
        spec
    };
    let in_app = |key: &str, value: Value| json!({"containers": [{"name": "app", key: value}]});
    let cases: Vec<(&str, Value, &[&str])> = vec![
        (
            "UnknownEngine",
            pod(&of("polcy"), &app()),
            &["\"polcy\"", "\"shop\"", "double, named, proxied, single"],
        ),
        ("UnknownEngine", pod(&of(""), &app()), &["decree.dev/engine"]),
        ("MissingClass", pod(&of("double"), &app()), &["one, two", "decree.dev/class"]),
        ("UnknownClass", pod(&double("three"), &app()), &["\"three\"", "one, two"]),
        ("ContainerNotNamed", pod(&of("single"), &two), &["app, log", "app.container"]),
        (
            "NoSuchContainer",
            pod(&of("named"), &json!({"containers": [{"name": "log"}]})),
            &["\"app\"", "only: log"],
        ),
        ("HostNetwork", pod(&of("single"), &with("hostNetwork", json!(true))), &["remove hostNetwork"]),
        (
            "PortTaken",
            pod(&of("single"), &in_app("ports", json!([{"containerPort": 80}, {"containerPort": 7072}]))),
            &["\"app\"", "7072", "another port"],
        ),
        (
            "PortTaken",
            pod(
                &of("single"),
                &with("initContainers", json!([{"name": "i", "ports": [{"containerPort": 7070}]}])),
            ),
            &["\"i\"", "7070"],
        ),
        (
            "ContainerTaken",
            pod(&of("named"), &json!({"containers": [{"name": "app"}, {"name": "decree"}]})),
            &["rename it", "template"],
        ),
        (
            "VolumeTaken",
            pod(&of("single"), &with("volumes", json!([{"name": "decree-state", "emptyDir": {}}]))),
            &["\"decree-state\"", "rename it"],
        ),
        (
            "MountTaken",
            pod(&of("single"), &in_app("volumeMounts", json!([{"name": "v", "mountPath": "/run/decree/"}]))),
            &["/run/decree", "elsewhere"],
        ),
        ("Windows", pod(&of("single"), &with("os", json!({"name": "windows"}))), &["Linux"]),
        (
            "Windows",
            pod(&of("single"), &with("nodeSelector", json!({"kubernetes.io/os": "windows"}))),
            &["Linux"],
        ),
        (
            "OutlivingVolume",
            with_volumes(
                "proxied",
                &json!([{"name": "data", "mountPath": "/d"}, {"name": "host", "mountPath": "/h"}]),
            ),
            &[
                "\"app\"",
                "volume data, persistentVolumeClaim; volume host, hostPath",
                "readOnly: true",
                "agents[].app.scratch",
                "\"proxied\"",
                "emptyDir",
            ],
        ),
    ];
    for (reason, pod, parts) in cases {
        let Answer::Refused(refusal) = decided(&pod) else { panic!("{reason}: not refused: {pod}") };
        assert_eq!(refusal.reason(), reason);
        let message = refusal.to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{reason}: {message}");
    }
}

fn with_volumes(engine: &str, mounts: &Value) -> Value {
    let volumes = json!([
        {"name": "data", "persistentVolumeClaim": {"claimName": "data-0"}},
        {"name": "old", "persistentVolumeClaim": {"claimName": "old-0"}},
        {"name": "host", "hostPath": {"path": "/var/lib/x"}},
        {"name": "cache", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}}
    ]);
    let containers = json!([
        {"name": "app", "volumeMounts": mounts},
        {"name": "log", "volumeMounts": [{"name": "data", "mountPath": "/d"}]}
    ]);
    pod(&of(engine), &json!({"containers": containers, "volumes": volumes}))
}

#[test]
fn volumes_decide_what_a_restart_takes() {
    let cases = [
        (json!([{"name": "tmp", "mountPath": "/tmp"}, {"name": "old", "mountPath": "/old"}]), "Container"),
        (json!([{"name": "data", "mountPath": "/d", "readOnly": true}]), "Container"),
        (json!([{"name": "cache", "mountPath": "/c"}]), "Pod"),
    ];
    for (mounts, expected) in cases {
        let after = injected(&with_volumes("proxied", &mounts)).unwrap();
        assert_eq!(variable(&after, "DECREE_RESTART"), expected, "{mounts}");
        let probe = &after["spec"]["containers"][0]["livenessProbe"];
        assert_eq!(probe.is_null(), expected == "Pod", "{mounts}: {probe}");
    }
}

#[test]
fn a_volume_that_another_webhook_adds_later_is_refused_too() {
    let mut after = injected(&with_volumes("proxied", &json!([]))).unwrap();
    let mounts = after["spec"]["containers"][0]["volumeMounts"].as_array_mut().unwrap();
    mounts.push(json!({"name": "data", "mountPath": "/d"}));
    let Answer::Refused(refusal) = decided(&after) else { panic!() };
    assert_eq!(refusal.reason(), "OutlivingVolume");
}

#[test]
fn an_empty_dir_that_another_webhook_adds_later_takes_the_whole_pod() {
    let mut after = injected(&with_volumes("proxied", &json!([]))).unwrap();
    let mounts = after["spec"]["containers"][0]["volumeMounts"].as_array_mut().unwrap();
    mounts.push(json!({"name": "cache", "mountPath": "/c"}));
    after["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "added"}));
    let Answer::Amended { patch } = decided(&after) else { panic!() };
    json_patch::patch(&mut after, &patch).unwrap();
    assert_eq!(variable(&after, "DECREE_RESTART"), "Pod");
    let status = after["metadata"]["annotations"]["decree.dev/status"].as_str().unwrap();
    assert!(status.contains(r#""because":"it writes to the volume cache (emptyDir)""#), "{status}");
    assert_eq!(decided(&after), Answer::Unchanged(Skip::AlreadyInjected), "and a third call patches nothing");
}

#[test]
fn the_resources_of_a_whole_pod_hold_for_the_sidecar_too() {
    let mut spec = app();
    let own = injected(&pod(&of("single"), &spec)).unwrap();
    assert!(own["spec"]["initContainers"][0]["resources"]["requests"].is_object());
    spec["resources"] = json!({"requests": {"memory": "64Mi"}, "limits": {"memory": "64Mi"}});
    let shared = injected(&pod(&of("single"), &spec)).unwrap();
    assert_eq!(shared["spec"]["initContainers"][0]["resources"], json!({}));
}

#[test]
fn a_container_that_another_webhook_adds_later_is_not_the_application() {
    let mut after = injected(&pod(&of("single"), &app())).unwrap();
    after["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "added"}));
    assert_eq!(decided(&after), Answer::Unchanged(Skip::AlreadyInjected));
}

#[test]
fn the_picture_of_a_static_pod_is_not_painted_over() {
    let mut pod = pod(&of("single"), &app());
    pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    let Answer::Refused(refusal) = decided(&pod) else { panic!() };
    assert_eq!(refusal.reason(), "StaticPod");
}

fn variable(pod: &Value, name: &str) -> Value {
    let sidecar = pod["spec"]["initContainers"].as_array().unwrap();
    let variables = sidecar.iter().find(|each| each["name"] == "decree").unwrap()["env"].as_array().unwrap();
    variables.iter().find(|each| each["name"] == name).unwrap()["value"].clone()
}

#[test]
fn where_there_is_no_engine_the_refusal_says_so() {
    let pod: Pod = serde_json::from_value(pod(&of("policy"), &app())).unwrap();
    let none: [DecisionEngine; 0] = [];
    let Answer::Refused(refusal) = answer(&pod, "shop", &none, &Sidecar::new("s")) else { panic!() };
    assert!(refusal.to_string().contains("there is none"), "{refusal}");
}

#[test]
fn a_version_is_an_integer_of_at_least_one() {
    for value in ["", "0", "-1", "1.5", "two", "99999999999"] {
        let mut pod = pod(&of("single"), &app());
        pod["metadata"]["annotations"] = json!({"decree.dev/version": value});
        let Answer::Refused(refusal) = decided(&pod) else { panic!("{value} is accepted") };
        assert_eq!(refusal.reason(), "InvalidVersion");
    }
}

#[test]
fn a_pod_without_the_label_is_left_alone() {
    let pod = pod(&json!({"app": "x", "decree.dev/class": "only"}), &app());
    assert_eq!(decided(&pod), Answer::Unchanged(Skip::NotLabelled));
}

#[test]
fn a_mesh_proxy_is_never_taken_for_the_application() {
    let spec = json!({"containers": [{"name": "istio-proxy"}, {"name": "server"}]});
    let Answer::Injected { injection, .. } = decided(&pod(&of("single"), &spec)) else { panic!() };
    assert_eq!(injection.application, "server");
}

#[test]
fn a_pod_copied_from_another_engines_agent_is_refused() {
    let mut copied = injected(&pod(&of("single"), &app())).unwrap();
    copied["metadata"]["labels"]["decree.dev/engine"] = json!("named");
    let Answer::Refused(refusal) = decided(&copied) else { panic!() };
    assert_eq!(refusal.reason(), "ContainerTaken");
}

fn injected(pod: &Value) -> Option<Value> {
    let Answer::Injected { patch, .. } = decided(pod) else { return None };
    let mut after = pod.clone();
    json_patch::patch(&mut after, &patch).unwrap();
    Some(after)
}

fn any_port() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![json!("http"), json!("metrics"), json!(9000), json!(9001), json!("9000")])
}

prop_compose! {
    fn any_probes()(
        port in any_port(),
        handler in prop::sample::select(vec!["httpGet", "tcpSocket"]),
        keys in prop::sample::subsequence(vec!["livenessProbe", "readinessProbe", "startupProbe", "preStop"], 0..=4),
        ports in prop::sample::subsequence(
            vec![
                json!({"name": "http", "containerPort": 9000}),
                json!({"name": "metrics", "containerPort": 9001}),
                json!({"name": "quic", "containerPort": 9000, "protocol": "UDP"}),
                json!({"containerPort": 9000}),
            ],
            0..=4,
        ),
    ) -> Value {
        let mut container = json!({"ports": ports});
        for key in keys {
            let at = if key == "preStop" { &mut container["lifecycle"][key] } else { &mut container[key] };
            *at = json!({handler: {"port": port, "ofTheFuture": 1}});
        }
        container
    }
}

prop_compose! {
    fn any_container()(
        name in prop::sample::select(vec!["app", "log", "istio-proxy"]),
        unknown in any::<bool>(),
        probed in any_probes(),
        mounts in prop::option::of(prop::collection::vec("/[a-z]{1,4}", 0..3)),
    ) -> Value {
        let mut container = probed;
        container["name"] = name.into();
        container["image"] = "i".into();
        if let Some(mounts) = mounts {
            container["volumeMounts"] =
                mounts.iter().map(|path| json!({"name": "v", "mountPath": path})).collect();
        }
        if unknown {
            container["fieldOfTheFuture"] = json!({"x": 1});
        }
        container
    }
}

prop_compose! {
    fn any_pod()(
        labels in prop::sample::select(vec![
            json!({"decree.dev/engine": "single"}),
            json!({"decree.dev/engine": "named", "decree.dev/class": "only"}),
            json!({"decree.dev/engine": "double", "decree.dev/class": "two"}),
            json!({"decree.dev/engine": "proxied"}),
        ]),
        annotations in prop::option::of(prop::sample::select(vec![
            json!({}),
            json!({"decree.dev/version": "3", "kubectl.kubernetes.io/default-container": "log"}),
            json!({"decree.dev/status": "garbage"}),
        ])),
        containers in prop::collection::vec(any_container(), 1..4),
        init in prop::option::of(prop::collection::vec(any_container(), 0..3)),
        volumes in prop::option::of(Just(json!([{"name": "v", "emptyDir": {}}]))),
    ) -> Value {
        let mut pod = pod(&labels, &json!({"containers": containers}));
        if let Some(annotations) = annotations {
            pod["metadata"]["annotations"] = annotations;
        }
        if let Some(init) = init {
            pod["spec"]["initContainers"] = init.into();
        }
        if let Some(volumes) = volumes {
            pod["spec"]["volumes"] = volumes;
        }
        pod
    }
}

/// The numbers that a container's probes and hooks reach, liveness aside, which is the sidecar's.
fn reached(container: &Value) -> Vec<Value> {
    let handlers =
        [&container["readinessProbe"], &container["startupProbe"], &container["lifecycle"]["preStop"]];
    let ports =
        handlers.into_iter().flat_map(|handler| [&handler["httpGet"]["port"], &handler["tcpSocket"]["port"]]);
    let number = |port: &Value| {
        let all = container["ports"].as_array().unwrap();
        let named = all.iter().find(|entry| entry["name"] == *port && !port.is_null());
        let in_letters = port.as_str().and_then(|port| port.parse::<i32>().ok()).map(Value::from);
        named.map(|entry| entry["containerPort"].clone()).or(in_letters).unwrap_or_else(|| port.clone())
    };
    ports.map(number).collect()
}

/// The pod without what the injection adds and changes.
fn stripped(mut pod: Value) -> Value {
    let ours = |value: &Value| value["name"].as_str().is_some_and(|name| name.starts_with("decree"));
    for list in ["initContainers", "volumes"] {
        if let Some(list) = pod["spec"][list].as_array_mut() {
            list.retain(|value| !ours(value));
        }
    }
    for container in pod["spec"]["containers"].as_array_mut().unwrap() {
        if let Some(mounts) = container.get_mut("volumeMounts").and_then(Value::as_array_mut) {
            mounts.retain(|value| !ours(value));
        }
        let numbers = reached(container);
        container["reached"] = numbers.into();
        let container = container.as_object_mut().unwrap();
        container.remove("livenessProbe");
        for key in ["readinessProbe", "startupProbe", "lifecycle"] {
            if let Some(handler) = container.get_mut(key) {
                without_port(handler);
            }
        }
        for port in container["ports"].as_array_mut().unwrap() {
            if port["containerPort"] == 7072 && port["protocol"] != "UDP" {
                port["containerPort"] = 9000.into();
            }
        }
    }
    pod["metadata"] = Value::Null;
    pod
}

fn without_port(handler: &mut Value) {
    let Some(handler) = handler.as_object_mut() else { return };
    handler.remove("port");
    handler.values_mut().for_each(without_port);
}

/// Empty lists and absent ones mean the same.
fn without_empty(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(_, value)| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()))
            .map(|(key, value)| (key, without_empty(value)))
            .collect(),
        Value::Array(list) => list.into_iter().map(without_empty).collect(),
        other => other,
    }
}

proptest! {
    #[test]
    fn a_second_run_patches_nothing_and_the_first_changes_only_what_it_must(pod in any_pod()) {
        if let Some(after) = injected(&pod) {
            prop_assert_eq!(decided(&after), Answer::Unchanged(Skip::AlreadyInjected));
            prop_assert_eq!(without_empty(stripped(after)), without_empty(stripped(pod)));
        }
    }
}
