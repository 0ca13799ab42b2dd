//! A group is a log, of whatever size, at whichever member.

use std::sync::Arc;

use async_trait::async_trait;
use decree_sidecar::log::raft::ask::{Answer, Letter, Proposed, Question};
use decree_sidecar::log::raft::genesis::Genesis;
use decree_sidecar::log::raft::sealed;
use decree_sidecar::log::suite::{self, Factory};
use decree_sidecar::log::{Error, Log};
use decree_wire::position::Position;
use decree_wire::record::Record;
use tokio::sync::Mutex;

use crate::group::{Group, LIMIT, append, command, genesis, id, open_member, read, shared};
use crate::lines::Lines;

/// Groups of so many; the suite sees one member of each.
struct Groups {
    size: usize,
    member: usize,
    last: Mutex<Option<Group>>,
}

#[async_trait]
impl Factory for Groups {
    async fn create(&self) -> Arc<dyn Log> {
        let group = Group::of(self.size).await;
        let log = shared(group.at(self.member));
        let before = self.last.lock().await.replace(group);
        if let Some(before) = before {
            before.close().await;
        }
        log
    }

    async fn recreate(&self, _: Arc<dyn Log>) -> Arc<dyn Log> {
        self.create().await
    }

    /// What a stranger proposes comes with whatever record it made.
    async fn plain(&self, _: &Arc<dyn Log>, record: Record) -> Position {
        let group = self.last.lock().await;
        let group = group.as_ref().unwrap();
        let leader = group.at(group.leader().await);
        let question = Question::Propose(vec![sealed::seal(&record)]);
        let incarnation = leader.incarnation().await.unwrap().0;
        let letter = Letter { incarnation, from: 0, to: leader.id(), question };
        match leader.answer(letter).await.unwrap() {
            Answer::Propose(answers) => match answers.as_slice() {
                [Proposed::Ordered(index)] => Position(*index),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
}

async fn suite_of(size: usize, member: usize) {
    suite::all(&Groups { size, member, last: Mutex::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_member_is_a_log() {
    suite_of(1, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_members_are_a_log_at_the_first() {
    suite_of(3, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_members_are_a_log_at_the_last() {
    suite_of(3, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_appends_and_all_read_the_same() {
    let group = Group::begun(3, 1_000_000).await;
    let mut last = Position(0);
    for n in 0..60 {
        let at = append(group.at(n % 3), n).await;
        assert!(at > last && at.0 >= 1_000_000, "{at} after {last}");
        last = at;
    }
    let mut seen = Vec::new();
    for member in group.all() {
        let head = member.head().await.unwrap();
        assert!(head > last);
        seen.push(read(member, Position(1_000_000), head).await);
    }
    assert_eq!(
        seen[0].iter().map(id).collect::<Vec<_>>(),
        (0..60).map(|n| n.to_string()).collect::<Vec<_>>()
    );
    assert!(seen[0].windows(2).all(|pair| pair[0].entry.log_time <= pair[1].entry.log_time));
    assert!(seen[0].iter().all(|stored| stored.mark.leader_epoch.is_some()));
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_is_behind_whatever_any_member_was_told() {
    let group = Group::of(3).await;
    let appender = tokio::spawn({
        let logs: Vec<_> = group.all().map(shared).collect();
        let (told, seen) = tokio::sync::watch::channel(Position(0));
        let heads = tokio::spawn(async move {
            let mut asked = 0;
            while seen.has_changed().is_ok() {
                let told = *seen.borrow();
                let head = logs[asked % 3].head().await.unwrap();
                assert!(head > told, "{told} was acknowledged, the head is {head}");
                asked += 1;
            }
            asked
        });
        let log = shared(group.at(1));
        async move {
            for n in 0..300 {
                told.send_replace(log.append(&command(n)).await.unwrap());
            }
            drop(told);
            heads.await.unwrap()
        }
    });
    let asked = tokio::time::timeout(LIMIT, appender).await.unwrap().unwrap();
    assert!(asked > 10, "only {asked} heads were asked for");
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_groups_member_is_refused() {
    let (one, other) = (Group::of(1).await, Group::of(1).await);
    let member = one.at(0);
    let incarnation = other.at(0).incarnation().await.unwrap().0;
    let letter = Letter { incarnation, from: 7, to: member.id(), question: Question::Head };
    let refused = member.answer(letter).await.unwrap_err().to_string();
    assert!(refused.contains("incarnation"), "{refused}");
    let incarnation = member.incarnation().await.unwrap().0;
    let letter = Letter { incarnation, from: 7, to: member.id() + 1, question: Question::Head };
    assert!(member.answer(letter).await.is_err(), "an address may have become another member's");
    one.close().await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_belongs_to_no_group_says_so_and_keeps_few_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let log = open_member(folder.path(), &genesis(0), Lines::default().of("x")).await.unwrap();
    let appends = (0..20_000).map(|n| {
        let log = log.clone();
        tokio::spawn(async move { log.append(&command(n)).await })
    });
    let (mut full, mut unreachable) = (0, 0);
    for append in appends.collect::<Vec<_>>() {
        match tokio::time::timeout(LIMIT, append).await.expect("in time").unwrap() {
            Err(Error::Full) => full += 1,
            Err(Error::Unreachable(why)) if why.contains("nobody leads") => unreachable += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(full > 5_000 && unreachable > 4_000, "{full} {unreachable}");
    let head = log.head().await;
    assert!(matches!(head, Err(Error::Unreachable(_))), "{head:?}");
    log.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_of_another_incarnation_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let open = async |genesis: &Genesis| open_member(folder.path(), genesis, Lines::default().of("x")).await;
    let (one, other) = (genesis(0), genesis(0));
    let log = open(&one).await.unwrap();
    let id = log.id();
    log.close().await;
    drop(log);
    let until = tokio::time::Instant::now() + LIMIT;
    let error = loop {
        match open(&other).await {
            Err(Error::Invalid(why)) if why.contains("locked") && tokio::time::Instant::now() < until => {}
            other => break other.unwrap_err(),
        }
    };
    assert!(matches!(error, Error::Replaced(_)), "{error}");
    let again = loop {
        match open(&one).await {
            Err(Error::Invalid(why)) if why.contains("locked") && tokio::time::Instant::now() < until => {}
            other => break other.unwrap(),
        }
    };
    assert_eq!(again.id(), id, "an id belongs to its disk");
    again.close().await;
}
