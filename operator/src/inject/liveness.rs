//! The application's liveness probe, led through the sidecar where the kubelet can give the application an empty state.

use decree_wire::pod::port;
use decree_wire::probe::{self, Check, HttpGet, Liveness, Restart, Scheme, TcpSocket};
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, PodSpec, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::outlives::Outliving;

/// The sidecar answers from what it knows; only a node without any time for it makes it slow.
const TIMEOUT: i32 = 2;

/// What a restart of the application takes, and who asks whether it is alive.
#[derive(Clone, Debug, PartialEq)]
pub enum Guard {
    /// The kubelet asks the sidecar, and restarts the container when it says so.
    Sidecar {
        /// The container's probe from now on.
        probe: Box<Probe>,
        /// The user's own check, which the sidecar runs.
        check: Option<Liveness>,
    },
    /// The probe stays the user's: a restart of the container alone would not do.
    User {
        /// Why it would not.
        because: String,
    },
}

impl Guard {
    /// What gives the application an empty state again.
    #[must_use]
    pub fn restart(&self) -> Restart {
        match self {
            Self::Sidecar { .. } => Restart::Container,
            Self::User { .. } => Restart::Pod,
        }
    }
}

/// Who asks whether `application` is alive. `outliving`: what it writes to and what its container leaves behind.
#[must_use]
pub fn guard(spec: &PodSpec, application: &Container, outliving: &Outliving) -> Guard {
    if let Some(because) = whole_pod(spec, application, outliving) {
        return Guard::User { because };
    }
    let own = application.liveness_probe.as_ref();
    let check = own.filter(|probe| !is_ours(probe)).and_then(|probe| check(probe, application));
    Guard::Sidecar { probe: Box::new(led(own)), check }
}

/// Why the container alone can't be restarted into an empty state.
fn whole_pod(spec: &PodSpec, application: &Container, outliving: &Outliving) -> Option<String> {
    let policy = |of: &Option<String>| of.clone().filter(|policy| policy != "Always");
    let never = match &application.restart_policy {
        Some(own) => {
            policy(&Some(own.clone())).map(|policy| format!("its container's restartPolicy is {policy}"))
        }
        // Always is the default. With OnFailure a container that ends well at SIGTERM would not come back.
        None => policy(&spec.restart_policy).map(|policy| format!("the pod's restartPolicy is {policy}")),
    };
    let probe = application.liveness_probe.as_ref();
    let exec = probe.is_some_and(|probe| probe.exec.is_some());
    let grpc = probe.is_some_and(|probe| probe.grpc.is_some());
    let volume = outliving.container.iter().chain(&outliving.pod).next();
    never
        .or_else(|| exec.then(|| "its liveness probe is an exec probe".to_owned()))
        .or_else(|| grpc.then(|| "its liveness probe is a gRPC probe".to_owned()))
        .or_else(|| volume.map(|(name, kind)| format!("it writes to the volume {name} ({kind})")))
}

/// What `probe` asks, in numbers; none where the kubelet itself would find nothing to ask.
fn check(probe: &Probe, application: &Container) -> Option<Liveness> {
    let check = match (&probe.http_get, &probe.tcp_socket) {
        (Some(get), _) => Check::HttpGet(HttpGet {
            path: get.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned()),
            port: number(&get.port, application)?,
            scheme: if get.scheme.as_deref() == Some("HTTPS") { Scheme::Https } else { Scheme::Http },
            host: get.host.clone().filter(|host| !host.is_empty()),
            headers: get.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone())).collect(),
        }),
        (None, Some(socket)) => Check::TcpSocket(TcpSocket {
            port: number(&socket.port, application)?,
            host: socket.host.clone().filter(|host| !host.is_empty()),
        }),
        (None, None) => return None,
    };
    // Zero means the default to the API server, too.
    let or = |value: Option<i32>, default: u32| {
        value.and_then(|value| u32::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(default)
    };
    Some(Liveness {
        check,
        period_seconds: or(probe.period_seconds, 10),
        timeout_seconds: or(probe.timeout_seconds, 1),
        failure_threshold: or(probe.failure_threshold, 3),
        success_threshold: or(probe.success_threshold, 1),
    })
}

/// A port as the kubelet finds it: a name among the container's ports, or else a number in letters.
fn number(port: &IntOrString, application: &Container) -> Option<u16> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let mut ports = application.ports.iter().flatten();
            let named = ports.find(|port| port.name.as_ref() == Some(name));
            named.map(|port| port.container_port).or_else(|| name.parse().ok())?
        }
    };
    u16::try_from(number).ok().filter(|number| *number > 0)
}

/// The kubelet's question to the sidecar. When to begin and how long to wait at the end stays the user's.
fn led(own: Option<&Probe>) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(probe::PATH.to_owned()),
            port: IntOrString::Int(i32::from(port::HEALTH)),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(1),
        failure_threshold: i32::try_from(probe::FAILURES).ok(),
        timeout_seconds: Some(TIMEOUT),
        initial_delay_seconds: own.and_then(|own| own.initial_delay_seconds),
        termination_grace_period_seconds: own.and_then(|own| own.termination_grace_period_seconds),
        ..Probe::default()
    }
}

