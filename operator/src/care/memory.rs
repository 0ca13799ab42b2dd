//! What this process remembers of an engine's evictions: all of it can be lost without harm but haste.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::backoff::Backoff;
use super::pods;
use super::poison::Attempts;
use crate::spec::Engine;

/// An eviction that was granted shows within this, or it is asked for anew.
const SHOWN: Duration = Duration::from_secs(30);
/// Consumer groups are listed so often, for those of pods that went while nobody looked.
const GROUPS: Duration = Duration::from_secs(600);

/// An agent that was evicted and whose successor has not been seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// The evicted pod's name.
    pub pod: String,
    /// Its controller, by kind and name.
    pub owner: String,
    /// Its class.
    pub class: String,
    /// All pods there were then, by uid: none of them is its successor.
    pub there: BTreeSet<String>,
}

/// Of one engine.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Pods whose eviction was granted, by uid.
    evicted: BTreeMap<String, Instant>,
    /// By the owner's uid.
    owners: BTreeMap<String, Backoff>,
    /// By the owner's uid, which pods there were when one of it without a sidecar was last evicted. Uids, since a pod's
    /// time of creation has whole seconds only.
    bare: BTreeMap<String, BTreeSet<String>>,
    /// Agents without a successor yet, by the evicted pod's uid. As many as may be away at once.
    awaited: BTreeMap<String, Awaited>,
    /// By the pod's uid, what stood in the way of its eviction, and until when it is left alone for that.
    refused: BTreeMap<String, (Backoff, String)>,
    /// Pods that have been ready, by uid.
    ready: BTreeSet<String>,
    /// All pods that were seen, by name.
    seen: BTreeSet<String>,
    groups: Option<Instant>,
    /// What was tried in one pod after the other.
    pub(crate) attempts: Attempts,
}

impl Memory {
    /// A pod's eviction was granted. The back-off of its owner grows only with pods that never got ready: with these,
    /// evictions don't help.
    pub fn evicted(&mut self, pod: &str, owner: &str, now: Instant) {
        self.evicted.insert(pod.to_owned(), now);
        let before = self.owners.get(owner).copied().filter(|_| !self.ready.contains(pod));
        self.owners.insert(owner.to_owned(), Backoff::after(before, now));
        self.refused.remove(pod);
    }

    /// A pod of this owner without a sidecar was evicted, while these were there.
    pub fn tried(&mut self, owner: &str, there: BTreeSet<String>) {
        self.bare.insert(owner.to_owned(), there);
    }

    /// An agent was evicted: it counts as away until its successor is seen, however long that takes.
    pub fn awaits(&mut self, pod: &str, awaited: Awaited) {
        self.awaited.insert(pod.to_owned(), awaited);
    }

    /// Takes in who of these is a successor. Any new agent of the class is one, since a rollout changes the owner; each of
    /// one evicted pod only.
    pub fn settle(&mut self, engine: &Engine, all: &[Arc<Pod>]) {
        for pod in all.iter().filter(|pod| pods::is_injected(pod) && !pods::has_ended(pod)) {
            let (Some(uid), Some(class)) = (pod.uid(), pods::class(pod, engine)) else { continue };
            let after = |awaited: &Awaited| awaited.class == class.name && !awaited.there.contains(&uid);
            let Some(of) = self.awaited.iter().find(|(_, awaited)| after(awaited)) else { continue };
            let of = of.0.clone();
            self.awaited.remove(&of);
            for other in self.awaited.values_mut() {
                other.there.insert(uid.clone());
            }
        }
    }

