//! What was trimmed is gone, the rest stays where it is; a new member gets the rest.

use std::time::Duration;

use decree_sidecar::log::raft::membership::Change;
use decree_sidecar::log::{Error, Log};
use decree_wire::position::Position;

use crate::group::{Group, append, eventually, id, read};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_member_gets_what_the_others_have_kept() {
    let mut group = Group::of(1).await;
    let mut told = Vec::new();
    for n in 0..20 {
        told.push(append(group.at(0), n).await);
    }
    group.at(0).trim(told[12]).await.unwrap();
    assert_eq!(group.at(0).earliest().await.unwrap(), told[12]);
    group.grow().await;
    let newcomer = group.at(1);
    let last = append(newcomer, "last").await;
    let seen = read(newcomer, told[12], last).await;
    assert_eq!(seen.iter().map(id).collect::<Vec<_>>(), (12..20).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(newcomer.earliest().await.unwrap(), told[12]);
    let mut reader = newcomer.read(Position(0)).await.unwrap();
    let trimmed = reader.next(Duration::from_secs(1)).await;
    assert!(matches!(trimmed, Err(Error::Trimmed { .. })), "{trimmed:?}");
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trim_outlives_the_member_and_comes_again() {
    let mut group = Group::of(1).await;
    let mut told = Vec::new();
    for n in 0..30 {
        told.push(append(group.at(0), n).await);
    }
    for at in [told[5], told[5], told[3], told[20]] {
        group.at(0).trim(at).await.unwrap();
    }
    group.kill(0);
    group.revive(0).await;
    assert_eq!(group.at(0).earliest().await.unwrap(), told[20]);
    let last = append(group.at(0), "last").await;
    let seen = read(group.at(0), told[20], last).await;
    assert_eq!(seen.len(), 10);
    let behind = group.at(0).trim(Position(last.0 + 10)).await;
    assert!(matches!(behind, Err(Error::Invalid(_))), "{behind:?}");
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_leaves_and_the_others_go_on() {
    let group = Group::of(3).await;
    let leader = group.leader().await;
    let leaver = (leader + 1) % 3;
    eventually("the member is removed", async || {
        let gone = Change::Remove { id: group.at(leaver).id(), stays: false };
        group.at(group.leader().await).change(None, gone).await.is_ok()
    })
    .await;
    let view = group.at(leader).view();
    assert_eq!(view.members.iter().filter(|seen| seen.voter).count(), 2);
    assert!(view.members.iter().all(|seen| seen.id != group.at(leaver).id()), "{view:?}");
    append(group.at(leader), "after").await;
    group.close().await;
}
