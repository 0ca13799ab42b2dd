//! Who belongs to the group: changed at the leader, one step at a time.

use std::time::Duration;

use openraft::errors::{ClientWriteError, InitializeError, RaftError};
use openraft::{ChangeMembers, Precondition};
use tokio::time::timeout;

use super::local::{Leader, Local};
use super::types::{LogId, Member, MemberId, Members, TypeConfig};
use super::view::{Seen, View, view};

/// How long a change may take.
const LIMIT: Duration = Duration::from_secs(10);

/// A member that is so many entries behind the last certain one has caught up: it gets them faster than others come.
pub const CAUGHT_UP: u64 = 1000;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A member gets the log and does not vote; or it is found there from now on.
    Add(MemberId, Member),
    /// One that belongs to the group votes; who voted in its place does not any more, and still gets the log.
    Promote {
        /// Who.
        id: MemberId,
        /// In whose place.
        instead_of: Option<MemberId>,
    },
    /// One does not vote any more.
    Remove {
        /// Who.
        id: MemberId,
        /// Whether it still gets the log.
        stays: bool,
    },
    /// A change that was cut in half is made whole.
    Settle,
}

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

/// Begins the group, with this member alone, found there. Must be called for one member of a group, ever; again for that
/// one, does nothing.
///
/// # Errors
/// If this member can't.
pub async fn initialize(local: &Local, member: Member) -> Result<(), Error> {
    let members = Members::from([(local.id(), member)]);
    match local.raft.initialize(members).await {
        // It has a log, or has voted: it belongs to a group.
        Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
        Err(error) => Err(Error::Refused(error.to_string())),
    }
}

/// A change in openraft's words, and whether who does not vote any more stays.
type Wanted = (ChangeMembers<MemberId, Member>, bool);

/// Makes a change of the membership that was `seen`, or of the one that this member knows; of another one, it is refused.
/// What is as it should be already is no error.
///
/// # Errors
/// As [`Error`] lists.
pub async fn change(local: &Local, seen: Option<LogId>, change: Change) -> Result<(), Error> {
    let known = view(local);
    if local.leader() != Leader::Me {
        return Err(Error::NotLeader(known.leader));
    }
    if seen.is_some() && seen != known.at {
        return Err(Error::Refused("the membership is another one by now".into()));
    }
    let Some((change, keep)) = wanted(change, &known).map_err(Error::Refused)? else { return Ok(()) };
    let still = Precondition::LastMembershipLogId { last_membership_log_id: known.at };
    match timeout(LIMIT, local.raft.change_membership_if(change, keep, [still])).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(refused(error)),
        Err(_) => Err(Error::Unknown(format!("no quorum has agreed within {LIMIT:?}"))),
    }
}

