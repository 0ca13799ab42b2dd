//! The group as one of its members sees it.

use std::collections::BTreeSet;
use std::time::Duration;

use decree_wire::member::Role;
use openraft::{Instant as _, ServerState};

use super::local::Local;
use super::types::{LogId, Member, MemberId, Metrics};

/// A group as one of its members sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Who sees it so.
    pub id: MemberId,
    /// Its part.
    pub role: Role,
    /// Who leads.
    pub leader: Option<MemberId>,
    /// The term.
    pub term: u64,
    /// The last entry that is here.
    pub last: Option<u64>,
    /// The index behind the last entry that is known to be committed.
    pub committed: u64,
    /// The index behind the last entry that is applied here.
    pub applied: u64,
    /// Where the membership stands in the log: a change is of this one, or refused.
    pub at: Option<LogId>,
    /// Whether it is known to be committed.
    pub settled: bool,
    /// The voters; two sets while a change is under way.
    pub voters: Vec<BTreeSet<MemberId>>,
    /// All that belong to it.
    pub members: Vec<Seen>,
    /// Of the leader: how long ago a quorum last agreed that it leads.
    pub quorum_seen: Option<Duration>,
}

/// A member as the leader sees it; what only the leader knows is there on the leader alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its id.
    pub id: MemberId,
    /// Where it is.
    pub member: Member,
    /// Whether it votes, in every majority that is needed.
    pub voter: bool,
    /// The index behind the last entry that it certainly has.
    pub matched: Option<u64>,
    /// How long ago it answered last.
    pub seen: Option<Duration>,
}

/// The group as this member sees it.
#[must_use]
pub fn view(local: &Local) -> View {
    let metrics = local.metrics();
    let membership = &metrics.membership_config;
    let voters = membership.membership().get_joint_config();
    // In a change that was cut in half, who is to vote does not yet in every majority: the change is to be made again.
    let votes = |id: &MemberId| !voters.is_empty() && voters.iter().all(|voters| voters.contains(id));
    let next = |id: &Option<LogId>| id.map_or(0, |id| id.index() + 1);
    let members = membership.nodes().map(|(id, member)| {
        let matched = metrics.replication.as_ref().and_then(|all| all.get(id)).copied().flatten();
        let heard = metrics.heartbeat.as_ref().and_then(|all| all.get(id)).copied().flatten();
        Seen {
            id: *id,
            member: member.clone(),
            voter: votes(id),
            matched: matched.map(|matched| matched.index() + 1),
            seen: heard.map(|heard| heard.elapsed()),
        }
    });
    View {
        id: local.id(),
        role: role(&metrics),
        leader: metrics.current_leader,
        term: metrics.current_term,
        last: metrics.last_log_index,
        committed: next(&metrics.cluster_committed.max(metrics.local_committed)),
        applied: next(&metrics.last_applied),
        at: *membership.log_id(),
        settled: metrics.committed_membership_config.log_id() == membership.log_id(),
        voters: voters.clone(),
        members: members.collect(),
        quorum_seen: quorum_seen(&metrics),
    }
}

fn role(metrics: &Metrics) -> Role {
    let membership = &metrics.membership_config;
    match metrics.state {
        _ if membership.get_node(&metrics.id).is_none() => Role::Outside,
        ServerState::Learner => Role::Learner,
        ServerState::Follower => Role::Follower,
        ServerState::Candidate => Role::Candidate,
        ServerState::Leader => Role::Leader,
        ServerState::Shutdown => Role::Outside,
    }
}

/// A leader that is a quorum by itself asks nobody.
fn quorum_seen(metrics: &Metrics) -> Option<Duration> {
    let voters = metrics.membership_config.membership().get_joint_config();
    if metrics.state != ServerState::Leader {
        return None;
    }
    if voters.iter().all(|voters| voters.len() == 1 && voters.contains(&metrics.id)) {
        return Some(Duration::ZERO);
    }
    metrics.last_quorum_acked.map(|acked| acked.elapsed())
}
