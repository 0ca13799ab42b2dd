//! A disk that is full under a running sidecar: it ends and says why, as often as it is started; once there is room it
//! goes on, and nothing is lost or delivered twice.
//!
//! ```text
//!   test ─▶ keeper (mount namespace of its own, a small tmpfs) ─▶ sidecar, again and again
//! ```

#![allow(clippy::unwrap_used)]

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Output};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use decree_sidecar::app::{App, Connected, Delivery, End, Outcome, Unwell};
use decree_sidecar::life::scripted::ScriptedLife;
use decree_sidecar::log::NewEntry;
use decree_sidecar::log::memory::MemoryLog;
use decree_sidecar::replica::{Config, Replica};
use decree_wire::command::Command;
use decree_wire::control::Control;
use decree_wire::position::{EngineName, Incarnation};
use decree_wire::probe::Restart;
use decree_wire::record;
use decree_wire::settings::{Dedup, Settings};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const FOLDER: &str = "DECREE_TEST_FULL_DISK";
const LIFE: &str = "DECREE_TEST_LIFE";
const COMMANDS: u64 = 6_000;
const LIMIT: Duration = Duration::from_secs(120);
/// The whole disk, and what somebody else has put on it.
const DISK: &str = "24m";
const FILLER: usize = 20 << 20;
/// A sidecar that is told so ends well: the log is applied.
const DONE: i32 = 0;
/// It calls for a restart of its application.
const CALLS: i32 = 3;
/// Its store failed.
const FAILED: i32 = 4;

/// An application whose state is a file that each of its lives begins anew: a line a delivery, written before the
/// answer.
struct Lines(PathBuf);

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lines")
    }
}

#[async_trait]
impl App for Lines {
    async fn connect(&self) -> Result<Connected, Unwell> {
        Ok(Connected::Fresh)
    }

    async fn disconnect(&self) {}

    async fn deliver(&self, delivery: &Delivery<'_>) -> Result<Outcome, End> {
        let mut lines = OpenOptions::new().create(true).append(true).open(&self.0).unwrap();
        writeln!(lines, "{}", delivery.place.position).unwrap();
        Ok(Outcome { status: 200, headers: vec![], body: Bytes::from(vec![b'x'; 500]), omitted: None })
    }

    async fn healthy(&self) -> Result<(), Unwell> {
        Ok(())
    }

    fn overdue_after(&self) -> Duration {
        LIMIT
    }
}

fn engine() -> EngineName {
    EngineName { namespace: "n".into(), name: "e".into() }
}

/// The same log in every life.
fn log() -> MemoryLog {
    let log = MemoryLog::new();
    let dedup = Dedup { window: 1 << 20, outcomes: 1 << 20, outcome_bytes: 1 << 30 };
    let settings = Settings { engine: engine(), cluster: "c".into(), dedup, classes: [].into() };
    log.append_record(NewEntry::Control(Control::Settings(settings)).record().unwrap(), 1);
    for n in 0..COMMANDS {
        let command = Command { id: Some(n.to_string()), ..Command::default() };
        log.append_record(record::encode_command(&command), 1);
    }
    log
}

/// One life of the sidecar: until the log is applied, the application has to restart, or the store fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process that the other test starts"]
async fn sidecar() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let life = std::env::var(LIFE).unwrap().parse().unwrap();
    let config = Config {
        engine: engine(),
        cluster: "c".into(),
        class: "x".into(),
        replicates: false,
        restart: Restart::Container,
        state: folder.join("disk/state"),
        expected: watch::channel(Some(Incarnation("memory-1".into()))).1,
    };
    let app = Arc::new(Lines(folder.join("lines")));
    let opened = Replica::open(config, Arc::new(log()), app, Arc::new(ScriptedLife::new(life)));
    let ended = async {
        let (replica, handle) = opened?;
        let mut progress = handle.progress();
        let all = progress.wait_for(|p| p.next.0 > COMMANDS || p.calls_for.is_some());
        tokio::select! {
            ended = replica.run(CancellationToken::new()) => ended.map(|()| FAILED),
            progress = all => Ok(if progress.unwrap().calls_for.is_some() { CALLS } else { DONE }),
        }
    };
    let code = ended.await.unwrap_or_else(|error: decree_sidecar::replica::Error| {
        println!("{error}");
        FAILED
    });
    std::process::exit(code);
}

