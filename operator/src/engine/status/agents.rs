//! The agents' part of the status: counted from pods, judged from heartbeats.

use std::collections::BTreeMap;
use std::sync::Arc;

use decree_crds::engine::status::{AgentsStatus, Digests, SlowestAgent};
use decree_wire::heartbeat::{Heartbeat, Trouble};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::care::pods;
use crate::detector::digests::Agreement;
use crate::detector::suspect::{AgentView, Liveness, View};
use crate::engine::plan;
use crate::engine::problem::Alert;

/// What is known of an engine's agents.
pub(super) struct Heard {
    pub(super) agents: AgentsStatus,
    pub(super) head: Option<i64>,
    pub(super) lag: Option<String>,
    pub(super) digests: Digests,
    pub(super) alerts: Vec<Alert>,
}

pub(super) fn agents(all: &[Arc<Pod>], view: &View, poisoned: &BTreeMap<String, Trouble>) -> Heard {
    let pods: BTreeMap<String, &Pod> =
        plan::agents(all).map(|pod| (pod.uid().unwrap_or_default(), pod)).collect();
    let views: Vec<&AgentView> =
        view.agents.iter().filter(|(uid, _)| pods.contains_key(*uid)).map(|(_, agent)| agent).collect();
    let live: Vec<&Heartbeat> = views
        .iter()
        .filter(|agent| agent.liveness == Liveness::Live)
        .filter_map(|agent| agent.heartbeat.as_ref())
        .collect();
    let total = count(pods.len());
    let ready = count(pods.values().filter(|pod| pods::is_ready(pod)).count());
    let suspect: Vec<&AgentView> =
        views.iter().copied().filter(|agent| agent.liveness == Liveness::Suspect).collect();
    let those = view.agents.iter().filter(|(uid, _)| pods.contains_key(*uid));
    // What the operator counted comes first: the sidecar knows of its own attempts only.
    let why = |uid: &String, agent: &AgentView| match poisoned.get(uid) {
        Some(trouble) => Some(Some(trouble.clone())),
        None => agent.halted().map(Option::<&Trouble>::cloned),
    };
    let halted: Vec<(&str, Option<Trouble>)> =
        those.filter_map(|(uid, agent)| Some((agent.pod.as_str(), why(uid, agent)?))).collect();
    let agents = AgentsStatus {
        summary: format!("{ready}/{total}"),
        total,
        ready,
        halted: count(halted.len()),
        suspect: count(suspect.len()),
        slowest: slowest(&live),
    };
    let diverged = view.agreement.iter().filter_map(|(class, agreement)| diverged(class, agreement));
    Heard {
        agents,
        head: live.iter().filter_map(|heartbeat| heartbeat.head).max().map(|head| number(head.0)),
        lag: live.iter().filter_map(|heartbeat| heartbeat.lag_ms).max().map(seconds),
        digests: digests(view),
        alerts: suspects(&suspect)
            .into_iter()
            .chain(halts(&halted))
            .chain(trimmed(&views))
            .chain(not_deterministic(&views))
            .chain(diverged)
            .collect(),
    }
}

fn slowest(live: &[&Heartbeat]) -> Option<SlowestAgent> {
    let positions = live.iter().filter_map(|heartbeat| Some((heartbeat.position?, &heartbeat.pod)));
    positions.min().map(|(position, pod)| SlowestAgent { pod: pod.clone(), position: number(position.0) })
}

fn suspects(suspect: &[&AgentView]) -> Option<Alert> {
    (!suspect.is_empty()).then(|| Alert {
        reason: "AgentSuspect",
        message: format!(
            "not heard of while others are: {}; see the pods and their nodes",
            pods::named(suspect.iter().map(|agent| agent.pod.as_str()))
        ),
    })
}

fn halts(halted: &[(&str, Option<Trouble>)]) -> Option<Alert> {
    let say = |(pod, why): &(&str, Option<Trouble>)| {
        let said = |trouble: &Trouble| format!("{}: {}", trouble.reason, trouble.message);
        format!("{pod} ({})", why.as_ref().map_or_else(|| "it does not say why".into(), said))
    };
    (!halted.is_empty()).then(|| Alert {
        reason: "AgentHalted",
        message: format!(
            "halted: {}",
            pods::named(halted.iter().map(say).collect::<Vec<_>>().iter().map(String::as_str))
        ),
    })
}

