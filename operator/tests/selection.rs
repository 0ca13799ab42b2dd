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
    ]
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
        ("UnknownEngine", pod(&of("polcy"), &app()), &["\"polcy\"", "\"shop\"", "double, named, single"]),
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
            &["rename it"],
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
    ];
    for (reason, pod, parts) in cases {
        let Answer::Refused(refusal) = decided(&pod) else { panic!("{reason}: not refused: {pod}") };
        assert_eq!(refusal.reason(), reason);
        let message = refusal.to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{reason}: {message}");
    }
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

prop_compose! {
    fn any_container()(
        name in prop::sample::select(vec!["app", "log", "istio-proxy"]),
        unknown in any::<bool>(),
        mounts in prop::option::of(prop::collection::vec("/[a-z]{1,4}", 0..3)),
    ) -> Value {
        let mut container = json!({"name": name, "image": "i"});
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

/// The pod without what the injection adds.
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
    }
    pod["metadata"] = Value::Null;
    pod
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
    fn a_second_run_patches_nothing_and_the_first_only_adds(pod in any_pod()) {
        if let Some(after) = injected(&pod) {
            prop_assert_eq!(decided(&after), Answer::Unchanged(Skip::AlreadyInjected));
            prop_assert_eq!(without_empty(stripped(after)), without_empty(stripped(pod)));
        }
    }
}