/// In openraft's words; none: it is so already. Or why not.
fn wanted(change: Change, known: &View) -> Result<Option<Wanted>, String> {
    let of = |id: MemberId| known.members.iter().find(|seen| seen.id == id);
    let votes = |id: MemberId| known.voters.iter().any(|voters| voters.contains(&id));
    let stranger = |id: MemberId| format!("member {id:016x} does not belong to the group");
    Ok(match change {
        Change::Add(id, member) => match of(id) {
            None => Some((ChangeMembers::AddNodes([(id, member)].into()), true)),
            Some(seen) if seen.member == member => None,
            Some(_) => Some((ChangeMembers::SetNodes([(id, member)].into()), true)),
        },
        Change::Promote { id, instead_of } => {
            let Seen { voter, matched, .. } = of(id).ok_or_else(|| stranger(id))?;
            let behind = matched.map_or(u64::MAX, |matched| known.committed.saturating_sub(matched));
            if !voter && behind > CAUGHT_UP {
                let has = matched.unwrap_or_default();
                return Err(format!(
                    "member {id:016x} has {has} of {} entries, and has to catch up before it votes",
                    known.committed
                ));
            }
            let mut voters = known.voters.last().cloned().unwrap_or_default();
            if let Some(leaver) = instead_of.filter(|leaver| *leaver != id && !voters.remove(leaver)) {
                return Err(format!("member {leaver:016x} does not vote, so that nobody can take its place"));
            }
            voters.insert(id);
            (known.voters != [voters.clone()]).then_some((ChangeMembers::ReplaceAllVoters(voters), true))
        }
        Change::Remove { id, stays } if votes(id) => Some((ChangeMembers::RemoveVoters([id].into()), stays)),
        Change::Remove { id, stays } => {
            (of(id).is_some() && !stays).then(|| (ChangeMembers::RemoveNodes([id].into()), true))
        }
        // None is added: what is left to do is done.
        Change::Settle => (known.voters.len() > 1).then(|| (ChangeMembers::AddVoterIds([].into()), true)),
    })
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use decree_wire::member::Role;

    use super::*;

    fn member(n: u64) -> Member {
        Member { agent: format!("a-{n}"), address: format!("h:{n}"), zone: String::new() }
    }

    /// 1, 2 and 3 vote; 4 has the log and 5 does not.
    fn known(voters: &[&[u64]]) -> View {
        let matched = |n| if n == 5 { None } else { Some(5_000 - n * 100) };
        let seen = |n| Seen { id: n, member: member(n), voter: n < 4, matched: matched(n), seen: None };
        View {
            id: 1,
            role: Role::Leader,
            leader: Some(1),
            term: 1,
            last: Some(5_000),
            committed: 5_000,
            applied: 5_000,
            at: None,
            settled: true,
            voters: voters.iter().map(|voters| voters.iter().copied().collect()).collect(),
            members: (1..=5).map(seen).collect(),
            quorum_seen: None,
        }
    }

    fn voters(of: &[u64]) -> ChangeMembers<u64, Member> {
        ChangeMembers::ReplaceAllVoters(of.iter().copied().collect::<BTreeSet<_>>())
    }

    #[test]
    fn a_promotion_is_one_change_and_waits_for_the_log() {
        let known = known(&[&[1, 2, 3]]);
        let promote = |id, instead_of| wanted(Change::Promote { id, instead_of }, &known);
        assert_eq!(promote(4, None), Ok(Some((voters(&[1, 2, 3, 4]), true))));
        assert_eq!(promote(4, Some(3)), Ok(Some((voters(&[1, 2, 4]), true))), "3 is a learner afterwards");
        assert_eq!(promote(2, None), Ok(None), "it votes already");
        assert!(promote(5, None).unwrap_err().contains("catch up"));
        assert!(promote(6, None).unwrap_err().contains("does not belong"));
        assert!(promote(4, Some(5)).unwrap_err().contains("does not vote"));
        let far = View { committed: 5_601, ..known.clone() };
        assert_eq!(
            wanted(Change::Promote { id: 4, instead_of: None }, &far).unwrap_err().matches("4600").count(),
            1
        );
    }

    #[test]
    fn what_is_so_already_is_no_change_and_half_a_change_is_made_whole() {
        let whole = known(&[&[1, 2, 3]]);
        let remove = |id, stays| wanted(Change::Remove { id, stays }, &whole);
        assert_eq!(remove(3, false), Ok(Some((ChangeMembers::RemoveVoters([3].into()), false))));
        assert_eq!(remove(3, true), Ok(Some((ChangeMembers::RemoveVoters([3].into()), true))));
        assert_eq!(remove(4, false), Ok(Some((ChangeMembers::RemoveNodes([4].into()), true))));
        assert_eq!((remove(4, true), remove(6, false)), (Ok(None), Ok(None)));
        assert_eq!(wanted(Change::Add(4, member(4)), &whole), Ok(None));
        let moved = [(4, member(9))].into();
        assert_eq!(
            wanted(Change::Add(4, member(9)), &whole),
            Ok(Some((ChangeMembers::SetNodes(moved), true)))
        );
        assert_eq!(wanted(Change::Settle, &whole), Ok(None));
        let half = known(&[&[1, 2, 3], &[1, 2, 4]]);
        assert!(matches!(wanted(Change::Settle, &half), Ok(Some(_))));
        let again = wanted(Change::Promote { id: 4, instead_of: None }, &half);
        assert_eq!(again, Ok(Some((voters(&[1, 2, 4]), true))));
    }
}
