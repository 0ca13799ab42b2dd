//! The sidecar's container, and where among the init containers it goes.

use decree_wire::pod::{self, env, path, port};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, ExecAction, HTTPGetAction, Lifecycle,
    LifecycleHandler, ObjectFieldSelector, Pod, Probe, SeccompProfile, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::injection::Injection;
use super::liveness::Guard;
use super::volumes;

/// Proxies of service meshes: where one is a native sidecar, traffic before it is up is refused.
pub const MESH: [&str; 2] = ["istio-proxy", "linkerd-proxy"];

/// The user and group of the image.
const USER: i64 = 65_532;

/// The index among the init containers: behind a mesh's own native sidecar, else first.
#[must_use]
pub fn place(pod: &Pod) -> usize {
    let init = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    init.iter().rposition(|container| MESH.contains(&container.name.as_str())).map_or(0, |mesh| mesh + 1)
}

/// The container: a native sidecar that holds to the pod security standard `restricted`.
#[must_use]
pub fn container(injection: &Injection) -> Container {
    Container {
        name: pod::CONTAINER.to_owned(),
        image: Some(injection.sidecar.image.clone()),
        image_pull_policy: Some(injection.sidecar.pull_policy.clone()),
        restart_policy: Some("Always".to_owned()),
        env: Some(environment(injection)),
        ports: Some(ports(injection)),
        resources: Some(injection.sidecar.resources.clone()),
        // `/livez` asks for nothing outside of the process: the pod's start waits for this one alone.
        startup_probe: Some(Probe { failure_threshold: Some(60), ..probe("/livez", 1) }),
        liveness_probe: Some(Probe { failure_threshold: Some(3), ..probe("/livez", 10) }),
        readiness_probe: Some(Probe { failure_threshold: Some(2), ..probe("/readyz", 1) }),
        lifecycle: Some(Lifecycle { pre_stop: Some(pre_stop()), ..Lifecycle::default() }),
        security_context: Some(restricted()),
        volume_mounts: Some(volumes::of_sidecar(injection.member)),
        ..Container::default()
    }
}

fn ports(injection: &Injection) -> Vec<ContainerPort> {
    let peers = injection.member.then(|| exposed("decree-peers", port::PEERS));
    let both = [exposed("decree-health", port::HEALTH), exposed("decree-http", port::REPLICATE)];
    both.into_iter().chain(peers).collect()
}

fn environment(injection: &Injection) -> Vec<EnvVar> {
    let mut variables = vec![
        from_field(env::POD, "metadata.name"),
        from_field(env::UID, "metadata.uid"),
        from_field(env::NAMESPACE, "metadata.namespace"),
        from_field(env::IP, "status.podIP"),
        literal(env::CLASS, &injection.class),
        literal(env::VERSION, &injection.version.to_string()),
        literal(env::RESTART, injection.guard.restart().as_str()),
    ];
    if let Guard::Sidecar { check: Some(check), .. } = &injection.guard {
        let check = serde_json::to_string(check).expect("numbers and strings are JSON");
        variables.push(literal(env::LIVENESS, &check));
    }
    variables
}

/// As it is: the kubelet would put a variable's value in place of `$(NAME)`.
fn literal(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.replace('$', "$$")), value_from: None }
}

fn from_field(name: &str, path: &str) -> EnvVar {
    let field = ObjectFieldSelector { field_path: path.to_owned(), ..ObjectFieldSelector::default() };
    let source = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
    EnvVar { name: name.to_owned(), value: None, value_from: Some(source) }
}

fn exposed(name: &str, port: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(port),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

fn probe(path: &str, period: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(i32::from(port::HEALTH)),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(2),
        ..Probe::default()
    }
}

/// The drain begins here: SIGTERM comes last to a native sidecar, perhaps with two seconds left.
fn pre_stop() -> LifecycleHandler {
    let command = vec![path::PROGRAM.to_owned(), pod::PRE_STOP.to_owned()];
    LifecycleHandler { exec: Some(ExecAction { command: Some(command) }), ..LifecycleHandler::default() }
}

fn restricted() -> SecurityContext {
    SecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        read_only_root_filesystem: Some(true),
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..SecurityContext::default()
    }
}