    /// Evicted agents of this class that are gone, and in whose place none has come.
    pub fn missing<'a>(&'a self, class: &'a str, all: &'a [&Pod]) -> impl Iterator<Item = &'a Awaited> {
        let gone = move |pod: &str| all.iter().all(|other| other.metadata.uid.as_deref() != Some(pod));
        let missing = self.awaited.iter().filter(move |(pod, of)| of.class == class && gone(pod));
        missing.map(|(_, awaited)| awaited)
    }

    /// It was not.
    pub fn refused(&mut self, pod: &str, why: String, now: Instant) {
        let before = self.refused.get(pod).map(|(backoff, _)| *backoff);
        self.refused.insert(pod.to_owned(), (Backoff::after(before, now), why));
    }

    /// Whether its eviction was granted a moment ago, though the watch does not show it yet.
    #[must_use]
    pub fn was_evicted(&self, pod: &str, now: Instant) -> bool {
        self.evicted.get(pod).is_some_and(|at| now.saturating_duration_since(*at) < SHOWN)
    }

    /// How long pods of this owner are left alone.
    #[must_use]
    pub fn left(&self, owner: &str, now: Instant) -> Option<Duration> {
        self.owners.get(owner)?.left(now)
    }

    /// What stood in the way of this pod's eviction last, and how long it is left alone for that.
    #[must_use]
    pub fn refusal(&self, pod: &str, now: Instant) -> Option<(Option<Duration>, &str)> {
        self.refused.get(pod).map(|(backoff, why)| (backoff.left(now), why.as_str()))
    }

    /// Which pods there were when one without a sidecar was last evicted from this owner.
    #[must_use]
    pub fn bare_evicted(&self, owner: &str) -> Option<&BTreeSet<String>> {
        self.bare.get(owner)
    }

    /// Whether it is time to look at consumer groups; if so, the next time is a while off.
    pub fn groups_due(&mut self, now: Instant) -> bool {
        let due = self.groups.is_none_or(|last| now.saturating_duration_since(last) >= GROUPS);
        if due {
            self.groups = Some(now);
        }
        due
    }

    /// Names of pods that were there and are gone for good; each is told once.
    pub fn gone(&mut self, all: &[Arc<Pod>]) -> BTreeSet<String> {
        let there: BTreeSet<String> = all.iter().map(|pod| pod.name_any()).collect();
        let gone = self.seen.difference(&there).cloned().collect();
        self.seen = there;
        gone
    }

    /// Takes in what pods there are; forgets those that are gone, and owners that were quiet for long.
    pub fn look(&mut self, all: &[Arc<Pod>], now: Instant) {
        let there: BTreeSet<String> = all.iter().filter_map(|pod| pod.uid()).collect();
        self.evicted.retain(|pod, _| there.contains(pod));
        self.refused.retain(|pod, _| there.contains(pod));
        self.ready.retain(|pod| there.contains(pod));
        self.ready.extend(all.iter().filter(|pod| pods::is_ready(pod)).filter_map(|pod| pod.uid()));
        self.owners.retain(|_, backoff| !backoff.is_over(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_granted_shows_soon_or_is_asked_for_anew() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        memory.refused("pod", "a budget".into(), now);
        assert_eq!(memory.refusal("pod", now).unwrap().1, "a budget");
        memory.evicted("pod", "owner", now);
        assert!(memory.was_evicted("pod", now) && !memory.was_evicted("pod", now + SHOWN));
        assert!(memory.refusal("pod", now).is_none() && memory.left("owner", now).is_some());
        memory.look(&[], now);
        assert!(!memory.was_evicted("pod", now) && memory.left("owner", now).is_some());
    }

    #[test]
    fn only_what_never_got_ready_waits_longer_and_longer() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        let ten = Some(Duration::from_secs(10));
        memory.look(&[Arc::new(pods::example("a", true)), Arc::new(pods::example("b", true))], now);
        memory.evicted("uid-a", "owner", now);
        memory.evicted("uid-b", "owner", now);
        assert_eq!(memory.left("owner", now), ten);
        memory.look(&[Arc::new(pods::example("c", false))], now);
        memory.evicted("uid-c", "owner", now);
        assert_eq!(memory.left("owner", now), ten.map(|ten| ten * 2));
    }

    #[test]
    fn a_pod_that_is_gone_is_told_once() {
        let mut memory = Memory::default();
        let pod = |name| Arc::new(pods::example(name, true));
        assert!(memory.gone(&[pod("a"), pod("b")]).is_empty());
        assert_eq!(memory.gone(&[pod("b"), pod("c")]), BTreeSet::from(["a".to_owned()]));
        assert!(memory.gone(&[pod("b"), pod("c")]).is_empty());
    }

    #[test]
    fn groups_are_looked_at_now_and_then() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        assert!(memory.groups_due(now) && !memory.groups_due(now));
        assert!(memory.groups_due(now + GROUPS));
    }
}
