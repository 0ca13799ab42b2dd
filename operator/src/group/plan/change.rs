//! The next change of a membership that is settled: the lost first, then the new, then those that leave, then the number
//! of voters and their spread over nodes.

use std::collections::BTreeSet;

use decree_wire::group::{Genesis, MemberId};
use decree_wire::member::Member;

use crate::group::facts::Pod;
use crate::group::step::{Order, Step};
use crate::group::view::{Health, View, quorum};

/// The next step; none where all is as it should be, or has to wait.
pub(super) fn next(view: &View<'_>, genesis: &Genesis) -> Option<Step> {
    let order = retire_learner(view, Health::Lost)
        .or_else(|| replace_lost(view))
        .or_else(|| admit(view, genesis))
        .or_else(|| hand_over(view))
        .or_else(|| replace_leaving(view, genesis))
        .or_else(|| retire_learner(view, Health::Leaving))
        .or_else(|| shrink(view))
        .or_else(|| grow(view))
        .or_else(|| spread(view));
    order.map(|order| lead(view, order))
}

/// Why nothing is done though not all is as it should be.
pub(super) fn awaited(view: &View<'_>) -> Option<&'static str> {
    let members = view.membership.members.keys();
    let goes = |id: &MemberId| matches!(view.health(*id), Health::Lost | Health::Leaving);
    if members.clone().any(goes) {
        return Some("members that are going away stay until others have caught up");
    }
    let learners = members.filter(|id| !view.voters().contains(id));
    let behind = learners.filter(|id| !view.is_fit(**id)).count();
    (behind > 0 && view.voters().len() < view.facts.voters).then_some("learners are catching up")
}

/// An order to the leader.
pub(super) fn lead(view: &View<'_>, order: Order) -> Step {
    Step::Lead { pod: view.pod.name.clone(), order }
}

/// Pods that know no group yet, and are told of this one.
pub(super) fn joins(view: &View<'_>) -> Vec<String> {
    let blank = |answer: &Member| answer.genesis.is_none();
    let pods = view.facts.pods.iter().filter(|pod| is_to_come(pod));
    pods.filter(|pod| pod.answer.as_ref().is_some_and(blank)).map(|pod| pod.name.clone()).collect()
}

fn is_to_come(pod: &Pod) -> bool {
    !pod.ending && pod.place.is_some() && pod.answer.is_some()
}

fn name<'a>(pod: &&'a Pod) -> &'a str {
    &pod.name
}

/// A new member is added as a learner; one that has another address now is found there.
fn admit(view: &View<'_>, genesis: &Genesis) -> Option<Order> {
    if !view.may_become(&view.voters()) {
        return None;
    }
    let seen = view.membership.at;
    let knows =
        |pod: &&Pod| pod.answer.as_ref().is_some_and(|answer| answer.genesis.as_ref() == Some(genesis));
    let mut pods: Vec<&Pod> = view.facts.pods.iter().filter(|pod| is_to_come(pod)).filter(knows).collect();
    pods.sort_by_key(name);
    pods.into_iter().find_map(|pod| {
        let (id, place) = (pod.answer.as_ref()?.id, pod.place.clone()?);
        let settled = view.place(id).is_some_and(|known| *known == place);
        (!settled).then_some(Order::Learner { seen, id, place })
    })
}

/// A learner that is no more, or will be no more.
fn retire_learner(view: &View<'_>, health: Health) -> Option<Order> {
    let voters = view.voters();
    let mut learners = view.membership.members.keys().filter(|id| !voters.contains(id));
    let id = *learners.find(|id| view.health(**id) == health)?;
    view.may_become(&voters).then_some(Order::Remove { seen: view.membership.at, id, stays: false })
}

/// A voter that is lost makes room for a learner, or at least no longer counts for the quorum.
fn replace_lost(view: &View<'_>) -> Option<Order> {
    let wanted = view.voters().len() <= view.facts.voters;
    let successor = |id| if wanted { promote(view, Some(id)) } else { None };
    of_health(view, Health::Lost).find_map(|id| successor(id).or_else(|| remove(view, id, false)))
}

/// A voter that is going away serves until another takes its place. Where none can be hoped for, or the others could order
/// nothing if it went before, it no longer counts.
fn replace_leaving(view: &View<'_>, genesis: &Genesis) -> Option<Order> {
    let voters = view.voters();
    if voters.len() > view.facts.voters {
        return leaving(view).find_map(|id| remove(view, id, false));
    }
    let stay = voters.iter().filter(|id| view.health(**id) != Health::Leaving && view.is_seen(**id)).count();
    let waits = stay >= quorum(voters.len()) && has_hope(view, genesis);
    let goes = |id| if waits { None } else { remove(view, id, false) };
    leaving(view).find_map(|id| promote(view, Some(id)).or_else(|| goes(id)))
}

