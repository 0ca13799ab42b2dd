//! From what is known of a group to its next step, or to what is waited for. Pure.

pub mod begin;
pub mod change;
pub mod gates;
#[cfg(test)]
mod model;
pub mod quorum;
#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeSet;

use decree_wire::group::Genesis;
use decree_wire::member::Member;

use super::facts::Facts;
use super::step::{Order, Plan};
use super::view::View;
use crate::care::pods;
use crate::engine::problem::Alert;

/// Decides.
#[must_use]
pub fn plan(facts: &Facts) -> Plan {
    let Some(genesis) = &facts.genesis else { return begin::found(facts) };
    let mut plan = match View::of(facts, genesis) {
        Some(view) => led(&view, genesis),
        None if begin::has_begun(facts, genesis) => quorum::without_leader(facts, genesis),
        None => begin::initialize(facts, genesis),
    };
    plan.alerts.extend(strangers(facts, genesis));
    plan
}

/// What is to be done in a group that has a leader.
fn led(view: &View<'_>, genesis: &Genesis) -> Plan {
    let mut plan = Plan { alerts: quorum::below_voters(view), joins: change::joins(view), ..Plan::default() };
    if !view.membership.committed {
        // Also where the change is another operator's.
        plan.waiting = Some("the group agrees on a change of its membership");
        return plan;
    }
    if view.membership.voters.len() > 1 {
        plan.step = Some(change::lead(view, Order::Settle { seen: view.membership.at }));
        return plan;
    }
    plan.opens = gates::open(view);
    plan.step = change::next(view, genesis);
    if plan.step.is_none() {
        plan.waiting = change::awaited(view);
    }
    plan
}

/// Pods that know another history: none of theirs may come into this one.
fn strangers(facts: &Facts, genesis: &Genesis) -> Option<Alert> {
    let other = |answer: &Member| answer.genesis.as_ref().is_some_and(|other| other != genesis);
    let strangers = facts.pods.iter().filter(|pod| pod.answer.as_ref().is_some_and(other));
    let strangers: BTreeSet<&str> = strangers.map(|pod| pod.name.as_str()).collect();
    (!strangers.is_empty()).then(|| Alert {
        reason: "OtherHistory",
        message: format!(
            "the sidecar of {} holds the log of another incarnation than {}, and is left out of the group; delete the pod, and \
             its volume if it has one, once that log is of no use any more",
            pods::named(strangers),
            genesis.incarnation
        ),
    })
}
