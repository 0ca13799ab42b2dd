//! Which pod is evicted next, if any, and why each other one that should be still waits. Pure: `now` is an argument.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use decree_wire::heartbeat::{CallsFor, Heartbeat, State, Trouble};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;

use super::memory::{Awaited, Memory};
use super::pods;
use super::poison::Doubt;
use crate::detector::suspect::{AgentView, Liveness, View};
use crate::spec::{Class, Engine};

/// Why a pod has to be made anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// In words for a person.
    pub why: String,
    /// It has no sidecar.
    pub bare: bool,
    /// The delivery that it comes from; none where it is something else.
    pub doubt: Option<Doubt>,
}

/// A pod that may be evicted now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// Its name.
    pub pod: String,
    /// Its uid: this one and no other of that name.
    pub uid: String,
    /// Its controller's uid.
    pub owner: String,
    /// Its controller, by kind and name.
    pub owned_by: String,
    /// Its class.
    pub class: String,
    /// Why.
    pub cause: Cause,
}

/// A pod that waits for its eviction, or can't have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outstanding {
    /// Its name.
    pub pod: String,
    /// Its uid.
    pub uid: String,
    /// Why it has to be evicted.
    pub cause: Cause,
    /// What stands in the way; none where it is its turn.
    pub hindrance: Option<String>,
}

/// What to do about an engine's pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// One step: all is looked at anew after it.
    pub next: Option<Eviction>,
    /// All that should be evicted.
    pub outstanding: Vec<Outstanding>,
    /// When a back-off ends.
    pub again: Option<Duration>,
    /// Agents for which no more is tried, by uid, and why.
    pub poisoned: BTreeMap<String, Trouble>,
}

/// Agents that say that only a new pod helps them, by uid. Only who is heard now counts: what somebody said before it
/// fell silent may have passed.
#[must_use]
pub fn called(view: &View) -> BTreeMap<String, Cause> {
    let live = view.agents.iter().filter(|(_, agent)| agent.liveness == Liveness::Live);
    live.filter_map(|(uid, agent)| Some((uid.clone(), cause(agent)?))).collect()
}

/// Agents that stand at the end of a log that a person gave up, by uid: built anew they begin with the one that took its
/// place.
#[must_use]
pub fn stranded(view: &View, log: Option<&str>) -> BTreeMap<String, Cause> {
    let halted = view.agents.iter().filter_map(|(uid, agent)| Some((uid, agent.heartbeat.as_ref()?)));
    let elsewhere = |heartbeat: &Heartbeat| {
        let replaced = heartbeat.troubles.iter().any(|trouble| trouble.reason == "LogReplaced");
        let follows = heartbeat.incarnation.as_ref().map(|incarnation| incarnation.0.as_str());
        heartbeat.state == State::Halted && replaced && follows.is_some() && log.is_some() && follows != log
    };
    let halted = halted.filter(|(_, heartbeat)| elsewhere(heartbeat));
    let why = "it followed a log that was given up, and is built anew from the one in its place";
    halted.map(|(uid, _)| (uid.clone(), Cause { why: why.to_owned(), bare: false, doubt: None })).collect()
}

fn cause(agent: &AgentView) -> Option<Cause> {
    let heartbeat = agent.heartbeat.as_ref()?;
    match heartbeat.calls_for? {
        CallsFor::ContainerRestart => None,
        CallsFor::Eviction => {
            let trouble = heartbeat.troubles.first();
            let why = trouble.map_or_else(
                || "its application's state is not known".to_owned(),
                |trouble| format!("{}: {}", trouble.reason, trouble.message),
            );
            Some(Cause { why, bare: false, doubt: Doubt::of(agent) })
        }
    }
}

/// Decides; `causes` are by pods' uids.
#[must_use]
pub fn decide(
    engine: &Engine,
    all: &[Arc<Pod>],
    causes: &BTreeMap<String, Cause>,
    memory: &Memory,
    now: Instant,
) -> Decision {
    let mut decision = Decision::default();
    for class in &engine.classes {
        let of_class = all.iter().map(AsRef::as_ref).filter(|pod| {
            !pods::has_ended(pod) && pods::class(pod, engine).is_some_and(|of| of.name == class.name)
        });
        let of_class: Vec<&Pod> = of_class.collect();
        decide_class(engine, class, &of_class, causes, memory, now, &mut decision);
    }
    decision
}

