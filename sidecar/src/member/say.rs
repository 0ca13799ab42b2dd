//! What this agent says of itself as a member, in the operator's words.

use std::collections::BTreeMap;
use std::time::Duration;

use decree_wire::PROTOCOL_LEVEL;
use decree_wire::group::MemberId;
use decree_wire::member::{Leads, LogId, Member, Membership, Other, Place, Role};

use super::Seat;
use crate::log::raft::genesis::Genesis;
use crate::log::raft::types;
use crate::log::raft::view::{Seen, View};

/// What is known now.
pub(super) fn say(seat: &Seat) -> Member {
    let blank = Member {
        level: PROTOCOL_LEVEL,
        id: seat.id(),
        pod: seat.pod().to_owned(),
        genesis: seat.genesis().and_then(Genesis::decided),
        role: Role::Outside,
        term: 0,
        leader: None,
        last: None,
        committed: None,
        membership: None,
        leads: None,
    };
    let Some(view) = seat.log().map(|log| log.view()) else { return blank };
    let membership = view.at.map(|at| membership(at, &view));
    let leads = (view.role == Role::Leader).then(|| leads(&view));
    Member {
        role: view.role,
        term: view.term,
        leader: view.leader.map(MemberId),
        last: view.last,
        committed: view.committed.checked_sub(1),
        membership,
        leads,
        ..blank
    }
}

fn membership(at: types::LogId, view: &View) -> Membership {
    let ids = |voters: &std::collections::BTreeSet<u64>| voters.iter().copied().map(MemberId).collect();
    Membership {
        at: LogId { term: at.committed_leader_id().term, index: at.index() },
        committed: view.settled,
        voters: view.voters.iter().map(ids).collect(),
        members: view.members.iter().map(|seen| (MemberId(seen.id), place(&seen.member))).collect(),
    }
}

fn leads(view: &View) -> Leads {
    let others = view.members.iter().filter(|seen| seen.id != view.id);
    let other = |seen: &Seen| Other {
        matched: seen.matched.and_then(|next| next.checked_sub(1)),
        seen_ms: seen.seen.map(millis),
    };
    let others: BTreeMap<_, _> = others.map(|seen| (MemberId(seen.id), other(seen))).collect();
    Leads { quorum_seen_ms: view.quorum_seen.map(millis), others }
}

fn place(member: &types::Member) -> Place {
    let types::Member { agent, address, zone } = member.clone();
    Place { pod: agent, address, zone }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
