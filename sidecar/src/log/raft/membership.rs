//! Who belongs to the group: looked at anywhere, changed at the leader, one step at a time.

use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, InitializeError, RaftError};
use openraft::{ChangeMembers, Instant as _, Precondition};
use tokio::time::{Instant, timeout};

use super::local::{Leader, Local};
use super::types::{LogId, Member, MemberId, Members, TypeConfig};

/// How long a change may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How long one other member gets to take over.
const TURN: Duration = Duration::from_secs(1);

/// Why the membership was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// This member does not lead; perhaps it is known who does.
    #[error("this member does not lead the group")]
    NotLeader(Option<MemberId>),
    /// It makes no sense, or not now; nothing was done.
    #[error("the group refused the change: {0}")]
    Refused(String),
    /// It may have been done.
    #[error("nobody can say whether the change was made: {0}")]
    Unknown(String),
}

/// A group as one of its members sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Who sees it so.
    pub id: MemberId,
    /// Who leads.
    pub leader: Option<MemberId>,
    /// The term.
    pub term: u64,
    /// The index behind the last entry that is known to be committed.
    pub committed: u64,
    /// The index behind the last entry that is applied here.
    pub applied: u64,
    /// Where the membership stands in the log: a change is of this one, or refused.
    pub at: Option<LogId>,
    /// All that belong to it.
    pub members: Vec<Seen>,
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
    // In a change that was cut in half, who is to vote does not yet in every majority: the change is to be made again.
    let configs = membership.membership().get_joint_config();
    let votes = |id: &MemberId| !configs.is_empty() && configs.iter().all(|voters| voters.contains(id));
    let next = |id: &Option<LogId>| id.map_or(0, |id| id.index() + 1);
    let members = membership.nodes().map(|(id, member)| {
        let matched = metrics.replication.as_ref().and_then(|all| all.get(id)).map(next);
        let heard = metrics.heartbeat.as_ref().and_then(|all| all.get(id)).copied().flatten();
        Seen {
            id: *id,
            member: member.clone(),
            voter: votes(id),
            matched,
            seen: heard.map(|heard| heard.elapsed()),
        }
    });
    View {
        id: local.id(),
        leader: metrics.current_leader,
        term: metrics.current_term,
        committed: next(&metrics.cluster_committed),
        applied: next(&metrics.last_applied),
        at: *membership.log_id(),
        members: members.collect(),
    }
}

/// Begins the group, with this member alone. Must be called for one member of a group, ever; again for that one, does
/// nothing.
///
/// # Errors
/// If this member can't.
pub async fn initialize(local: &Local) -> Result<(), Error> {
    let members = Members::from([(local.id(), local.member.clone())]);
    match local.raft.initialize(members).await {
        // It has a log, or has voted: it belongs to a group.
        Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
        Err(error) => Err(Error::Refused(error.to_string())),
    }
}

/// Adds a member that gets the log and does not vote.
///
/// # Errors
/// As [`Error`] lists.
pub async fn add_learner(local: &Local, id: MemberId, member: Member) -> Result<(), Error> {
    change(local, ChangeMembers::AddNodes(Members::from([(id, member)]))).await
}

/// Says where a member is found from now on.
///
/// # Errors
/// As [`Error`] lists.
pub async fn relocate(local: &Local, id: MemberId, member: Member) -> Result<(), Error> {
    change(local, ChangeMembers::SetNodes(Members::from([(id, member)]))).await
}

/// Lets a member vote that belongs to the group already.
///
/// # Errors
/// As [`Error`] lists.
pub async fn promote(local: &Local, id: MemberId) -> Result<(), Error> {
    change(local, ChangeMembers::AddVoterIds([id].into())).await
}

/// Removes a member.
///
/// # Errors
/// As [`Error`] lists.
pub async fn remove(local: &Local, id: MemberId) -> Result<(), Error> {
    let voter = local.metrics().membership_config.voter_ids().any(|voter| voter == id);
    let change_members = if voter {
        ChangeMembers::RemoveVoters([id].into())
    } else {
        ChangeMembers::RemoveNodes([id].into())
    };
    change(local, change_members).await
}

/// A change of the membership that this member knows; of another one, it is refused.
async fn change(local: &Local, change: ChangeMembers<MemberId, Member>) -> Result<(), Error> {
    let known = *local.metrics().membership_config.log_id();
    let still = Precondition::LastMembershipLogId { last_membership_log_id: known };
    match timeout(LIMIT, local.raft.change_membership_if(change, false, [still])).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(refused(error)),
        Err(_) => Err(Error::Unknown(format!("no quorum has agreed within {LIMIT:?}"))),
    }
}

fn refused(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Error {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => Error::NotLeader(to.leader_id),
        RaftError::APIError(
            error @ (ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_)),
        ) => Error::Refused(error.to_string()),
        RaftError::APIError(error @ ClientWriteError::LogEntryDiscarded(_)) => {
            Error::Unknown(error.to_string())
        }
        RaftError::Fatal(error) => Error::Unknown(error.to_string()),
    }
}

/// If this member leads, lets another one lead, the most advanced first; gives whether it no longer leads.
pub async fn hand_over(local: &Local, limit: Duration) -> bool {
    let until = Instant::now() + limit;
    for to in heirs(local) {
        if local.leader() != Leader::Me || Instant::now() >= until {
            break;
        }
        if local.raft.trigger().transfer_leader(to).await.is_err() {
            return true;
        }
        let mut metrics = local.raft.metrics();
        let other = async {
            while metrics.borrow_watched().current_leader.is_none_or(|leader| leader == local.id()) {
                if metrics.changed().await.is_err() {
                    return;
                }
            }
        };
        let turn = TURN.min(until.saturating_duration_since(Instant::now()));
        if timeout(turn, other).await.is_ok() {
            return true;
        }
    }
    local.leader() != Leader::Me
}

/// Who else votes: the most advanced first, and of those who was heard last.
fn heirs(local: &Local) -> Vec<MemberId> {
    let mut others: Vec<_> =
        view(local).members.into_iter().filter(|seen| seen.voter && seen.id != local.id()).collect();
    others.sort_by_key(|seen| (std::cmp::Reverse(seen.matched), seen.seen.unwrap_or(Duration::MAX)));
    others.into_iter().map(|seen| seen.id).collect()
}
