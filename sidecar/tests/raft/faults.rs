//! Members are killed and cut off while entries are appended: whatever was acknowledged is read once by all, in one
//! order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use decree_sidecar::log::raft::ask::{Answer, Letter, Proposed, Question};
use decree_sidecar::log::raft::sealed;
use decree_sidecar::log::{Error, Log};
use decree_wire::position::Position;
use decree_wire::record::Record;
use futures::future::join_all;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::group::{Group, TIMEOUT, address, append, command, eventually, id, read, shared};

/// So much is acknowledged before a run ends, by all clients together: a machine that is busy needs longer for it.
const ACKNOWLEDGED: usize = 60;

/// Appends without pause; each id once only.
struct Client {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    task: JoinHandle<(BTreeMap<String, Position>, u64)>,
}

impl Client {
    fn start(name: usize, log: Arc<dyn Log>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let (stopped, count) = (stop.clone(), acknowledged.clone());
        let task = tokio::spawn(async move {
            let (mut told, mut unknown) = (BTreeMap::new(), 0);
            for n in 0_u64.. {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let id = format!("{name}-{n}");
                match log.append(&command(&id)).await {
                    Ok(position) => {
                        told.insert(id, position);
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(Error::Unknown(_)) => unknown += 1,
                    Err(Error::Unreachable(_) | Error::Full) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            (told, unknown)
        });
        Self { stop, acknowledged, task }
    }

    async fn end(self) -> (BTreeMap<String, Position>, u64) {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap()
    }
}

/// Waits until so much is acknowledged by all together.
async fn acknowledged(clients: &[Client], count: usize) {
    let sum = || clients.iter().map(|client| client.acknowledged.load(Ordering::SeqCst)).sum::<usize>();
    eventually("clients get on", async || sum() >= count).await;
}

/// What every member reads is the same, holds nothing twice, and all that was acknowledged at its place.
async fn judge(group: &Group, clients: Vec<Client>) {
    acknowledged(&clients, ACKNOWLEDGED).await;
    let (mut told, mut unknown) = (BTreeMap::new(), 0);
    for client in clients {
        let (positions, lost) = client.end().await;
        told.extend(positions);
        unknown += lost;
    }
    let last = append(group.at(0), "last").await;
    let mut seen = Vec::new();
    for member in group.all() {
        seen.push(read(member, Position(0), last.next()).await);
    }
    for (n, other) in seen.iter().enumerate() {
        assert_eq!(&seen[0], other, "member {n} read something else");
    }
    let mut places = BTreeMap::new();
    for stored in &seen[0] {
        let before = places.insert(id(stored), stored.entry.position);
        assert_eq!(before, None, "{} is there twice", id(stored));
    }
    for (id, position) in &told {
        assert_eq!(places.get(id), Some(position), "{id} was acknowledged");
    }
    assert!(seen[0].windows(2).all(|pair| pair[0].entry.log_time <= pair[1].entry.log_time));
    println!("{} acknowledged, {unknown} unknown, {} read", told.len(), seen[0].len());
}

async fn progress(group: &Group, at: usize) {
    append(group.at(at), format!("progress-{}", uuid::Uuid::new_v4())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_that_are_killed_take_nothing_with_them() {
    let mut group = Group::of(3).await;
    for round in 0..3 {
        let leader = group.leader().await;
        let others: Vec<_> = (0..3).filter(|n| *n != leader).collect();
        let clients: Vec<_> =
            others.iter().map(|n| Client::start(round * 10 + n, shared(group.at(*n)))).collect();
        acknowledged(&clients, ACKNOWLEDGED / 2).await;
        group.kill(leader);
        progress(&group, others[0]).await;
        group.revive(leader).await;
        progress(&group, leader).await;
        judge(&group, clients).await;
        // The next round begins with a log of its own.
        group.close().await;
        group = Group::of(3).await;
    }
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_acknowledges_nothing() {
    let group = Group::of(3).await;
    let leader = group.leader().await;
    let clients: Vec<_> = (0..3).map(|n| Client::start(n, shared(group.at(n)))).collect();
    acknowledged(&clients, ACKNOWLEDGED / 2).await;
    group.cut_off(leader);
    let other = group.leader_but(leader).await;
    progress(&group, other).await;
    let stale = group.at(leader).head().await;
    assert!(matches!(stale, Err(Error::Unreachable(_))), "a leader without a quorum said {stale:?}");
    group.lines.mend();
    progress(&group, leader).await;
    judge(&group, clients).await;
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_paused_says_nothing_that_is_not_so_any_more() {
    let group = Group::of(3).await;
    let clients = (0..3).map(|n| Client::start(n, shared(group.at(n)))).collect();
    for _ in 0..2 {
        let leader = group.leader().await;
        sleep(TIMEOUT).await;
        let pause = 6 * TIMEOUT;
        group.pause(leader, pause);
        let resumes = Instant::now() + pause;
        let other = group.leader_but(leader).await;
        let told = append(group.at(other), format!("meanwhile-{}", uuid::Uuid::new_v4())).await;
        assert!(Instant::now() < resumes, "the pause was over before another one led");
        // Asked while it still believes that it leads.
        if let Ok(head) = group.at(leader).head().await {
            assert!(head > told, "{told} was acknowledged, the head is {head}");
        }
        progress(&group, leader).await;
    }
    judge(&group, clients).await;
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_are_cut_in_one_direction_lose_nothing() {
    let group = Group::of(3).await;
    let clients = (0..3).map(|n| Client::start(n, shared(group.at(n)))).collect();
    for round in 0..4 {
        let leader = group.leader().await;
        let other = (leader + 1 + round % 2) % 3;
        let (from, to) = if round < 2 { (leader, other) } else { (other, leader) };
        group.lines.cut(&address(from), &address(to));
        sleep(2 * TIMEOUT).await;
        group.lines.mend();
        progress(&group, other).await;
    }
    judge(&group, clients).await;
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_away_and_asks_to_lead_deposes_nobody() {
    let group = Group::of(3).await;
    let leader = group.leader().await;
    let away = (leader + 1) % 3;
    let term = group.at(leader).view().term;
    group.cut_off(away);
    sleep(6 * TIMEOUT).await;
    group.lines.mend();
    progress(&group, away).await;
    assert_eq!(group.at(leader).view().term, term, "a vote was asked for that could not be won");
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_members_end_at_once_and_everything_is_there_again() {
    let mut group = Group::of(3).await;
    let mut told = Vec::new();
    for n in 0..50 {
        told.push((append(group.at(n % 3), n).await, n.to_string()));
    }
    for n in 0..3 {
        group.kill(n);
    }
    for n in 0..3 {
        group.revive(n).await;
    }
    let last = append(group.at(1), "last").await;
    for member in group.all() {
        let seen = read(member, Position(0), last).await;
        assert_eq!(seen.iter().map(|s| (s.entry.position, id(s))).collect::<Vec<_>>(), told);
    }
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_hands_over_and_loses_no_proposal() {
    let group = Group::of(3).await;
    let clients = (0..3).map(|n| Client::start(n, shared(group.at(n)))).collect();
    for _ in 0..3 {
        sleep(Duration::from_millis(100)).await;
        let leader = group.leader().await;
        assert!(group.at(leader).hand_over(Duration::from_secs(10)).await, "it still leads");
        let next = group.leader_but(leader).await;
        progress(&group, next).await;
    }
    judge(&group, clients).await;
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_takes_no_more_than_it_may_lose() {
    let group = Group::of(3).await;
    let leader = group.leader().await;
    group.cut_off(leader);
    let member = group.at(leader);
    let (incarnation, id) = (member.incarnation().await.unwrap().0, member.id());
    let record = Record { value: Some(Bytes::from(vec![0; 1 << 20])), headers: Vec::new() };
    let propose = || {
        let question = Question::Propose(vec![sealed::seal(&record)]);
        member.answer(Letter { incarnation: incarnation.clone(), from: id, to: id, question })
    };
    let first = join_all((0..20).map(|_| propose()));
    let then = async {
        eventually("it is full", async || {
            // Until it is, nobody is told what becomes of one that was taken.
            let soon = tokio::time::timeout(Duration::from_millis(100), propose()).await;
            soon.is_ok_and(|answer| answer == Ok(Answer::Propose(vec![Proposed::Full])))
        })
        .await;
    };
    let (taken, ()) = tokio::join!(first, then);
    assert_eq!(taken.len(), 20);
    group.lines.mend();
    progress(&group, leader).await;
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_with_slow_disks_make_it_slow_and_depose_nobody() {
    let group = Group::of(3).await;
    let leader = group.leader().await;
    let term = group.at(leader).view().term;
    let clients = (0..3).map(|n| Client::start(n, shared(group.at(n)))).collect();
    sleep(TIMEOUT).await;
    // Twice as long as a leader may be silent.
    group.lines.slow(2 * TIMEOUT);
    sleep(8 * TIMEOUT).await;
    group.lines.slow(Duration::ZERO);
    progress(&group, leader).await;
    assert_eq!(group.at(leader).view().term, term, "a leader that is well was deposed");
    judge(&group, clients).await;
    group.close().await;
}