fn decide_class(
    engine: &Engine,
    class: &Class,
    all: &[&Pod],
    causes: &BTreeMap<String, Cause>,
    memory: &Memory,
    now: Instant,
    decision: &mut Decision,
) {
    let calls = |pod: &Pod| causes.get(&uid(pod)).filter(|_| !pods::is_ending(pod));
    let going = |pod: &Pod| pods::is_ending(pod) || memory.was_evicted(&uid(pod), now);
    // A pod without a sidecar never was an agent: that it is away, nobody misses.
    let missed =
        |pod: &&&Pod| going(pod) || (calls(pod).is_none() && pods::is_injected(pod) && !pods::is_ready(pod));
    let missed: Vec<&str> =
        all.iter().filter(missed).filter_map(|pod| pod.metadata.name.as_deref()).collect();
    let gone: Vec<&Awaited> = memory.missing(&class.name, all).collect();
    let full =
        (missed.len() + gone.len() >= engine.max_unavailable).then(|| full(engine, class, &missed, &gone));
    let mut calling: Vec<&Pod> =
        all.iter().copied().filter(|pod| calls(pod).is_some() && !going(pod)).collect();
    // Agents first: what has no sidecar does not hold up the log.
    calling.sort_by_key(|pod| (calls(pod).is_some_and(|cause| cause.bare), pod.name_any()));
    for pod in calling {
        let Some(cause) = calls(pod).cloned() else { continue };
        let (uid, name) = (uid(pod), pod.name_any());
        let hindrance = match hindrance(pod, &uid, memory, now) {
            Err(Hindrance { why, again }) => {
                decision.again = [decision.again, again].into_iter().flatten().min();
                Some(why)
            }
            Ok(of) => match &full {
                Some(full) => Some(full.clone()),
                None if decision.next.is_some() => Some("waits for another one's turn to end".to_owned()),
                None => {
                    let (pod, uid, cause) = (name.clone(), uid.clone(), cause.clone());
                    let (owner, owned_by) = (of.uid.clone(), format!("{} {}", of.kind, of.name));
                    let class = class.name.clone();
                    decision.next = Some(Eviction { pod, uid, owner, owned_by, class, cause });
                    None
                }
            },
        };
        decision.outstanding.push(Outstanding { pod: name, uid, cause, hindrance });
    }
}

/// Why nobody of this class may go: who is away, and what a person can do where nobody comes in its place.
fn full(engine: &Engine, class: &Class, missed: &[&str], gone: &[&Awaited]) -> String {
    let mut why = format!(
        "waits until more agents of class {} are ready, since no more than {} may be away at once \
         (spec.failureDetection.restart.maxUnavailable)",
        class.name, engine.max_unavailable
    );
    if !missed.is_empty() {
        why += &format!(" and these are: {}", pods::named(missed.iter().copied()));
    }
    if !gone.is_empty() {
        let owners = pods::named(gone.iter().map(|gone| gone.owner.as_str()));
        why += &format!(
            "; {} was evicted, and no agent has come in its place: see why {owners} makes none (kubectl describe names a \
             quota or a webhook that refuses); any new agent of the class ends this",
            pods::named(gone.iter().map(|gone| gone.pod.as_str()))
        );
    }
    why
}

struct Hindrance {
    why: String,
    again: Option<Duration>,
}

/// What stands in the way of this pod alone; else its owner.
fn hindrance<'a>(
    pod: &'a Pod,
    uid: &str,
    memory: &Memory,
    now: Instant,
) -> Result<&'a OwnerReference, Hindrance> {
    let Some(owner) = pods::owner(pod) else {
        let why = "no controller owns it, so nobody would make it anew: delete it, and create it again";
        return Err(Hindrance { why: why.to_owned(), again: None });
    };
    if let Some((Some(left), why)) = memory.refusal(uid, now) {
        return Err(Hindrance { why: why.to_owned(), again: Some(left) });
    }
    if let Some(left) = memory.left(&owner.uid, now) {
        let why = format!("waits because another pod of {} {} was evicted lately", owner.kind, owner.name);
        return Err(Hindrance { why, again: Some(left) });
    }
    Ok(owner)
}