/// The log lacks what these agents need next: a halted one, or one that starts and would need the log's start.
fn trimmed(views: &[&AgentView]) -> Option<Alert> {
    let trimmed = |agent: &&AgentView| {
        let mut troubles = agent.heartbeat.iter().flat_map(|heartbeat| &heartbeat.troubles);
        let why = troubles.find(|trouble| trouble.reason == "LogTrimmed")?;
        Some(format!("{} ({})", agent.pod, why.message))
    };
    let trimmed: Vec<String> = views.iter().filter_map(trimmed).collect();
    (!trimmed.is_empty()).then(|| Alert {
        reason: "LogTrimmed",
        message: format!(
            "the log was trimmed past what agents need, and they don't go on behind the gap: {}; agents that follow go on. \
             Keep the topic from being trimmed (retention.ms and retention.bytes -1, no kafka-delete-records); new pods need \
             a new engine",
            pods::named(trimmed.iter().map(String::as_str))
        ),
    })
}

/// An application that was rebuilt and answered otherwise than before differs from itself.
fn not_deterministic(views: &[&AgentView]) -> Option<Alert> {
    let says = |agent: &&AgentView| {
        let mut troubles = agent.heartbeat.iter().flat_map(|heartbeat| &heartbeat.troubles);
        let why = troubles.find(|trouble| trouble.reason == "NotDeterministic")?;
        Some(format!("{} ({})", agent.pod, why.message))
    };
    let those: Vec<String> = views.iter().filter_map(says).collect();
    (!those.is_empty()).then(|| Alert {
        reason: "Diverged",
        message: format!(
            "agents that were rebuilt differ from what they were: {}",
            pods::named(those.iter().map(String::as_str))
        ),
    })
}

fn diverged(class: &str, agreement: &Agreement) -> Option<Alert> {
    let Agreement::Diverged { position, groups } = agreement else { return None };
    let group = |(hash, pods): &(String, Vec<String>)| {
        format!("{} has {}", pods::named(pods.iter().map(String::as_str)), hash.get(..8).unwrap_or(hash))
    };
    let groups: Vec<String> = groups.iter().map(group).collect();
    Some(Alert {
        reason: "Diverged",
        message: format!(
            "agents of class {class} gave different outcomes at or before position {position}: {}; the application is not \
             deterministic, or its state was changed past the log",
            groups.join(", ")
        ),
    })
}

fn digests(view: &View) -> Digests {
    let all = || view.agreement.values();
    if all().any(|agreement| matches!(agreement, Agreement::Diverged { .. })) {
        Digests::Diverged
    } else if all().any(|agreement| *agreement == Agreement::Equal) {
        Digests::Equal
    } else {
        Digests::Unknown
    }
}

