//! Three sidecars order among themselves, with no Kafka: what one acknowledged all apply, once and in one order, whoever dies.

#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on says so
#![allow(dead_code)] // shared with the tests on Kafka and of the transport

#[path = "process/application.rs"]
mod application;
#[path = "peers/authority.rs"]
mod authority;
#[path = "process/client.rs"]
mod client;
#[path = "group/member.rs"]
mod member;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use client::until;
use member::Members;

#[test]
fn three_sidecars_form_a_group_and_what_is_proposed_anywhere_is_applied_everywhere() {
    let mut members = Members::new(3);
    members.start();
    members.until_ready();
    until("all three vote", || members.voters() == 3);
    for n in 0..30 {
        let answer = members.all[n % 3].propose(&format!("id-{n}"), &n.to_string());
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    let expected: Vec<_> = (0..30).map(|n| n.to_string()).collect();
    for member in &members.all {
        until("all is applied", || member.application.taken() == expected);
        until("the leader has its heartbeat", || {
            member.status()["heartbeats"]["sequence"].as_u64().is_some_and(|sequence| sequence > 0)
        });
        println!("{}: {} KiB at most", member.pod, member.most_kib());
    }
    members.certify(0);
    until("another certificate is taken", || {
        members.all[1].propose("after", "after").status == 202 && members.voters() == 3
    });

    let leader = members.leader().unwrap();
    let took = members.all[leader].terminate();
    assert!(took < Duration::from_secs(4), "{took:?}");
    let other = (leader + 1) % 3;
    let begun = Instant::now();
    until("another one orders", || members.all[other].propose("handed", "handed").status == 202);
    println!("hand-over: ended within {took:?}, the next proposal after {:?}", begun.elapsed());
}

#[test]
fn the_leader_is_killed_under_load_and_nothing_acknowledged_is_lost_or_applied_twice() {
    let mut members = Members::new(3);
    members.start();
    members.until_ready();
    until("all three vote", || members.voters() == 3);
    let acknowledged = Mutex::new(BTreeSet::new());
    let (stop, next) = (AtomicBool::new(false), AtomicUsize::new(0));
    let proposed = || acknowledged.lock().unwrap().len();
    let doors: Vec<_> = members.all.iter().map(member::Member::api).collect();
    let mut fail_overs = Vec::new();
    std::thread::scope(|scope| {
        let _end = End(&stop);
        for _ in 0..6 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let n = next.fetch_add(1, Ordering::SeqCst);
                    propose(&doors, n);
                    acknowledged.lock().unwrap().insert(n);
                }
            });
        }
        for _ in 0..2 {
            let before = proposed();
            until("proposals are ordered", || proposed() > before + 60);
            let leader = members.leader().unwrap();
            members.all[leader].kill();
            let (killed, before) = (Instant::now(), proposed());
            until("another one leads", || proposed() > before + 6);
            fail_overs.push(killed.elapsed());
            members.all[leader].start();
            until("it is back", || {
                members.all[leader].heal();
                members.all[leader].status()["ready"] == true
            });
        }
    });
    let acknowledged: BTreeSet<_> = acknowledged.into_inner().unwrap();
    println!("{} acknowledged, fail-overs {fail_overs:?}", acknowledged.len());
    let all: Vec<_> = acknowledged.iter().map(ToString::to_string).collect();
    let has_all = |taken: &[String]| {
        let taken: BTreeSet<_> = taken.iter().collect();
        all.iter().all(|n| taken.contains(n))
    };
    for member in &mut members.all {
        until("all is applied", || !member.heal() && has_all(&member.application.taken()));
    }
    let orders: Vec<_> = members.all.iter().map(|member| member.application.taken()).collect();
    let once: BTreeSet<_> = orders[0].iter().collect();
    assert_eq!(once.len(), orders[0].len(), "nothing is applied twice");
    for order in &orders[1..] {
        assert_eq!(order, &orders[0], "one order");
    }
}

/// Lets the proposers end, also when the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Until some agent has ordered it.
fn propose(doors: &[std::net::SocketAddr], n: usize) {
    let begun = Instant::now();
    for attempt in n.. {
        let headers = [("ce-id", &*format!("id-{n}")), ("prefer", "respond-async")];
        let answer =
            client::request(doors[attempt % doors.len()], "POST", "/v1/commands", &headers, &n.to_string());
        if answer.status == 202 {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{n}: {answer:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_member_that_lost_its_disk_comes_back_as_another_and_begins_no_second_history() {
    let mut members = Members::new(3);
    members.start();
    members.until_ready();
    until("all three vote", || members.voters() == 3);
    for n in 0..10 {
        assert_eq!(members.all[1].propose(&format!("id-{n}"), &n.to_string()).status, 202);
    }
    let lost = members.all[0].status()["group"]["member"].clone();
    members.all[0].kill();
    members.all[0].lose_disk();
    members.all[0].another_life();
    members.all[0].start();
    until("its pod is another member, and the old one is gone", || {
        let Some(leader) = members.leader() else { return false };
        let seen = members.all[leader].status()["group"]["members"].as_array().cloned().unwrap_or_default();
        let votes =
            |pod: &str| seen.iter().filter(|member| member["pod"] == pod && member["voter"] == true).count();
        seen.len() == 3 && votes("a-0") == 1 && seen.iter().all(|member| member["id"] != lost)
    });
    assert_eq!(members.all[2].propose("after", "after").status, 202);
    let mut expected: Vec<_> = (0..10).map(|n| n.to_string()).collect();
    expected.push("after".into());
    for member in &members.all {
        until("all is applied", || member.application.taken() == expected);
    }
}

#[test]
fn a_gigabyte_of_nonsense_on_the_peers_port_costs_no_memory_and_is_counted() {
    let mut members = Members::new(3);
    members.start();
    members.until_ready();
    let member = &members.all[0];
    let before = member.most_kib();
    let nonsense = vec![0xd6; 1 << 20];
    let mut offered = 0_usize;
    while offered < 1 << 30 {
        let mut stream = TcpStream::connect(member.peers()).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        for _ in 0..64 {
            offered += nonsense.len();
            if stream.write_all(&nonsense).is_err() {
                break;
            }
        }
    }
    let grown = member.most_kib().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB");
    until("it is counted", || member.metrics().contains("reason=\"handshake\""));
    assert_eq!(member.propose("still", "here").status, 202);
}