/// What a kubelet would do, and what there was of it.
struct Kubelet {
    folder: PathBuf,
    /// Of the application, from 1 on.
    life: u32,
    /// The most that one life of it was ever given.
    most: usize,
}

impl Kubelet {
    /// Starts one sidecar and waits for its end; how it ended, and what it said.
    fn run_once(&mut self) -> (i32, String) {
        let child = Process::new(std::env::current_exe().unwrap())
            .args(["--exact", "sidecar", "--ignored", "--nocapture"])
            .env(LIFE, self.life.to_string())
            .output()
            .unwrap();
        let code = child.status.code().unwrap();
        let delivered = delivered(&self.folder);
        assert!(delivered.iter().copied().eq(1..=delivered.len() as u64), "each position once and in order");
        self.most = self.most.max(delivered.len());
        if code == CALLS {
            self.life += 1;
            std::fs::remove_file(self.folder.join("lines")).unwrap();
            assert!(self.life < 20, "restarts of the application don't help it");
        }
        (code, String::from_utf8_lossy(&child.stdout).into_owned())
    }
}

/// Holds the namespace in which the small disk is, and starts the sidecars in it.
#[test]
#[ignore = "a process that the other test starts"]
fn keeper() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let filler = folder.join("disk/filler");
    std::fs::write(&filler, vec![0; FILLER]).unwrap();
    let mut kubelet = Kubelet { folder, life: 1, most: 0 };
    let mut failures = 0;
    while failures < 5 {
        let (code, said) = kubelet.run_once();
        match code {
            FAILED => {
                assert!(said.contains("the journal") && said.contains("No space left"), "{said}");
                failures += 1;
            }
            CALLS => {}
            _ => unreachable!("it ended with {code} on a full disk: {said}"),
        }
    }
    println!(
        "full behind {} of {COMMANDS} commands, in life {} of the application",
        kubelet.most, kubelet.life
    );
    assert!(kubelet.most > 100, "it was to be full under a sidecar that works");

    std::fs::remove_file(filler).unwrap();
    loop {
        let (code, said) = kubelet.run_once();
        match code {
            DONE => break,
            CALLS => {}
            _ => unreachable!("it ended with {code} though there is room: {said}"),
        }
    }
    assert_eq!(delivered(&kubelet.folder).len() as u64, COMMANDS);
    println!("applied all, in life {} of the application", kubelet.life);
}

fn delivered(folder: &Path) -> Vec<u64> {
    let lines = std::fs::read_to_string(folder.join("lines")).unwrap_or_default();
    lines.lines().map(|line| line.parse().unwrap()).collect()
}

/// A keeper with a mount namespace of its own: root may make one, others only within a user namespace.
fn keep(folder: &Path, namespaces: &[&str]) -> Output {
    let mount = format!("mount -t tmpfs -o size={DISK} decree-test \"$0\" && exec \"$@\"");
    Process::new("unshare")
        .args(namespaces)
        .args(["sh", "-c", &mount])
        .arg(folder.join("disk"))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "keeper", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .output()
        .unwrap()
}

#[test]
fn a_full_disk_ends_the_sidecar_and_nothing_is_wrong_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("disk")).unwrap();
    let root = rustix::process::geteuid().is_root();
    let namespaces: &[&str] = if root { &["--mount"] } else { &["--map-root-user", "--mount"] };
    let kept = keep(folder.path(), namespaces);
    let said = String::from_utf8_lossy(&kept.stdout);
    println!("{said}");
    let why = String::from_utf8_lossy(&kept.stderr);
    assert!(kept.status.success() && said.contains("applied all"), "{why}");
}
