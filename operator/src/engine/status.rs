//! Step 5: the status, from what is known, whatever failed. Pure: `now` is an argument.

mod agents;

use std::collections::BTreeMap;
use std::sync::Arc;

use decree_crds::engine::status::{DecisionEngineStatus, LogStatus, TopicStatus};
use decree_wire::heartbeat::Trouble;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::problem::{Alert, Cure, Problem};
use crate::detector::suspect::View;

const READY: &str = "Ready";
const RECONCILING: &str = "Reconciling";
const STALLED: &str = "Stalled";
const PROVISIONED: &str = "Provisioned";
const PROVISIONING: &str = "Provisioning";

/// What a status is built from.
#[derive(Debug)]
pub struct Facts<'a> {
    /// What stands there now.
    pub previous: Option<&'a DecisionEngineStatus>,
    /// The generation that was looked at.
    pub generation: Option<i64>,
    /// Why the engine is not ready.
    pub problems: &'a [Problem],
    /// What a person should know all the same.
    pub alerts: &'a [Alert],
    /// What is still being done.
    pub waiting: Option<&'static str>,
    /// What makes the order, in a word.
    pub order: &'static str,
    /// The log that is the engine's.
    pub topic: Option<TopicStatus>,
    /// The same of a group.
    pub log: Option<LogStatus>,
    /// Its pods.
    pub pods: &'a [Arc<Pod>],
    /// What is heard of them.
    pub view: &'a View,
    /// Agents that are halted though they can't know it, by uid, and why.
    pub poisoned: &'a BTreeMap<String, Trouble>,
    /// Whether numbers may change: at most every 30 s.
    pub numbers: bool,
    /// The time for `lastTransitionTime`.
    pub now: Timestamp,
}

/// The status as it should be.
#[must_use]
pub fn status(facts: &Facts<'_>) -> DecisionEngineStatus {
    let heard = agents::agents(facts.pods, facts.view, facts.poisoned);
    let none = DecisionEngineStatus::default();
    let previous = facts.previous.unwrap_or(&none);
    let mut counted = heard.agents;
    let (mut head, mut lag) = (heard.head.or(previous.head), heard.lag);
    if !facts.numbers {
        head = previous.head;
        lag = previous.lag.clone();
        counted.slowest = previous.agents.as_ref().and_then(|agents| agents.slowest.clone());
    }
    DecisionEngineStatus {
        observed_generation: facts.generation,
        conditions: conditions(facts, previous, &heard.alerts),
        topic: facts.topic.clone(),
        log: facts.log.clone(),
        order: Some(facts.order.into()),
        head,
        agents: Some(counted),
        lag,
        digests: Some(heard.digests),
    }
}

fn conditions(facts: &Facts<'_>, previous: &DecisionEngineStatus, heard: &[Alert]) -> Vec<Condition> {
    let mut conditions = Vec::new();
    let mut put = |type_: &str, status: bool, reason: &str, message: String| {
        conditions.push(condition(facts, previous, type_, status, reason, message));
    };
    let messages = || {
        let all: Vec<&str> = facts.problems.iter().map(|problem| problem.message.as_str()).collect();
        all.join("; ")
    };
    let stalled = facts.problems.iter().find(|problem| problem.cure == Cure::Person);
    match (stalled.or(facts.problems.first()), facts.waiting) {
        (Some(problem), _) => {
            put(READY, false, problem.reason, messages());
            let type_ = if stalled.is_some() { STALLED } else { RECONCILING };
            put(type_, true, problem.reason, messages());
        }
        // What is done to a provisioned engine does not make it less so.
        (None, Some(waiting)) => {
            let was = previous.conditions.iter().find(|c| c.type_ == READY && c.status == "True");
            match was {
                Some(was) => put(READY, true, &was.reason, was.message.clone()),
                None => put(READY, false, PROVISIONING, waiting.into()),
            }
            put(RECONCILING, true, PROVISIONING, waiting.into());
        }
        (None, None) => {
            let message = "the log, its settings entry, the sidecars' document and the Services are in place";
            put(READY, true, PROVISIONED, message.into());
        }
    }
    for problem in facts.problems {
        put(problem.reason, true, problem.reason, problem.message.clone());
    }
    for alert in facts.alerts.iter().chain(heard) {
        put(alert.reason, true, alert.reason, alert.message.clone());
    }
    // A type may stand there once: two problems of one kind were joined by `Ready` already.
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    conditions.dedup_by(|later, first| {
        let same = later.type_ == first.type_;
        if same {
            first.message = format!("{}; {}", first.message, later.message);
        }
        same
    });
    conditions
}

