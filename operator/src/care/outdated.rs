//! Agents that run with what the spec or the operator said before, and the level that all of them understand. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use decree_crds::DecisionEngine;
use decree_crds::engine::agents::Agent;
use decree_wire::PROTOCOL_LEVEL;
use k8s_openapi::api::core::v1::Pod;

use super::pods;
use crate::detector::suspect::{Liveness, View};
use crate::engine::problem::Alert;
use crate::inject::marks::Status;
use crate::inject::pinned::Pinned;
use crate::inject::sidecar::Sidecar;

/// The build of this operator, and of the sidecars that belong to it.
pub const BUILD: &str = env!("CARGO_PKG_VERSION");

/// The highest protocol level that every agent understands: nothing above it is written, to the log or to the document.
/// While one was not heard yet, as after each start of the operator, that is no more than what is `written` already.
#[must_use]
pub fn level(view: &View, all: &[Arc<Pod>], written: Option<u32>) -> u32 {
    let heartbeat = |uid: &String| view.agents.get(uid).and_then(|agent| agent.heartbeat.as_ref());
    let heard = view.agents.keys().filter_map(heartbeat).map(|heartbeat| heartbeat.level);
    let agents = all.iter().filter(|pod| !pods::has_ended(pod) && pods::is_injected(pod));
    let unheard = agents.filter(|pod| pod.metadata.uid.as_ref().and_then(heartbeat).is_none()).count() > 0;
    let written = written.filter(|_| unheard);
    heard.chain(written).min().unwrap_or(PROTOCOL_LEVEL).min(PROTOCOL_LEVEL)
}

/// Agents whose sidecar is of another build than the operator, or of a lower level.
#[must_use]
pub fn sidecars(view: &View) -> Option<Alert> {
    let live = view.agents.values().filter(|agent| agent.liveness == Liveness::Live);
    let mut others: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for agent in live {
        let Some(heartbeat) = &agent.heartbeat else { continue };
        if heartbeat.build != BUILD || heartbeat.level < PROTOCOL_LEVEL {
            let build = if heartbeat.build.is_empty() { "an unknown build" } else { &heartbeat.build };
            let build = format!("{build}, level {}", heartbeat.level);
            others.entry(build).or_default().push(&agent.pod);
        }
    }
    let named =
        |(build, names): (&String, &Vec<&str>)| format!("{} ({build})", pods::named(names.iter().copied()));
    (!others.is_empty()).then(|| Alert {
        reason: "SidecarsOutdated",
        message: format!(
            "sidecars of another build than the operator's {BUILD}, level {PROTOCOL_LEVEL}, run in: {}; restart these pods, \
             as with kubectl rollout restart, so that they get this one",
            others.iter().map(named).collect::<Vec<_>>().join(", ")
        ),
    })
}

/// Agents that were injected with other values of fields that take effect at a pod's next start.
#[must_use]
pub fn pods(object: &DecisionEngine, all: &[Arc<Pod>], installed: &Sidecar) -> Option<Alert> {
    let sidecar = installed.overlaid(&object.spec.sidecar);
    let mut outdated: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let running = all.iter().filter(|pod| !pods::is_ending(pod) && !pods::has_ended(pod));
    for pod in running {
        let Some(status) = Status::of(pod) else { continue };
        let agent = object.spec.agents.iter().find(|agent| agent.class == status.class);
        let (Some(agent), Some(was)) = (agent, &status.pinned) else { continue };
        let fields = was.differs(&now(agent, &status.application, &sidecar));
        if !fields.is_empty() {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            outdated.entry(fields.join(", ")).or_default().push(name);
        }
    }
    let named =
        |(fields, names): (&String, &Vec<&str>)| format!("{} ({fields})", pods::named(names.iter().copied()));
    (!outdated.is_empty()).then(|| Alert {
        reason: "PodsOutdated",
        message: format!(
            "these were made before fields changed that take effect at a pod's next start: {}; restart them, as with kubectl \
             rollout restart",
            outdated.iter().map(named).collect::<Vec<_>>().join("; ")
        ),
    })
}

