//! Figures of a group in one process, with real disks and no network: run by hand, they decide nothing.
//!
//! `cargo test -p decree-sidecar --release --test raft measure -- --ignored --nocapture --test-threads 1`

use std::sync::Arc;
use std::time::Duration;

use decree_sidecar::log::Log;
use tokio::time::Instant;

use crate::group::{Group, append, command, shared};

fn at(sorted: &[Duration], share: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|share| at(&times, share));
    println!("{what}: {} times, p50 {p50:.1?}, p90 {p90:.1?}, p99 {p99:.1?}", times.len());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn appends() {
    for size in [1, 3] {
        let group = Group::of(size).await;
        let leader = group.leader().await;
        for (where_, member) in [("leader", leader), ("another", (leader + 1) % size)] {
            for clients in [1, 64, 256] {
                let begun = Instant::now();
                let tasks = (0..clients).map(|client| {
                    let log: Arc<dyn Log> = shared(group.at(member));
                    tokio::spawn(async move {
                        let mut times = Vec::new();
                        while begun.elapsed() < Duration::from_secs(3) {
                            let id = format!("{client:0>190}-{}", times.len());
                            let begun = Instant::now();
                            log.append(&command(id)).await.unwrap();
                            times.push(begun.elapsed());
                        }
                        times
                    })
                });
                let mut times = Vec::new();
                for task in tasks.collect::<Vec<_>>() {
                    times.extend(task.await.unwrap());
                }
                let rate = times.len() as f64 / begun.elapsed().as_secs_f64();
                print(&format!("{size} members, at the {where_}, {clients} clients: {rate:.0}/s"), times);
            }
        }
        group.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn fail_over() {
    let mut group = Group::of(3).await;
    let mut times = Vec::new();
    for n in 0..20 {
        let leader = group.leader().await;
        append(group.at((leader + 1) % 3), format!("before-{n}")).await;
        let begun = Instant::now();
        let other = shared(group.at((leader + 1) % 3));
        group.kill(leader);
        append(&*other, format!("after-{n}")).await;
        times.push(begun.elapsed());
        drop(other);
        group.revive(leader).await;
        append(group.at(leader), format!("revived-{n}")).await;
    }
    print("from a kill to the next append, at a timeout of 500 ms", times);
    let mut times = Vec::new();
    for _ in 0..20 {
        let leader = group.leader().await;
        let begun = Instant::now();
        assert!(group.at(leader).hand_over(Duration::from_secs(10)).await);
        append(group.at(leader), "handed over").await;
        times.push(begun.elapsed());
    }
    print("from a hand-over to the next append", times);
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn memory() {
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        format!("{} {}", line("VmRSS"), line("RssAnon"))
    };
    println!("before: {}", resident());
    let group = Group::of(1).await;
    println!("one member, idle: {}", resident());
    for n in 0..20_000 {
        append(group.at(0), format!("{n:0>190}")).await;
    }
    println!("after 20,000 entries: {}", resident());
    group.close().await;
}
