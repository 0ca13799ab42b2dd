//! Step 5: the status, from what is known, whatever failed. Pure: `now` is an argument.

use std::collections::BTreeMap;

use decree_crds::group::status::{ConsensusGroupStatus, EngineStatus, MemberStatus, Role};
use decree_wire::group::{Genesis, MemberId};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::view::View;
use crate::engine::problem::{Alert, Cure, Problem};

const READY: &str = "Ready";
const QUORUM: &str = "Quorum";
const RECONCILING: &str = "Reconciling";
const STALLED: &str = "Stalled";

/// What a status is built from.
#[derive(Debug)]
pub struct Facts<'a> {
    /// What stands there now.
    pub previous: &'a ConsensusGroupStatus,
    /// The generation that was looked at.
    pub generation: Option<i64>,
    /// The engine that the group orders for.
    pub engine: Option<&'a EngineStatus>,
    /// How many voters are wanted.
    pub voters: usize,
    /// The group as its leader sees it, where there is one for certain; and how it began.
    pub led: Option<(&'a View<'a>, &'a Genesis)>,
    /// Why nothing can be ordered: in a word, and in words.
    pub no_quorum: Option<(&'static str, &'a str)>,
    /// Why the group is not ready.
    pub problems: &'a [Problem],
    /// What a person should know all the same.
    pub alerts: &'a [Alert],
    /// What is still being done.
    pub waiting: Option<&'a str>,
    /// Whether numbers may change: at most every 30 s.
    pub numbers: bool,
    /// The time.
    pub now: Timestamp,
}

/// The status as it should be. What it holds once and for all stays.
#[must_use]
pub fn status(facts: &Facts<'_>) -> ConsensusGroupStatus {
    let previous = facts.previous;
    let mut status = ConsensusGroupStatus {
        observed_generation: facts.generation,
        conditions: conditions(facts),
        leader: None,
        voters: Some(format!("0/{}", facts.voters)),
        ..previous.clone()
    };
    let Some((view, genesis)) = facts.led else { return status };
    status.leader = Some(view.pod.name.clone());
    status.term = Some(number(view.leader.term));
    let serving = view.voters().iter().filter(|id| view.serves(**id)).count();
    status.voters = Some(format!("{serving}/{}", facts.voters));
    let committed = view.leader.committed.map(|index| number(genesis.base.0.saturating_add(index)));
    if facts.numbers || previous.committed.is_none() {
        status.committed = committed.or(previous.committed);
    }
    // What is not certain yet may never have been.
    if view.membership.committed {
        status.members = members(view, genesis, facts);
    }
    status
}

fn members(view: &View<'_>, genesis: &Genesis, facts: &Facts<'_>) -> Vec<MemberStatus> {
    let before: BTreeMap<&str, &MemberStatus> =
        facts.previous.members.iter().map(|member| (member.id.as_str(), member)).collect();
    let voters = view.voters();
    let member = |(id, pod): (MemberId, &str)| {
        let name = id.to_string();
        let role = if voters.contains(&id) { Role::Voter } else { Role::Learner };
        let known = before.get(name.as_str()).filter(|_| !facts.numbers);
        let (matched, last_seen) = match known {
            Some(known) => (known.matched, known.last_seen.clone()),
            None => {
                let matched = view.matched(id).map(|index| number(genesis.base.0.saturating_add(index)));
                (matched, view.seen_ms(id).and_then(|ago| ago_of(ago, facts.now)))
            }
        };
        MemberStatus { id: name, pod: pod.to_owned(), role, matched, last_seen }
    };
    view.membership.members.iter().map(|(id, place)| member((*id, place.pod.as_str()))).collect()
}

fn ago_of(milliseconds: u64, now: Timestamp) -> Option<Time> {
    let seconds = i64::try_from(milliseconds / 1000).ok()?;
    let at = now.checked_sub(SignedDuration::from_secs(seconds)).ok()?;
    // The API holds whole seconds: what it would cut off would differ for ever.
    Timestamp::from_second(at.as_second()).ok().map(Time)
}

fn number(of: u64) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}

