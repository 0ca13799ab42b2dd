//! Services that lead to agents past their sidecars. Pure.

use std::sync::Arc;

use decree_wire::document::Mode;
use k8s_openapi::api::core::v1::{Container, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::{guard, pods};
use crate::engine::problem::Alert;
use crate::spec::{Class, Engine};

/// The Services of the namespace that go around the log, if any does.
#[must_use]
pub fn bypassed(engine: &Engine, all: &[Arc<Pod>], services: &[Arc<Service>]) -> Option<Alert> {
    let ways: Vec<String> = engine
        .classes
        .iter()
        .filter(|class| matches!(class.mode, Mode::Replicate { .. }))
        .flat_map(|class| ways(engine, class, all, services))
        .collect();
    (!ways.is_empty()).then(|| Alert {
        reason: "Bypassed",
        message: format!(
            "around the log lead: {}. What is changed there is changed in one pod alone. Let the Service's targetPort be the \
             port's name in the pod template, which the injection leads to the sidecar, or {}; a Service that is only read \
             through does no harm, but what is sent through it can't be seen from here",
            ways.join(", "),
            own_service(engine)
        ),
    })
}

fn own_service(engine: &Engine) -> String {
    let own: Vec<&str> =
        engine.classes.iter().filter_map(|class| Some(class.service.as_ref()?.name.as_str())).collect();
    match own.as_slice() {
        [] => "set replicate.service and use the Service that Decree makes".to_owned(),
        own => format!("use Service {}", pods::named(own.iter().copied())),
    }
}

fn ways(engine: &Engine, class: &Class, all: &[Arc<Pod>], services: &[Arc<Service>]) -> Vec<String> {
    let agents: Vec<&Pod> = all
        .iter()
        .map(AsRef::as_ref)
        .filter(|pod| !pods::has_ended(pod) && pods::class(pod, engine) == Some(class))
        .collect();
    let foreign = services.iter().filter(|service| guard::engine_of(&service.metadata).is_none());
    foreign
        .filter_map(|service| {
            let reached: Vec<&Pod> = agents.iter().copied().filter(|pod| selects(service, pod)).collect();
            let ports = service.spec.as_ref()?.ports.as_deref().unwrap_or_default();
            let port = ports.iter().find(|port| leads_to(port, class.port, &reached))?;
            let (name, class, app) = (service.name_any(), &class.name, class.port);
            Some(format!("Service {name} (its port {} is port {app} of agents of class {class})", port.port))
        })
        .collect()
}

/// Whether the Service selects this pod. One without a selector has its endpoints from somebody else.
#[must_use]
pub fn selects(service: &Service, pod: &Pod) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| {
        !selector.is_empty() && selector.iter().all(|(key, value)| pod.labels().get(key) == Some(value))
    })
}

fn leads_to(port: &ServicePort, application: u16, reached: &[&Pod]) -> bool {
    let application = i32::from(application);
    let tcp = port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
    let leads = match &port.target_port {
        Some(IntOrString::Int(number)) if *number != 0 => *number == application && !reached.is_empty(),
        Some(IntOrString::String(name)) => reached.iter().any(|pod| number(pod, name) == Some(application)),
        Some(IntOrString::Int(_)) | None => port.port == application && !reached.is_empty(),
    };
    tcp && leads
}

/// What a port's name means in a pod: Kubernetes asks the containers first.
fn number(pod: &Pod, name: &str) -> Option<i32> {
    let spec = pod.spec.as_ref()?;
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let mut ports = containers.flat_map(|container: &Container| container.ports.iter().flatten());
    ports.find(|port| port.name.as_deref() == Some(name)).map(|port| port.container_port)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::pods::example;
    use super::*;
    use crate::spec::example as engine;

    fn service(port: Value) -> Arc<Service> {
        let service = json!({
            "metadata": {"name": "mine", "namespace": "shop"}, "spec": {"selector": {"app": "opa"}, "ports": [port]},
        });
        Arc::new(serde_json::from_value(service).unwrap())
    }

    fn is_bypassed(pod: Pod, service: Arc<Service>) -> bool {
        bypassed(&engine(), &[Arc::new(pod)], &[service]).is_some()
    }

    #[test]
    fn the_number_goes_around_and_the_moved_name_does_not() {
        let pod = || example("a", true);
        assert!(is_bypassed(pod(), service(json!({"port": 80, "targetPort": 8181}))));
        assert!(is_bypassed(pod(), service(json!({"port": 8181}))), "without targetPort it is the port");
        assert!(!is_bypassed(pod(), service(json!({"port": 8181, "targetPort": 7072}))));
        assert!(!is_bypassed(pod(), service(json!({"port": 80, "targetPort": "http"}))));
        assert!(!is_bypassed(pod(), service(json!({"port": 8181, "protocol": "UDP"}))));
        let mut unmoved = pod();
        unmoved.spec.as_mut().unwrap().containers[0].ports.as_mut().unwrap()[0].container_port = 8181;
        assert!(is_bypassed(unmoved, service(json!({"port": 80, "targetPort": "http"}))));
    }

    #[test]
    fn it_is_named_with_the_remedy() {
        let pods = [Arc::new(example("a", true))];
        let mine = service(json!({"port": 8181}));
        let message = bypassed(&engine(), &pods, std::slice::from_ref(&mine)).unwrap().message;
        for part in ["Service mine", "8181", "targetPort", "use Service policy", "only read"] {
            assert!(message.contains(part), "{part} in {message}");
        }
        assert!(bypassed(&engine(), &[], std::slice::from_ref(&mine)).is_none(), "it leads to no agent");
        let mut own = mine.as_ref().clone();
        own.labels_mut().insert("app.kubernetes.io/managed-by".into(), "decree".into());
        own.labels_mut().insert("decree.dev/engine".into(), "policy".into());
        assert!(bypassed(&engine(), &pods, &[Arc::new(own)]).is_none());
        let mut applies = engine();
        applies.classes[0].mode = Mode::Apply { path: "/".into() };
        assert!(bypassed(&applies, &pods, &[mine]).is_none(), "there, the application's port is its own");
    }
}