fn count(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn seconds(milliseconds: u64) -> String {
    format!("{}.{}s", milliseconds / 1000, milliseconds % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use decree_wire::heartbeat::State;
    use decree_wire::position::Position;
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, ready: bool) -> Arc<Pod> {
        let pod = json!({
            "metadata": {"name": format!("opa-{uid}"), "uid": uid},
            "spec": {"containers": [], "initContainers": [{"name": "decree"}]},
            "status": {"conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
        });
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn agent(uid: &str, liveness: Liveness, position: u64, lag_ms: u64) -> (String, AgentView) {
        let heartbeat = Heartbeat {
            level: 1,
            pod: format!("opa-{uid}"),
            uid: uid.into(),
            class: "opa".into(),
            sequence: 0,
            incarnation: None,
            position: Some(Position(position)),
            head: Some(Position(10)),
            lag: None,
            lag_ms: Some(lag_ms),
            digest: None,
            version: 1,
            state: State::Running,
            ready: true,
            troubles: vec![],
            calls_for: None,
            in_doubt: None,
            rebuild: None,
            build: String::new(),
        };
        let (pod, class) = (heartbeat.pod.clone(), heartbeat.class.clone());
        (uid.into(), AgentView { pod, class, liveness, heartbeat: Some(heartbeat), lasting: vec![] })
    }

    #[test]
    fn an_agent_that_answers_otherwise_than_before_its_rebuild_has_diverged() {
        let (uid, mut differs) = agent("a", Liveness::Live, 9, 0);
        if let Some(heartbeat) = &mut differs.heartbeat {
            let message = "it did not give the answers that it gave before".into();
            heartbeat.troubles = vec![Trouble { reason: "NotDeterministic".into(), message }];
        }
        let heard = agents(
            &[pod("a", true)],
            &View { agents: [(uid, differs)].into(), ..View::default() },
            &BTreeMap::new(),
        );
        assert_eq!(heard.alerts[0].reason, "Diverged");
        assert!(heard.alerts[0].message.contains("opa-a (it did not give"), "{}", heard.alerts[0].message);
    }

    #[test]
    fn the_silent_are_named_and_their_numbers_do_not_count() {
        let pods = [pod("a", true), pod("b", false)];
        let view = View {
            agents: [agent("a", Liveness::Live, 9, 250), agent("b", Liveness::Suspect, 1, 9000)].into(),
            ..View::default()
        };
        let heard = agents(&pods, &view, &BTreeMap::new());
        assert_eq!(heard.agents.summary, "1/2");
        assert_eq!(heard.agents.suspect, 1);
        assert_eq!(heard.agents.slowest.unwrap().position, 9);
        assert_eq!((heard.head, heard.lag.as_deref()), (Some(10), Some("0.2s")));
        assert_eq!(heard.alerts[0].reason, "AgentSuspect");
        assert!(heard.alerts[0].message.contains("opa-b"));
        assert_eq!(heard.digests, Digests::Unknown);
    }

    #[test]
    fn an_agent_behind_a_trimmed_log_is_named_as_such() {
        let (uid, mut behind) = agent("a", Liveness::Live, 4, 0);
        let why = Trouble { reason: "LogTrimmed".into(), message: "it begins at 9".into() };
        behind.heartbeat.as_mut().unwrap().troubles = vec![why];
        let other = agent("b", Liveness::Live, 9, 0);
        let view = View { agents: [(uid, behind), other].into(), ..View::default() };
        let heard = agents(&[pod("a", false), pod("b", true)], &view, &BTreeMap::new());
        let [alert] = &heard.alerts[..] else { panic!("one alert, not {:?}", heard.alerts) };
        assert_eq!(alert.reason, "LogTrimmed");
        assert!(alert.message.contains("opa-a (it begins at 9)") && !alert.message.contains("opa-b"));
    }

    #[test]
    fn a_halted_agent_is_named_with_its_reason() {
        let (uid, mut halted) = agent("a", Liveness::Live, 4, 0);
        let heartbeat = halted.heartbeat.as_mut().unwrap();
        heartbeat.state = State::Halted;
        heartbeat.troubles = vec![Trouble { reason: "InDoubt".into(), message: "restart the pod".into() }];
        let heard = agents(
            &[pod("a", false)],
            &View { agents: [(uid, halted)].into(), ..View::default() },
            &BTreeMap::new(),
        );
        assert_eq!(heard.agents.halted, 1);
        assert_eq!(heard.alerts[0].message, "halted: opa-a (InDoubt: restart the pod)");
    }

    #[test]
    fn one_whose_predecessors_died_of_the_same_command_is_halted_too() {
        let view = View { agents: [agent("a", Liveness::Live, 4, 0)].into(), ..View::default() };
        let why = Trouble { reason: "Poisoned".into(), message: "position 5".into() };
        let heard = agents(&[pod("a", false)], &view, &[("a".into(), why.clone())].into());
        assert_eq!(heard.agents.halted, 1);
        assert_eq!(
            (heard.alerts[0].reason, heard.alerts[0].message.as_str()),
            ("AgentHalted", "halted: opa-a (Poisoned: position 5)")
        );
        assert_eq!(agents(&[], &view, &[("a".into(), why)].into()).agents.halted, 0, "it is gone");
    }

    #[test]
    fn one_class_that_differs_is_diverged() {
        let groups = vec![("aaaaaaaaaa".into(), vec!["x".into()]), ("b".into(), vec!["y".into()])];
        let agreement = [
            ("one".into(), Agreement::Equal),
            ("two".into(), Agreement::Diverged { position: Position(7), groups }),
        ];
        let heard = agents(&[], &View { agreement: agreement.into(), ..View::default() }, &BTreeMap::new());
        assert_eq!(heard.digests, Digests::Diverged);
        assert!(heard.alerts[0].message.contains("class two"));
        assert!(heard.alerts[0].message.contains("x has aaaaaaaa, y has b"));
    }
}