/// Voters that are going away; of these the leader hands over first, if there is one that stays.
fn leaving(view: &View<'_>) -> impl Iterator<Item = MemberId> {
    let stays = view.voters().iter().any(|id| view.health(*id) == Health::Well);
    let leader = view.leader.id;
    of_health(view, Health::Leaving).filter(move |id| *id != leader || !stays)
}

/// Whether a pod is there that may vote one day.
fn has_hope(view: &View<'_>, genesis: &Genesis) -> bool {
    let belongs = |answer: &Member| answer.genesis.as_ref().is_none_or(|known| known == genesis);
    let votes = |answer: &Member| view.voters().contains(&answer.id);
    view.facts
        .pods
        .iter()
        .any(|pod| !pod.ending && pod.answer.as_ref().is_none_or(|answer| belongs(answer) && !votes(answer)))
}

/// A leader that is going away has another lead: that takes milliseconds, an election after its end an election timeout.
fn hand_over(view: &View<'_>) -> Option<Order> {
    let leaves = view.health(view.leader.id) == Health::Leaving;
    let voters = view.voters();
    let to = voters.into_iter().filter(|id| *id != view.leader.id && view.is_fit(*id));
    // The nearest to the end needs the least time to lead.
    let to = to.max_by_key(|id| view.matched(*id))?;
    leaves.then_some(Order::HandOver { to })
}

/// More voters than are wanted: one stays as a learner.
fn shrink(view: &View<'_>) -> Option<Order> {
    let voters = view.voters();
    if voters.len() <= view.facts.voters {
        return None;
    }
    let others = voters.iter().filter(|id| **id != view.leader.id);
    let leaves = |id| view.health(id) == Health::Leaving;
    let worth = |id| (leaves(id), !view.is_fit(id), together(view, &voters, id), id);
    let id = *others.max_by_key(|id| worth(**id))?;
    remove(view, id, true)
}

/// Fewer voters than are wanted, and a learner that has caught up.
fn grow(view: &View<'_>) -> Option<Order> {
    if view.voters().len() < view.facts.voters { promote(view, None) } else { None }
}

/// Two voters on one node, and a learner on a node without any.
fn spread(view: &View<'_>) -> Option<Order> {
    let voters = view.voters();
    let crowded = voters.iter().filter(|id| **id != view.leader.id && together(view, &voters, **id) > 0);
    let crowded = *crowded.max_by_key(|id| (together(view, &voters, **id), **id))?;
    let candidate = candidate(view, Some(crowded))?;
    let rest: BTreeSet<MemberId> = voters.into_iter().filter(|id| *id != crowded).collect();
    if together(view, &rest, candidate) > 0 { None } else { promote(view, Some(crowded)) }
}

/// The fittest learner votes, where it can at once.
fn promote(view: &View<'_>, instead_of: Option<MemberId>) -> Option<Order> {
    let id = candidate(view, instead_of)?;
    let mut after = view.voters();
    after.retain(|id| Some(*id) != instead_of);
    after.insert(id);
    view.may_become(&after).then_some(Order::Promote { seen: view.membership.at, id, instead_of })
}

/// A learner that could vote at once: one on a node with the fewest voters.
fn candidate(view: &View<'_>, instead_of: Option<MemberId>) -> Option<MemberId> {
    let voters = view.voters();
    let rest: BTreeSet<MemberId> = voters.iter().copied().filter(|id| Some(*id) != instead_of).collect();
    let learners = view.membership.members.keys().copied().filter(|id| !voters.contains(id));
    learners.filter(|id| view.is_fit(*id)).min_by_key(|id| (together(view, &rest, *id), *id))
}

/// Takes a voter's vote, where the others can go on without it.
fn remove(view: &View<'_>, id: MemberId, stays: bool) -> Option<Order> {
    let mut after = view.voters();
    after.remove(&id);
    let may = !after.is_empty() && view.may_become(&after);
    may.then_some(Order::Remove { seen: view.membership.at, id, stays })
}

fn of_health(view: &View<'_>, health: Health) -> impl Iterator<Item = MemberId> {
    view.voters().into_iter().filter(move |id| view.health(*id) == health)
}

/// How many others of these are on the same node.
fn together(view: &View<'_>, of: &BTreeSet<MemberId>, id: MemberId) -> usize {
    let zone = |id: MemberId| view.place(id).map(|place| place.zone.as_str());
    of.iter().filter(|other| **other != id && zone(**other) == zone(id)).count()
}
