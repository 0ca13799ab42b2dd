//! What to tell in Events: what changed on the engine, and why a pod is not a good agent. Pure.

use std::sync::Arc;

use decree_crds::DecisionEngine;
use decree_crds::engine::status::DecisionEngineStatus;
use decree_wire::heartbeat::Trouble;
use decree_wire::pod;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::{Resource, ResourceExt};

use super::plan::agents;
use crate::detector::suspect::{AgentView, View};
use crate::events::Note;

/// An agent is given so long to be heard for the first time.
const HEARD_WITHIN: SignedDuration = SignedDuration::from_secs(30);
const USUAL: [&str; 3] = ["Ready", "Reconciling", "Stalled"];

/// Conditions that became true.
#[must_use]
pub fn changes(
    object: &DecisionEngine,
    previous: Option<&DecisionEngineStatus>,
    status: &DecisionEngineStatus,
) -> Vec<Note> {
    let holds = |status: &DecisionEngineStatus, type_: &str| {
        status.conditions.iter().any(|c| c.type_ == type_ && c.status == "True")
    };
    let before = |type_: &str| previous.is_some_and(|previous| holds(previous, type_));
    let is_new = |type_: &str| holds(status, type_) && !before(type_);
    let news = status.conditions.iter().filter(|c| is_new(&c.type_));
    news.filter_map(|condition| {
        let warning = !USUAL.contains(&condition.type_.as_str());
        (warning || condition.type_ == USUAL[0]).then(|| Note {
            about: object.object_ref(&()),
            warning,
            reason: condition.reason.clone(),
            message: condition.message.clone(),
        })
    })
    .collect()
}

/// What was done.
#[must_use]
pub fn deeds(object: &DecisionEngine, told: Vec<(&'static str, String)>) -> Vec<Note> {
    let note = |(reason, message): (&str, String)| Note {
        about: object.object_ref(&()),
        warning: false,
        reason: reason.into(),
        message,
    };
    told.into_iter().map(note).collect()
}

/// Why pods are not good agents: in the agent's own words, or without any, from the pod.
#[must_use]
pub fn pods(pods: &[Arc<Pod>], view: &View, now: Timestamp) -> Vec<Note> {
    agents(pods)
        .flat_map(|pod| {
            let agent = view.agents.get(&pod.uid().unwrap_or_default());
            why(pod, agent, now).into_iter().map(|Trouble { reason, message }| Note {
                about: pod.object_ref(&()),
                warning: true,
                reason,
                message,
            })
        })
        .collect()
}

fn why(pod: &Pod, agent: Option<&AgentView>, now: Timestamp) -> Vec<Trouble> {
    let trouble = |reason: &str, message: String| vec![Trouble { reason: reason.into(), message }];
    if !crate::care::pods::is_injected(pod) {
        return trouble(
            "NotInjected",
            format!(
                "the pod has the label {} and no container {}: it was made while the webhook was not there, or labelled \
                 afterwards; delete the pod, so that its controller makes it anew from a template with the label",
                decree_crds::labels::ENGINE,
                pod::CONTAINER
            ),
        );
    }
    let heartbeat = agent.and_then(|agent| agent.heartbeat.as_ref());
    match (agent, heartbeat) {
        // Also of an agent that is ready: one whose application is overdue stays so.
        (Some(agent), Some(_)) => agent.lasting.clone(),
        _ if started(pod).is_some_and(|at| now.duration_since(at) > HEARD_WITHIN) => trouble(
            "NotHeard",
            format!(
                "no heartbeat of this agent has come in {} s; see `kubectl logs {} -c {}`, and whether the pod reaches \
                 what orders: spec.kafka.bootstrapServers of its engine, or port 7073 of the other agents",
                HEARD_WITHIN.as_secs(),
                pod.name_any(),
                pod::CONTAINER
            ),
        ),
        _ => vec![],
    }
}

/// Since when the sidecar runs.
fn started(pod: &Pod) -> Option<Timestamp> {
    let containers = pod.status.as_ref()?.init_container_statuses.as_deref()?;
    let sidecar = containers.iter().find(|container| container.name == pod::CONTAINER)?;
    Some(sidecar.state.as_ref()?.running.as_ref()?.started_at.as_ref()?.0)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
    use serde_json::json;

    use super::*;

    fn status(types: &[(&str, &str)]) -> DecisionEngineStatus {
        let condition = |(type_, status): &(&str, &str)| Condition {
            type_: (*type_).into(),
            status: (*status).into(),
            reason: format!("{type_}Reason"),
            message: String::new(),
            observed_generation: None,
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        };
        DecisionEngineStatus {
            conditions: types.iter().map(condition).collect(),
            ..DecisionEngineStatus::default()
        }
    }

    fn engine() -> DecisionEngine {
        serde_json::from_value(json!({
            "apiVersion": "decree.dev/v1alpha1", "kind": "DecisionEngine",
            "metadata": {"name": "policy", "namespace": "shop", "uid": "u"},
            "spec": {"kafka": {"bootstrapServers": ["a:1"]}, "agents": []},
        }))
        .unwrap()
    }

    #[test]
    fn what_became_true_is_told_once() {
        let before = status(&[("Ready", "True")]);
        let after = status(&[("Ready", "False"), ("Stalled", "True"), ("TopicConflict", "True")]);
        let notes = changes(&engine(), Some(&before), &after);
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].warning && notes[0].reason == "TopicConflictReason");
        assert!(changes(&engine(), Some(&after), &after).is_empty());
        let healed = changes(&engine(), Some(&after), &before);
        assert!(matches!(healed.as_slice(), [note] if !note.warning && note.reason == "ReadyReason"));
    }

    #[test]
    fn a_pod_without_a_sidecar_or_a_word_is_explained() {
        let pod = |init: serde_json::Value| {
            let pod = json!({
                "metadata": {"name": "opa-1", "uid": "p"},
                "spec": {"containers": [], "initContainers": init},
                "status": {"initContainerStatuses": [{
                    "name": "decree", "image": "", "imageID": "", "ready": true, "restartCount": 0, "started": true,
                    "state": {"running": {"startedAt": "1970-01-01T00:00:00Z"}},
                }]},
            });
            [Arc::new(serde_json::from_value::<Pod>(pod).unwrap())]
        };
        let reasons = |pods_: &[Arc<Pod>], second| {
            let now = Timestamp::from_second(second).unwrap();
            let notes = pods(pods_, &View::default(), now);
            notes.into_iter().map(|note| note.reason).collect::<Vec<_>>()
        };
        assert_eq!(reasons(&pod(json!([])), 0), ["NotInjected"]);
        let injected = pod(json!([{"name": "decree"}]));
        assert!(reasons(&injected, 10).is_empty(), "it has just started");
        assert_eq!(reasons(&injected, 60), ["NotHeard"]);
    }
}
