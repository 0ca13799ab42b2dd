//! Another voter leads, before this one ends or because the operator says so.

use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use tokio::time::{Instant, timeout};

use super::local::{Leader, Local};
use super::membership::Error;
use super::types::MemberId;
use super::view::{View, view};

/// How long one other member gets to take over.
const TURN: Duration = Duration::from_secs(1);
/// The same where it is this one or none.
const LIMIT: Duration = Duration::from_secs(5);

/// If this member leads, lets this voter lead.
///
/// # Errors
/// If this member does not lead, the other one does not vote, or it does not lead within a few seconds.
pub async fn to(local: &Local, to: MemberId) -> Result<(), Error> {
    let View { leader, members, id, .. } = view(local);
    if local.leader() != Leader::Me {
        return Err(Error::NotLeader(leader));
    }
    if to == id {
        return Ok(());
    }
    if !members.iter().any(|seen| seen.id == to && seen.voter) {
        return Err(Error::Refused(format!("member {to:016x} does not vote")));
    }
    if turn(local, to, LIMIT).await {
        return Ok(());
    }
    Err(Error::Unknown(format!("nobody else leads after {LIMIT:?}")))
}

/// If this member leads, lets another one lead, the most advanced first; gives whether it no longer leads.
pub async fn to_any(local: &Local, limit: Duration) -> bool {
    let until = Instant::now() + limit;
    for to in heirs(local) {
        if local.leader() != Leader::Me || Instant::now() >= until {
            break;
        }
        if turn(local, to, TURN.min(until.saturating_duration_since(Instant::now()))).await {
            return true;
        }
    }
    local.leader() != Leader::Me
}

/// Whether another one leads within the limit.
async fn turn(local: &Local, to: MemberId, limit: Duration) -> bool {
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
    timeout(limit, other).await.is_ok()
}

/// Who else votes: the most advanced first, and of those who was heard last.
fn heirs(local: &Local) -> Vec<MemberId> {
    let mut others: Vec<_> =
        view(local).members.into_iter().filter(|seen| seen.voter && seen.id != local.id()).collect();
    others.sort_by_key(|seen| (std::cmp::Reverse(seen.matched), seen.seen.unwrap_or(Duration::MAX)));
    others.into_iter().map(|seen| seen.id).collect()
}
