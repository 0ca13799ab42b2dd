//! A member that is killed with SIGKILL at any instruction has everything that it acknowledged.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use decree_sidecar::log::Log;
use decree_sidecar::log::raft::RaftLog;
use decree_sidecar::log::raft::genesis::Genesis;
use decree_wire::position::{Incarnation, Position};

use crate::group::{append, id, member, open_member, read};
use crate::lines::Lines;

const FOLDER: &str = "DECREE_TEST_RAFT_KILL";
const KILLS: u64 = 15;

fn genesis() -> Genesis {
    Genesis::fixed(Incarnation("kill".into()))
}

async fn open(folder: PathBuf) -> RaftLog {
    let log = open_member(&folder, &genesis(), Lines::default().of("x")).await.unwrap();
    log.initialize(member(0)).await.unwrap();
    log
}

/// The victim: appends, and writes down what was acknowledged, until it is killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the test below, in a process of its own"]
async fn victim() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let log = open(folder.join("0")).await;
    let life = std::process::id();
    let clients = (0..8).map(|client| {
        let (log, told) = (log.clone(), folder.join("told"));
        tokio::spawn(async move {
            let mut told = OpenOptions::new().append(true).create(true).open(told).unwrap();
            for n in 0_u64.. {
                let id = format!("{life}-{client}-{n}");
                let position = append(&log, &id).await;
                told.write_all(format!("{id} {position}\n").as_bytes()).unwrap();
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
}

fn told(folder: &Path) -> BTreeMap<String, Position> {
    let text = fs::read_to_string(folder.join("told")).unwrap_or_default();
    let line = |line: &str| {
        let (id, position) = line.split_once(' ').unwrap();
        (id.to_owned(), Position(position.parse().unwrap()))
    };
    text.lines().map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_sigkill_at_any_instruction() {
    let folder = tempfile::tempdir().unwrap();
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    for kill in 0..KILLS {
        let before = told(folder.path()).len();
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::victim", "--ignored", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        crate::group::eventually("the victim appends", async || {
            assert!(victim.try_wait().unwrap().is_none(), "the victim ended by itself");
            told(folder.path()).len() > before + 20
        })
        .await;
        tokio::time::sleep(Duration::from_micros((seed * 7919 + kill * 104_729) % 50_000)).await;
        victim.kill().unwrap();
        victim.wait().unwrap();
    }
    let told = told(folder.path());
    let log = open(folder.path().join("0")).await;
    let last = append(&log, "last").await;
    let seen = read(&log, Position(0), last.next()).await;
    let places: BTreeMap<_, _> = seen.iter().map(|stored| (id(stored), stored.entry.position)).collect();
    for (id, position) in &told {
        assert_eq!(places.get(id), Some(position), "{id} was acknowledged");
    }
    println!("{} acknowledged, {} there, {KILLS} kills", told.len(), seen.len());
    assert!(log.head().await.unwrap() > last);
    log.close().await;
}