fn uid(pod: &Pod) -> String {
    pod.uid().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::pods::example;
    use super::*;
    use crate::spec::example as engine;

    fn causes(names: &[&str]) -> BTreeMap<String, Cause> {
        let cause = Cause { why: "InDoubt: x".into(), bare: false, doubt: None };
        names.iter().map(|name| (format!("uid-{name}"), cause.clone())).collect()
    }

    fn pods_(pods: Vec<Pod>) -> Vec<Arc<Pod>> {
        pods.into_iter().map(Arc::new).collect()
    }

    fn waits(decision: &Decision) -> Vec<(&str, &str)> {
        let waits = decision.outstanding.iter();
        waits.map(|out| (out.pod.as_str(), out.hindrance.as_deref().unwrap_or("its turn"))).collect()
    }

    #[test]
    fn one_at_a_time_and_the_next_when_its_successor_is_ready() {
        let (engine, now, mut memory) = (engine(), Instant::now(), Memory::default());
        let calling = pods_(vec![example("a", false), example("b", false), example("c", true)]);
        let first = decide(&engine, &calling, &causes(&["a", "b"]), &memory, now);
        assert_eq!(first.next.as_ref().unwrap().pod, "a");
        assert_eq!(waits(&first)[1].1, "waits for another one's turn to end");

        // The watch does not show it yet: nothing happens twice.
        memory.evicted("uid-a", "owner", now);
        let stale = decide(&engine, &calling, &causes(&["a", "b"]), &memory, now);
        assert_eq!(stale.next, None);
        assert_eq!(stale.outstanding.len(), 1, "what is going no longer waits");

        // The back-off is over, the successor is not ready.
        let later = now + Duration::from_secs(60);
        let replaced = pods_(vec![example("d", false), example("b", false), example("c", true)]);
        let starting = decide(&engine, &replaced, &causes(&["b"]), &memory, later);
        assert_eq!(starting.next, None);
        assert!(waits(&starting)[0].1.contains("these are: d"), "{starting:?}");
        let replaced = pods_(vec![example("d", true), example("b", false), example("c", true)]);
        let soon = decide(&engine, &replaced, &causes(&["b"]), &memory, now + Duration::from_secs(1));
        assert_eq!(soon.again, Some(Duration::from_secs(9)));
        assert_eq!(soon.next, None, "the back-off of the owner is not over");
        let second = decide(&engine, &replaced, &causes(&["b"]), &memory, later);
        assert_eq!(second.next.unwrap().pod, "b");
    }

    #[test]
    fn a_budget_of_two_lets_one_go_beside_one_that_is_away() {
        let mut engine = engine();
        let pods = pods_(vec![example("a", false), example("b", false)]);
        let now = Instant::now();
        assert_eq!(decide(&engine, &pods, &causes(&["a"]), &Memory::default(), now).next, None);
        engine.max_unavailable = 2;
        assert!(decide(&engine, &pods, &causes(&["a"]), &Memory::default(), now).next.is_some());
    }

    #[test]
    fn nobody_goes_while_nobody_comes_in_the_place_of_who_went() {
        let (engine, now, mut memory) = (engine(), Instant::now(), Memory::default());
        let before = pods_(vec![example("a", false), example("b", false), example("c", false)]);
        let first = decide(&engine, &before, &causes(&["a", "b", "c"]), &memory, now).next.unwrap();
        memory.evicted(&first.uid, &first.owner, now);
        let there = before.iter().filter_map(|pod| pod.uid()).collect();
        let (pod, owner, class) = (first.pod, first.owned_by, first.class);
        memory.awaits(&first.uid, Awaited { pod, owner, class, there });
        let mut look = |all: Vec<Pod>, calling: &[&str], after: u64| {
            let (all, now) = (pods_(all), now + Duration::from_secs(after));
            memory.look(&all, now);
            memory.settle(&engine, &all);
            decide(&engine, &all, &causes(calling), &memory, now)
        };

        let without = look(vec![example("b", false), example("c", false)], &["b", "c"], 7200);
        assert_eq!(without.next, None, "however long it takes");
        let why = without.outstanding[0].hindrance.clone().unwrap();
        assert!(why.contains("a was evicted") && why.contains("ReplicaSet opa"), "{why}");
        let mut bare = example("d", true);
        bare.spec.as_mut().unwrap().init_containers = None;
        assert_eq!(look(vec![bare, example("b", false)], &["b"], 7200).next, None, "it is no agent");

        // A StatefulSet's successor has the same name.
        let mut again = example("a", false);
        again.metadata.uid = Some("uid-a2".into());
        let building = look(vec![again.clone(), example("b", false)], &["b"], 7200);
        assert_eq!(building.next, None, "it is not ready");
        let calling = look(vec![again.clone(), example("b", false)], &["b", "a2"], 7200);
        assert_eq!(calling.next.unwrap().uid, "uid-a2", "one that calls anew was made");
        again.status = example("a", true).status;
        assert_eq!(look(vec![again, example("b", false)], &["b"], 7200).next.unwrap().pod, "b");
    }

    #[test]
    fn a_pod_without_an_owner_is_reported_and_stays() {
        let mut lone = example("a", false);
        lone.metadata.owner_references = None;
        let pods = pods_(vec![lone]);
        let decision = decide(&engine(), &pods, &causes(&["a"]), &Memory::default(), Instant::now());
        assert_eq!(decision.next, None);
        assert!(waits(&decision)[0].1.contains("no controller owns it"));
    }

    #[test]
    fn what_is_ending_or_has_ended_is_not_touched() {
        let mut failed = example("a", false);
        failed.status.as_mut().unwrap().phase = Some("Failed".into());
        let mut ending = example("b", false);
        ending.metadata.deletion_timestamp = Some(serde_json::from_str("\"2026-01-01T00:00:00Z\"").unwrap());
        let gone = causes(&["a", "b"]);
        let decision = decide(
            &engine(),
            &pods_(vec![failed, ending.clone()]),
            &gone,
            &Memory::default(),
            Instant::now(),
        );
        assert_eq!(decision, Decision::default());
        // One that is ending is away all the same.
        let pods = pods_(vec![ending, example("c", false)]);
        assert_eq!(decide(&engine(), &pods, &causes(&["c"]), &Memory::default(), Instant::now()).next, None);
    }

    #[test]
    fn what_a_budget_refused_is_tried_again_later() {
        let (now, mut memory) = (Instant::now(), Memory::default());
        memory.refused("uid-a", "a PodDisruptionBudget does not allow it".into(), now);
        let pods = pods_(vec![example("a", false)]);
        let refused = decide(&engine(), &pods, &causes(&["a"]), &memory, now);
        assert_eq!(waits(&refused), [("a", "a PodDisruptionBudget does not allow it")]);
        assert_eq!(refused.again, Some(Duration::from_secs(10)));
        let later = now + Duration::from_secs(10);
        assert!(decide(&engine(), &pods, &causes(&["a"]), &memory, later).next.is_some());
    }

    #[test]
    fn pods_without_a_sidecar_come_last_and_do_not_count() {
        let mut bare = example("a", true);
        bare.spec.as_mut().unwrap().init_containers = None;
        let pods = pods_(vec![bare, example("b", false)]);
        let mut both = causes(&["a", "b"]);
        both.get_mut("uid-a").unwrap().bare = true;
        let decision = decide(&engine(), &pods, &both, &Memory::default(), Instant::now());
        assert_eq!(decision.next.unwrap().pod, "b");
        let alone = decide(&engine(), &pods, &causes(&["b"]), &Memory::default(), Instant::now());
        assert_eq!(alone.next.unwrap().pod, "b", "a bare one does not use the budget up");
    }
}