fn now(agent: &Agent, application: &str, sidecar: &Sidecar) -> Pinned {
    Pinned::new(agent, agent.app.container.as_deref().unwrap_or(application), sidecar)
}

#[cfg(test)]
mod tests {
    use decree_crds::labels;
    use decree_wire::heartbeat::Heartbeat;
    use kube::ResourceExt;
    use serde_json::json;

    use super::*;
    use crate::detector::suspect::AgentView;

    fn heard(pod: &str, level: u32, build: &str) -> (String, AgentView) {
        let heartbeat: Heartbeat = serde_json::from_value(json!({
            "level": level, "pod": pod, "uid": pod, "class": "opa", "sequence": 0, "version": 1, "state": "Running",
            "ready": true, "build": build,
        }))
        .unwrap();
        let (name, class) = (pod.to_owned(), "opa".to_owned());
        let lasting = vec![];
        (
            pod.to_owned(),
            AgentView { pod: name, class, liveness: Liveness::Live, heartbeat: Some(heartbeat), lasting },
        )
    }

    fn view(agents: impl IntoIterator<Item = (String, AgentView)>) -> View {
        View { agents: agents.into_iter().collect(), ..View::default() }
    }

    #[test]
    fn nothing_above_the_lowest_level() {
        assert_eq!(level(&View::default(), &[], None), PROTOCOL_LEVEL);
        assert_eq!(level(&view([heard("a", PROTOCOL_LEVEL + 1, BUILD)]), &[], None), PROTOCOL_LEVEL);
        let mixed = view([heard("a", 0, BUILD), heard("b", PROTOCOL_LEVEL, BUILD)]);
        assert_eq!(level(&mixed, &[], None), 0);
        let unheard = [Arc::new(pods::example("c", true))];
        assert_eq!(level(&View::default(), &unheard, Some(0)), 0, "it may be of the level that was written");
        assert_eq!(level(&view([heard("uid-c", PROTOCOL_LEVEL, BUILD)]), &unheard, Some(0)), PROTOCOL_LEVEL);
    }

    #[test]
    fn sidecars_of_another_build_or_level_are_named() {
        assert_eq!(sidecars(&view([heard("a", PROTOCOL_LEVEL, BUILD)])), None);
        let others = view([
            heard("a", PROTOCOL_LEVEL, "0.0.9"),
            heard("b", PROTOCOL_LEVEL, BUILD),
            heard("c", 0, BUILD),
        ]);
        let message = sidecars(&others).unwrap().message;
        assert!(message.contains("a (0.0.9, level") && message.contains("c ("), "{message}");
        assert!(!message.contains("b ("), "{message}");
    }

    #[test]
    fn a_pod_that_was_made_with_another_port_is_named_with_the_field() {
        let object: DecisionEngine = serde_json::from_value(json!({
            "apiVersion": "decree.dev/v1alpha1", "kind": "DecisionEngine", "metadata": {"name": "policy"},
            "spec": {"kafka": {"bootstrapServers": ["k:1"]},
                     "agents": [{"class": "opa", "app": {"port": 8181}, "apply": {"path": "/"}}]},
        }))
        .unwrap();
        let sidecar = Sidecar::new("image:1");
        let made_with = |port: i32| {
            let mut agent = object.spec.agents[0].clone();
            agent.app.port = port;
            let status = json!({
                "operator": BUILD, "engine": "policy", "class": "opa", "application": "opa", "container": "decree",
                "image": "image:1", "volumes": [], "pinned": Pinned::new(&agent, "opa", &sidecar),
            });
            let mut pod = pods::example("a", true);
            pod.annotations_mut().insert(labels::STATUS.into(), status.to_string());
            [Arc::new(pod)]
        };
        assert_eq!(super::pods(&object, &made_with(8181), &sidecar), None);
        let message = super::pods(&object, &made_with(80), &sidecar).unwrap().message;
        assert!(message.contains("a (app.port)"), "{message}");
        let newer = Sidecar::new("image:2");
        let message = super::pods(&object, &made_with(8181), &newer).unwrap().message;
        assert!(message.contains("sidecar.image"), "{message}");
    }
}
