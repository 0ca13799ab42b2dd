//! Ports by name: those that led to the application lead to the sidecar afterwards, and its own probes still to it.

use k8s_openapi::api::core::v1::{Container, ContainerPort, HTTPGetAction, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Which of the application's port entries get the sidecar's number: those by which traffic comes from outside, by name
/// (a Service, a policy) or through the node (`hostPort`). By an entry with neither nothing is routed.
pub fn moved(application: &Container, port: i32) -> impl Iterator<Item = (usize, &ContainerPort)> {
    let ports = application.ports.iter().flatten().enumerate();
    ports.filter(move |(_, entry)| {
        entry.container_port == port
            && matches!(entry.protocol.as_deref(), None | Some("TCP"))
            && (entry.name.is_some() || entry.host_port.is_some_and(|port| port != 0))
    })
}

/// Where, inside the application's container, a probe or a hook names a port that is moved: each is to get the number.
#[must_use]
pub fn references(application: &Container, port: i32) -> Vec<Vec<&'static str>> {
    let mut found = Found { application, port, paths: Vec::new() };
    let probes = [
        ("livenessProbe", &application.liveness_probe),
        ("readinessProbe", &application.readiness_probe),
        ("startupProbe", &application.startup_probe),
    ];
    for (key, probe) in probes {
        let Some(probe) = probe else { continue };
        found.look(&[key], probe.http_get.as_ref(), probe.tcp_socket.as_ref());
    }
    let hooks = application.lifecycle.as_ref();
    let hooks = [
        ("postStart", hooks.and_then(|hooks| hooks.post_start.as_ref())),
        ("preStop", hooks.and_then(|hooks| hooks.pre_stop.as_ref())),
    ];
    for (key, hook) in hooks {
        let Some(hook) = hook else { continue };
        found.look(&["lifecycle", key], hook.http_get.as_ref(), hook.tcp_socket.as_ref());
    }
    found.paths
}

struct Found<'a> {
    application: &'a Container,
    port: i32,
    paths: Vec<Vec<&'static str>>,
}

impl Found<'_> {
    fn look(&mut self, at: &[&'static str], get: Option<&HTTPGetAction>, socket: Option<&TCPSocketAction>) {
        if get.is_some_and(|get| self.is_moved(&get.port)) {
            self.paths.push([at, &["httpGet", "port"]].concat());
        }
        if socket.is_some_and(|socket| self.is_moved(&socket.port)) {
            self.paths.push([at, &["tcpSocket", "port"]].concat());
        }
    }

    fn is_moved(&self, reference: &IntOrString) -> bool {
        let IntOrString::String(name) = reference else { return false };
        moved(self.application, self.port).any(|(_, entry)| entry.name.as_ref() == Some(name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn application() -> Container {
        serde_json::from_value(json!({
            "name": "app",
            "ports": [
                {"name": "http", "containerPort": 8181},
                {"name": "dns", "containerPort": 8181, "protocol": "UDP"},
                {"name": "metrics", "containerPort": 9090},
                {"containerPort": 8181},
                {"containerPort": 8181, "hostPort": 80, "protocol": "TCP"}
            ],
            "readinessProbe": {"httpGet": {"port": "http"}},
            "startupProbe": {"tcpSocket": {"port": "metrics"}},
            "livenessProbe": {"httpGet": {"port": 8181}},
            "lifecycle": {
                "postStart": {"httpGet": {"port": "http"}},
                "preStop": {"tcpSocket": {"port": "http"}}
            }
        }))
        .unwrap()
    }

    #[test]
    fn what_leads_in_is_moved_and_nothing_else() {
        let indices: Vec<_> = moved(&application(), 8181).map(|(index, _)| index).collect();
        assert_eq!(indices, [0, 4]);
    }

    #[test]
    fn only_names_of_moved_ports_are_rewritten() {
        assert_eq!(
            references(&application(), 8181),
            [
                vec!["readinessProbe", "httpGet", "port"],
                vec!["lifecycle", "postStart", "httpGet", "port"],
                vec!["lifecycle", "preStop", "tcpSocket", "port"],
            ]
        );
    }
}
