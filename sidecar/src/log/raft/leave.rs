//! A voter that is to end stays until somebody else votes in its place: who was removed is not told so by the log, and asks.

use std::time::Duration;

use futures::future::join_all;
use openraft::async_runtime::WatchReceiver;
use tokio::time::sleep;

use super::ask::{Answer, Question};
use super::local::{Leader, Local};
use super::types::{Member, MemberId};

/// Between two looks.
const PACE: Duration = Duration::from_millis(500);
/// How long one member may take to answer.
const TURN: Duration = Duration::from_secs(1);

/// Waits until this member does not vote any more, as far as it knows itself or as the leader says. May be dropped.
pub async fn let_go(local: &Local) {
    while voters(local, false).contains(&local.id()) {
        // The leader as this member knows it may have been another one since it was removed.
        let asked = others(local).into_iter().map(|(id, member)| async move {
            let answer = local.ask((id, &member), Question::Needed, TURN).await;
            matches!(answer, Ok(Answer::Needed(Some(false))))
        });
        if join_all(asked).await.contains(&true) {
            return;
        }
        sleep(PACE).await;
    }
}

/// What the leader says of a member's vote, for certain; none if this member does not lead.
pub fn needed(local: &Local, member: MemberId) -> Option<bool> {
    let needed = || voters(local, true).contains(&member) || voters(local, false).contains(&member);
    (local.leader() == Leader::Me).then(needed)
}

/// The voters as this member knows them; or those that it knows for certain.
fn voters(local: &Local, certain: bool) -> Vec<MemberId> {
    let metrics = local.raft.server_metrics();
    let metrics = metrics.borrow_watched();
    let known = if certain { &metrics.committed_membership_config } else { &metrics.membership_config };
    known.voter_ids().collect()
}

fn others(local: &Local) -> Vec<(MemberId, Member)> {
    let metrics = local.raft.server_metrics();
    let metrics = metrics.borrow_watched();
    let members = metrics.membership_config.nodes().filter(|(id, _)| **id != local.id());
    members.map(|(id, member)| (*id, member.clone())).collect()
}
