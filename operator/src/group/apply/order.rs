//! What a leader is asked to do, as a request; and what it did, in words.

use decree_wire::group::MemberId;
use decree_wire::member::{HandOver, Learner, Promote, Remove, Settle, path};
use kube::ResourceExt;
use serde::de::IgnoredAny;

use crate::group::call::{Agent, Calls, Error};
use crate::group::fetch::Fetched;
use crate::group::step::Order;

/// Asks.
pub(super) async fn ask(leader: &Agent, order: &Order, calls: &Calls) -> Result<(), Error> {
    let answered: Result<IgnoredAny, Error> = match order.clone() {
        Order::Learner { seen, id, place } => {
            calls.post(leader, path::LEARNER, &Learner { seen, id, place }).await
        }
        Order::Promote { seen, id, instead_of } => {
            calls.post(leader, path::PROMOTE, &Promote { seen, id, instead_of }).await
        }
        Order::Remove { seen, id, stays } => {
            calls.post(leader, path::REMOVE, &Remove { seen, id, stays }).await
        }
        Order::Settle { seen } => calls.post(leader, path::SETTLE, &Settle { seen }).await,
        Order::HandOver { to } => calls.post(leader, path::HAND_OVER, &HandOver { to }).await,
    };
    answered.map(drop)
}

/// What was done: reason and message.
pub(super) fn told(order: &Order, fetched: &Fetched) -> (&'static str, String) {
    let who = |id: &MemberId| who(*id, fetched);
    match order {
        Order::Learner { id, place, .. } => {
            ("MemberAdded", format!("member {id} in pod {} gets the log, at {}", place.pod, place.address))
        }
        Order::Promote { id, instead_of: None, .. } => ("MemberPromoted", format!("{} votes", who(id))),
        Order::Promote { id, instead_of: Some(other), .. } => {
            ("MemberPromoted", format!("{} votes instead of {}", who(id), who(other)))
        }
        Order::Remove { id, stays: true, .. } => {
            ("MemberDemoted", format!("{} votes no more, and still gets the log", who(id)))
        }
        Order::Remove { id, stays: false, .. } => {
            ("MemberRemoved", format!("{} belongs to the group no more", who(id)))
        }
        Order::Settle { .. } => ("ChangeSettled", "a change of the membership was finished".to_owned()),
        Order::HandOver { to } => ("LeaderHandedOver", format!("{} was asked to lead", who(to))),
    }
}

/// A member by its id and, as far as known, its pod.
fn who(id: MemberId, fetched: &Fetched) -> String {
    let answers = |answer: &Option<decree_wire::member::Member>| answer.as_ref().is_some_and(|a| a.id == id);
    let there = fetched.pods.iter().find(|asked| answers(&asked.answer)).map(|asked| asked.pod.name_any());
    let status = fetched.object.status.as_ref();
    let known = || {
        let members = status.map(|status| status.members.as_slice()).unwrap_or_default();
        members.iter().find(|member| member.id == id.to_string()).map(|member| member.pod.clone())
    };
    match there.or_else(known) {
        Some(pod) => format!("member {id} in pod {pod}"),
        None => format!("member {id}"),
    }
}