/// Whether a probe is the injection's: in a pod that was copied from an agent.
fn is_ours(probe: &Probe) -> bool {
    probe.http_get.as_ref().is_some_and(|get| {
        get.path.as_deref() == Some(probe::PATH) && get.port == IntOrString::Int(i32::from(port::HEALTH))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn guarded(container: &Value, spec: &Value) -> Guard {
        let mut container = container.clone();
        container["name"] = json!("app");
        let mut spec = spec.clone();
        spec["containers"] = json!([container]);
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        guard(&spec, &spec.containers[0], &Outliving::default())
    }

    fn checked(probe: &Value) -> Option<Value> {
        let ports =
            json!([{"name": "http", "containerPort": 8181}, {"name": "big", "containerPort": 70_000}]);
        match guarded(&json!({"ports": ports, "livenessProbe": probe}), &json!({})) {
            Guard::Sidecar { check, .. } => check.map(|check| serde_json::to_value(check).unwrap()),
            Guard::User { because } => unreachable!("{because}"),
        }
    }

    #[test]
    fn the_users_check_goes_to_the_sidecar_in_numbers() {
        let http = json!({
            "httpGet": {
                "path": "/health?x", "port": "http", "scheme": "HTTPS", "host": "other",
                "httpHeaders": [{"name": "Host", "value": "a"}, {"name": "X", "value": "b"}]
            },
            "periodSeconds": 5, "timeoutSeconds": 2, "failureThreshold": 4, "successThreshold": 1
        });
        assert_eq!(
            checked(&http),
            Some(json!({
                "httpGet": {
                    "path": "/health?x", "port": 8181, "scheme": "HTTPS", "host": "other",
                    "headers": [["Host", "a"], ["X", "b"]]
                },
                "periodSeconds": 5, "timeoutSeconds": 2, "failureThreshold": 4, "successThreshold": 1
            }))
        );
        let by_default = json!({
            "tcpSocket": {"port": 9000},
            "periodSeconds": 10, "timeoutSeconds": 1, "failureThreshold": 3, "successThreshold": 1
        });
        assert_eq!(checked(&json!({"tcpSocket": {"port": 9000}})), Some(by_default));
        let path = |probe: &Value| checked(probe).map(|check| check["httpGet"].clone());
        let plain = json!({"path": "/", "port": 81, "scheme": "HTTP"});
        assert_eq!(path(&json!({"httpGet": {"port": "81", "host": ""}})), Some(plain));
    }

    #[test]
    fn where_the_kubelet_would_ask_nobody_the_sidecar_does_not_either() {
        for port in [json!("nobodys"), json!("big"), json!(0)] {
            assert_eq!(checked(&json!({"httpGet": {"port": port}})), None, "{port}");
        }
        let ours = json!({"httpGet": {"path": "/application/livez", "port": 7071}});
        assert_eq!(checked(&ours), None, "not wrapped twice");
    }

    #[test]
    fn when_it_begins_and_how_it_ends_stays_the_users() {
        let own =
            json!({"tcpSocket": {"port": 1}, "initialDelaySeconds": 7, "terminationGracePeriodSeconds": 3});
        let Guard::Sidecar { probe, .. } = guarded(&json!({"livenessProbe": own}), &json!({})) else {
            panic!()
        };
        assert_eq!(
            serde_json::to_value(probe).unwrap(),
            json!({
                "httpGet": {"path": "/application/livez", "port": 7071}, "periodSeconds": 1,
                "failureThreshold": 12, "timeoutSeconds": 2, "initialDelaySeconds": 7,
                "terminationGracePeriodSeconds": 3
            })
        );
        let Guard::Sidecar { probe, check } = guarded(&json!({}), &json!({})) else { panic!() };
        assert_eq!((probe.failure_threshold, check), (Some(12), None), "a probe is added");
    }

    #[test]
    fn where_the_container_alone_can_not_be_restarted_the_probe_stays() {
        let cases = [
            (json!({"livenessProbe": {"exec": {"command": ["x"]}}}), json!({}), "exec"),
            (json!({"livenessProbe": {"grpc": {"port": 1}}}), json!({}), "gRPC"),
            (json!({}), json!({"restartPolicy": "Never"}), "the pod's restartPolicy is Never"),
            (json!({}), json!({"restartPolicy": "OnFailure"}), "OnFailure"),
            (json!({"restartPolicy": "Never"}), json!({"restartPolicy": "Always"}), "container's"),
        ];
        for (container, spec, word) in cases {
            match guarded(&container, &spec) {
                Guard::User { because } => assert!(because.contains(word), "{because}"),
                other => panic!("{container}: {other:?}"),
            }
        }
        let own = guarded(&json!({"restartPolicy": "Always"}), &json!({"restartPolicy": "Never"}));
        assert_eq!(own.restart(), Restart::Container, "the container's own policy goes first");
    }

    #[test]
    fn what_outlives_the_container_takes_the_whole_pod() {
        let outliving =
            Outliving { container: [("cache".to_owned(), "emptyDir")].into(), ..Outliving::default() };
        let found = guard(&PodSpec::default(), &Container::default(), &outliving);
        assert_eq!(found, Guard::User { because: "it writes to the volume cache (emptyDir)".to_owned() });
    }
}
