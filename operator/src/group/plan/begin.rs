//! How a group begins: once. Its genesis is remembered before anything happens, and only its first member may begin.

use std::collections::BTreeSet;

use decree_wire::group::{Durability, Genesis};
use decree_wire::member::{Member, Role};
use decree_wire::position::Position;

use super::quorum;
use crate::engine::problem::Problem;
use crate::group::facts::{Facts, Pod};
use crate::group::step::{Plan, Step};

/// Of a group whose status knows no genesis that can have begun: a new one, or that of a group whose resource was deleted
/// and made again.
pub(super) fn found(facts: &Facts) -> Plan {
    let known: BTreeSet<&str> = histories(facts).map(|genesis| genesis.incarnation.0.as_str()).collect();
    if known.len() > 1 {
        return Plan {
            problems: vec![Problem::person(
                "SeveralHistories",
                format!(
                    "the pods know several incarnations of the log ({}), and nothing says which is this group's; delete the \
                     pods of those that are of no use any more",
                    known.into_iter().collect::<Vec<_>>().join(", ")
                ),
            )],
            ..quorum::none("SeveralHistories", "the pods know several incarnations of the log")
        };
    }
    if let Some(genesis) = histories(facts).next() {
        return Plan {
            step: Some(Step::Remember(genesis.clone())),
            ..waiting("the group's members are read")
        };
    }
    // Any of these may hold what a resource of this name has begun.
    if facts.pods.iter().any(|pod| pod.answer.is_none() && pod.begun && pod.elder) {
        return waiting("a pod that may know the group does not answer yet");
    }
    let fit = facts.pods.iter().filter(|pod| !pod.ending && pod.place.is_some());
    let first = fit.filter_map(|pod| Some((&pod.name, pod.answer.as_ref()?.id))).min();
    let Some((_, first)) = first else {
        return quorum::none("NoMembers", "no pod of the engine has a sidecar that answers yet");
    };
    let genesis = Genesis {
        incarnation: facts.fresh.clone(),
        base: Position(0),
        first,
        durability: Durability::Quorum,
    };
    Plan { step: Some(Step::Remember(genesis)), ..waiting("the group begins") }
}

fn histories(facts: &Facts) -> impl Iterator<Item = &Genesis> {
    facts.pods.iter().filter_map(|pod| pod.answer.as_ref()?.genesis.as_ref())
}

/// Whether anybody has something of this group's log.
pub(super) fn has_begun(facts: &Facts, genesis: &Genesis) -> bool {
    facts.answers(genesis).any(|(_, answer)| !is_blank(answer)) || !facts.remembered.is_empty()
}

fn is_blank(answer: &Member) -> bool {
    answer.role == Role::Outside && answer.membership.is_none() && answer.last.is_none()
}

/// Of a group whose genesis is remembered, and of whose log nothing was ever seen.
///
/// Who asks the first member to begin counts that in the status before: while the count is none, nothing has begun.
pub(super) fn initialize(facts: &Facts, genesis: &Genesis) -> Plan {
    let may = |answer: &Member| answer.genesis.as_ref().is_none_or(|known| known == genesis);
    let is_first = |pod: &&Pod| {
        // One that is going away is not asked for the first time: its log would go with it.
        (facts.asked || !pod.ending)
            && pod.answer.as_ref().is_some_and(|answer| answer.id == genesis.first && may(answer))
    };
    if let Some(first) = facts.pods.iter().find(is_first) {
        let Some(place) = first.place.clone() else { return waiting("the first member has no address yet") };
        let step = Step::Initialize { pod: first.name.clone(), genesis: genesis.clone(), place };
        return Plan { step: Some(step), ..waiting("the group begins") };
    }
    if !facts.asked {
        // Nobody was ever told to begin with it, so that nothing was ordered: another one may.
        return found(facts);
    }
    if facts.pods.iter().any(|pod| pod.answer.is_none() && pod.begun) {
        return waiting("the first member does not answer");
    }
    quorum::lost(format!(
        "the group was to begin with member {} and that is gone; whether it had begun, and acknowledged anything, nobody knows",
        genesis.first
    ))
}

fn waiting(what: &'static str) -> Plan {
    Plan { waiting: Some(what), ..quorum::none("Beginning", what) }
}
