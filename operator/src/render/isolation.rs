//! The NetworkPolicy that closes the application's own port: who can't reach it can't go around the log.

use std::collections::BTreeSet;

use decree_crds::labels;
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::metadata;
use crate::care::pods::selector;
use crate::spec::{Class, Engine};

/// The policy, which closes the class's port and `others`. Policies only allow: so it allows every port but these. The
/// kubelet's probes come from the node, which no policy keeps out.
#[must_use]
pub fn isolation(engine: &Engine, class: &Class, others: &BTreeSet<u16>) -> NetworkPolicy {
    let last = u16::MAX;
    let mut ports = vec![];
    let mut closed = others.clone();
    closed.insert(class.port);
    let mut from = Some(1);
    for port in closed {
        ports.extend(from.filter(|from| *from < port).map(|from| range("TCP", from, port - 1)));
        from = port.checked_add(1);
    }
    ports.extend(from.map(|from| range("TCP", from, last)));
    ports.extend([range("UDP", 1, last), range("SCTP", 1, last)]);
    NetworkPolicy {
        metadata: metadata(engine, &labels::class_object(&engine.name.name, &class.name)),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector(engine, class)),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![NetworkPolicyIngressRule { from: None, ports: Some(ports) }]),
            egress: None,
        }),
    }
}

fn range(protocol: &str, from: u16, to: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(from.into())),
        end_port: (to > from).then(|| to.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::example;

    fn allows(policy: &NetworkPolicy, port: i32) -> bool {
        let ingress = policy.spec.as_ref().unwrap().ingress.as_ref().unwrap();
        ingress[0].ports.iter().flatten().filter(|each| each.protocol.as_deref() == Some("TCP")).any(|each| {
            let Some(IntOrString::Int(from)) = each.port else { return false };
            (from..=each.end_port.unwrap_or(from)).contains(&port)
        })
    }

    #[test]
    fn every_port_but_the_applications() {
        let engine = example();
        for (port, old) in [(1, 1), (2, 1), (8181, 65535), (65534, 65533), (65535, 65534), (8181, 8180)] {
            let class = Class { port, ..engine.classes[0].clone() };
            let policy = isolation(&engine, &class, &BTreeSet::from([old]));
            for other in [1, 2, 3, 7071, 7072, 7073, 8180, 8181, 8182, 65533, 65534, 65535] {
                assert_eq!(
                    allows(&policy, other),
                    other != i32::from(port) && other != i32::from(old),
                    "{other} where {port} and {old} are closed"
                );
            }
        }
    }
}
