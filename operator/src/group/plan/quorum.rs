//! Whether a group can order entries, and what is known of those that can't.

use std::collections::BTreeMap;

use decree_wire::group::{Genesis, MemberId};
use decree_wire::member::Membership;

use crate::care::pods;
use crate::engine::problem::{Alert, Problem};
use crate::group::facts::Facts;
use crate::group::step::Plan;
use crate::group::view::{Health, View, quorum};

/// Nothing can be ordered, for now.
pub(super) fn none(reason: &'static str, message: impl Into<String>) -> Plan {
    Plan { no_quorum: Some((reason, message.into())), ..Plan::default() }
}

/// Nothing can be ordered by this incarnation any more.
pub(super) fn lost(message: String) -> Plan {
    let message = format!(
        "{message}; the group does not go on by itself and no other is begun in its place. Make a new DecisionEngine and a new \
         ConsensusGroup, or bring back the disks"
    );
    Plan { problems: vec![Problem::person("QuorumLost", message.clone())], ..none("QuorumLost", message) }
}

/// Of a group that has begun and that nobody leads for certain.
pub(super) fn without_leader(facts: &Facts, genesis: &Genesis) -> Plan {
    let voters = voters(facts, genesis);
    let gone = |set: &BTreeMap<MemberId, String>| {
        let lost = set.iter().filter(|(id, pod)| facts.health(**id, pod) == Health::Lost);
        lost.map(|(_, pod)| pod.clone()).collect::<Vec<_>>()
    };
    let hopeless = voters.iter().find(|set| set.len() - gone(set).len() < quorum(set.len()));
    let Some(set) = hopeless.filter(|set| !set.is_empty()) else {
        return Plan {
            waiting: Some("the group elects a leader"),
            ..none("NoLeader", "no member leads: the voters elect one, or too few of them can be reached")
        };
    };
    let gone = gone(set);
    let survives = facts.answers(genesis).filter_map(|(_, answer)| answer.last).max();
    let survives = match survives {
        Some(last) => {
            format!("the rest holds the log up to position {}", genesis.base.0.saturating_add(last))
        }
        None => "nothing of the log is left".to_owned(),
    };
    let certain = facts.committed.map_or_else(String::new, |position| {
        format!("; position {position} was the last that was known here to be certain")
    });
    lost(format!(
        "{} of {} voters are gone with their disks ({}): {survives}{certain}",
        gone.len(),
        set.len(),
        pods::named(gone.iter().map(String::as_str))
    ))
}

/// The sets of voters as somebody of the group knows them last, else as the status remembers them; with their pods.
fn voters(facts: &Facts, genesis: &Genesis) -> Vec<BTreeMap<MemberId, String>> {
    let memberships = facts.answers(genesis).filter_map(|(_, answer)| answer.membership.as_ref());
    if let Some(membership) = memberships.max_by_key(|membership| membership.at) {
        return membership.voters.iter().map(|set| with_pods(set, membership)).collect();
    }
    let voters = facts.remembered.iter().filter(|member| member.votes);
    vec![voters.map(|member| (member.id, member.pod.clone())).collect()]
}

fn with_pods(set: &[MemberId], membership: &Membership) -> BTreeMap<MemberId, String> {
    let pod = |id: &MemberId| membership.members.get(id).map(|place| place.pod.clone()).unwrap_or_default();
    set.iter().map(|id| (*id, pod(id))).collect()
}

/// Fewer voters that are well than are wanted.
pub(super) fn below_voters(view: &View<'_>) -> Vec<Alert> {
    let voters = view.voters();
    let well = voters.iter().filter(|id| view.serves(**id)).count();
    let wanted = view.facts.voters;
    let more = wanted.saturating_sub(well);
    (more > 0)
        .then(|| Alert {
            reason: "BelowVoters",
            message: format!(
                "{well} of {wanted} voters are there and have caught up, so that the group survives the loss of {} of them; \
                 with {more} more agents that are ready it is full",
                well.saturating_sub(quorum(voters.len())),
            ),
        })
        .into_iter()
        .collect()
}