fn conditions(facts: &Facts<'_>) -> Vec<Condition> {
    let mut conditions = Vec::new();
    let mut put = |type_: &str, status: bool, reason: &str, message: String| {
        conditions.push(condition(facts, type_, status, reason, message));
    };
    let messages = || {
        let all: Vec<&str> = facts.problems.iter().map(|problem| problem.message.as_str()).collect();
        all.join("; ")
    };
    let stalled = facts.problems.iter().find(|problem| problem.cure == Cure::Person);
    match (stalled.or(facts.problems.first()), facts.engine) {
        (Some(problem), _) => {
            put(READY, false, problem.reason, messages());
            let type_ = if stalled.is_some() { STALLED } else { RECONCILING };
            put(type_, true, problem.reason, messages());
        }
        (None, engine) => {
            let engine = engine.map(|engine| engine.name.as_str()).unwrap_or_default();
            put(READY, true, "Bound", format!("the group orders for engine {engine}"));
            if let Some(waiting) = facts.waiting {
                put(RECONCILING, true, "Changing", waiting.to_owned());
            }
        }
    }
    match (facts.no_quorum, facts.led) {
        (Some((reason, message)), _) => put(QUORUM, false, reason, message.to_owned()),
        (None, Some((view, _))) => {
            put(QUORUM, true, "Led", format!("{} leads, and a quorum follows it", view.pod.name));
        }
        (None, None) => put(QUORUM, false, "Unknown", "nothing is known of the group's members".to_owned()),
    }
    for problem in facts.problems {
        put(problem.reason, true, problem.reason, problem.message.clone());
    }
    for alert in facts.alerts {
        put(alert.reason, true, alert.reason, alert.message.clone());
    }
    // A type may stand there once.
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

fn condition(facts: &Facts<'_>, type_: &str, status: bool, reason: &str, message: String) -> Condition {
    let status = if status { "True" } else { "False" };
    let before = facts.previous.conditions.iter().find(|c| c.type_ == type_ && c.status == status);
    Condition {
        type_: type_.into(),
        status: status.into(),
        reason: reason.into(),
        message,
        observed_generation: facts.generation,
        last_transition_time: before.map_or(Time(facts.now), |before| before.last_transition_time.clone()),
    }
}

/// The status with one condition beside those that are there.
#[must_use]
pub fn with(
    previous: &ConsensusGroupStatus,
    type_: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> ConsensusGroupStatus {
    let mut status = previous.clone();
    if status.conditions.iter().any(|c| c.type_ == type_ && c.message == message) {
        return status;
    }
    status.conditions.retain(|condition| condition.type_ != type_);
    status.conditions.push(Condition {
        type_: type_.into(),
        status: "True".into(),
        reason: type_.into(),
        message: message.into(),
        observed_generation: generation,
        last_transition_time: Time(now),
    });
    status.conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::plan::tests::group;

    fn facts<'a>(previous: &'a ConsensusGroupStatus, engine: &'a EngineStatus) -> Facts<'a> {
        Facts {
            previous,
            generation: Some(1),
            engine: Some(engine),
            voters: 3,
            led: None,
            no_quorum: None,
            problems: &[],
            alerts: &[],
            waiting: None,
            numbers: true,
            now: Timestamp::from_second(1000).unwrap(),
        }
    }

    fn brief(status: &ConsensusGroupStatus) -> Vec<(&str, &str, &str)> {
        status.conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str())).collect()
    }

    #[test]
    fn a_group_is_ready_when_an_engine_names_it_and_has_a_quorum_when_it_is_led() {
        let (none, engine) = (ConsensusGroupStatus::default(), EngineStatus::default());
        let unnamed = [Problem::time("NotNamed", "nobody names it".into())];
        let alone = Facts { problems: &unnamed, engine: None, ..facts(&none, &engine) };
        assert_eq!(
            brief(&status(&Facts { no_quorum: Some(("NotNamed", "nobody names it")), ..alone })),
            [
                ("NotNamed", "True", "NotNamed"),
                ("Quorum", "False", "NotNamed"),
                ("Ready", "False", "NotNamed"),
                ("Reconciling", "True", "NotNamed")
            ]
        );
        let empty = Facts { no_quorum: Some(("NoMembers", "no pod")), ..facts(&none, &engine) };
        assert_eq!(brief(&status(&empty)), [("Quorum", "False", "NoMembers"), ("Ready", "True", "Bound")]);
        let known = group(&[1, 2, 3], &[]);
        let genesis = known.genesis.as_ref().unwrap();
        let view = View::of(&known, genesis).unwrap();
        let led = status(&Facts { led: Some((&view, genesis)), ..facts(&none, &engine) });
        assert_eq!(brief(&led), [("Quorum", "True", "Led"), ("Ready", "True", "Bound")]);
        assert_eq!((led.leader.as_deref(), led.term, led.committed), (Some("opa-1"), Some(2), Some(5000)));
        assert_eq!((led.voters.as_deref(), led.members.len()), (Some("3/3"), 3));
        assert!(led.members.iter().all(|member| member.role == Role::Voter && member.matched == Some(5000)));
    }

    #[test]
    fn numbers_come_seldom_and_members_only_when_they_are_certain() {
        let (none, engine) = (ConsensusGroupStatus::default(), EngineStatus::default());
        let seen = |known: &crate::group::facts::Facts, previous: &ConsensusGroupStatus, numbers, second| {
            let genesis = known.genesis.as_ref().unwrap();
            let view = View::of(known, genesis).unwrap();
            let now = Timestamp::from_second(second).unwrap();
            status(&Facts { led: Some((&view, genesis)), numbers, now, ..facts(previous, &engine) })
        };
        let first = seen(&group(&[1, 2, 3], &[]), &none, true, 1000);
        let mut more = group(&[1, 2, 3], &[]);
        for pod in &mut more.pods {
            let answer = pod.answer.as_mut().unwrap();
            (answer.last, answer.committed) = (Some(6000), Some(6000));
        }
        assert_eq!(seen(&more, &first, false, 1010), first);
        assert_eq!(seen(&more, &first, true, 1030).committed, Some(6000));
        let mut uncertain = group(&[1, 2], &[3]);
        let membership = uncertain.pods[0].answer.as_mut().unwrap().membership.as_mut().unwrap();
        membership.committed = false;
        assert_eq!(seen(&uncertain, &first, true, 1030).members, first.members);
        let lost = status(&Facts { no_quorum: Some(("NoLeader", "none")), ..facts(&first, &engine) });
        assert_eq!((lost.leader.clone(), lost.voters.as_deref()), (None, Some("0/3")));
        assert_eq!((lost.members, lost.committed), (first.members, first.committed), "it is remembered");
    }
}