fn condition(
    facts: &Facts<'_>,
    previous: &DecisionEngineStatus,
    type_: &str,
    status: bool,
    reason: &str,
    message: String,
) -> Condition {
    let status = if status { "True" } else { "False" };
    let before = previous.conditions.iter().find(|c| c.type_ == type_ && c.status == status);
    Condition {
        type_: type_.into(),
        status: status.into(),
        reason: reason.into(),
        message,
        observed_generation: facts.generation,
        last_transition_time: before.map_or(Time(facts.now), |before| before.last_transition_time.clone()),
    }
}

/// Whether the engine is provisioned, as this status has it.
#[must_use]
pub fn is_ready(status: &DecisionEngineStatus) -> bool {
    status.conditions.iter().any(|c| c.type_ == READY && c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    static NONE: BTreeMap<String, Trouble> = BTreeMap::new();

    fn facts<'a>(previous: Option<&'a DecisionEngineStatus>, view: &'a View) -> Facts<'a> {
        Facts {
            previous,
            generation: Some(2),
            problems: &[],
            alerts: &[],
            waiting: None,
            order: "kafka",
            topic: None,
            log: None,
            pods: &[],
            view,
            poisoned: &NONE,
            numbers: true,
            now: Timestamp::from_second(1000).unwrap(),
        }
    }

    fn brief(status: &DecisionEngineStatus) -> Vec<(&str, &str, &str)> {
        status.conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str())).collect()
    }

    #[test]
    fn as_kstatus_reads_it() {
        let view = View::default();
        let ready = status(&facts(None, &view));
        assert_eq!(brief(&ready), [("Ready", "True", "Provisioned")]);
        assert_eq!(ready.agents.as_ref().unwrap().summary, "0/0");

        let away = [Problem::time("KafkaUnreachable", "away".into())];
        let unreachable = status(&Facts { problems: &away, ..facts(Some(&ready), &view) });
        assert_eq!(
            brief(&unreachable),
            [
                ("KafkaUnreachable", "True", "KafkaUnreachable"),
                ("Ready", "False", "KafkaUnreachable"),
                ("Reconciling", "True", "KafkaUnreachable")
            ]
        );
        let conflict = [away[0].clone(), Problem::person("TopicConflict", "two".into())];
        let stalled = status(&Facts { problems: &conflict, ..facts(Some(&ready), &view) });
        assert_eq!(
            brief(&stalled),
            [
                ("KafkaUnreachable", "True", "KafkaUnreachable"),
                ("Ready", "False", "TopicConflict"),
                ("Stalled", "True", "TopicConflict"),
                ("TopicConflict", "True", "TopicConflict")
            ]
        );
    }

    #[test]
    fn work_on_a_provisioned_engine_leaves_it_ready() {
        let view = View::default();
        let first = status(&Facts { waiting: Some("at work"), ..facts(None, &view) });
        assert_eq!(
            brief(&first),
            [("Ready", "False", "Provisioning"), ("Reconciling", "True", "Provisioning")]
        );
        let ready = status(&facts(Some(&first), &view));
        let again = status(&Facts { waiting: Some("at work"), ..facts(Some(&ready), &view) });
        assert_eq!(
            brief(&again),
            [("Ready", "True", "Provisioned"), ("Reconciling", "True", "Provisioning")]
        );
    }

    #[test]
    fn the_same_facts_later_give_the_same_status() {
        let view = View::default();
        let first = status(&facts(None, &view));
        let later = Timestamp::from_second(2000).unwrap();
        assert_eq!(status(&Facts { now: later, ..facts(Some(&first), &view) }), first);
        let away = [Problem::time("KafkaUnreachable", "away".into())];
        let changed = status(&Facts { now: later, problems: &away, ..facts(Some(&first), &view) });
        assert!(changed.conditions.iter().all(|c| c.last_transition_time.0 == later));
    }
}
