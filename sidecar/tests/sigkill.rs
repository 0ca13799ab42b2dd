//! A sidecar that is killed at any instruction loses nothing and begins nothing twice: what it can't know is in doubt.

#![allow(clippy::unwrap_used)]

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use decree_sidecar::app::{App, Connected, Delivery, End, Outcome, Unwell};
use decree_sidecar::life::scripted::ScriptedLife;
use decree_sidecar::log::memory::MemoryLog;
use decree_sidecar::log::{Log, NewEntry};
use decree_sidecar::replica::{Config, Replica};
use decree_wire::command::Command;
use decree_wire::control::Control;
use decree_wire::position::{EngineName, Incarnation};
use decree_wire::probe::Restart;
use decree_wire::record;
use decree_wire::settings::{Dedup, Settings};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const FOLDER: &str = "DECREE_TEST_SIGKILL";
const COMMANDS: u64 = 50_000;
const KILLS: u64 = 30;
const LIMIT: Duration = Duration::from_secs(60);

/// An application whose state outlives every sidecar: a line a delivery, written before the answer.
struct Lines(File);

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lines")
    }
}

#[async_trait]
impl App for Lines {
    async fn connect(&self) -> Result<Connected, Unwell> {
        Ok(Connected::Kept)
    }

    async fn disconnect(&self) {}

    async fn deliver(&self, delivery: &Delivery<'_>) -> Result<Outcome, End> {
        let line = format!("{}\n", delivery.place.position);
        (&self.0).write_all(line.as_bytes()).unwrap();
        Ok(Outcome { status: 200, headers: vec![], body: Bytes::from(line), omitted: None })
    }

    async fn healthy(&self) -> Result<(), Unwell> {
        Ok(())
    }

    fn overdue_after(&self) -> Duration {
        Duration::from_secs(30)
    }
}

/// An application that takes nothing: for looking at what a killed sidecar left.
#[derive(Debug)]
struct Away;

#[async_trait]
impl App for Away {
    async fn connect(&self) -> Result<Connected, Unwell> {
        Err(Unwell::Unhealthy { detail: "it is only looked at".into() })
    }

    async fn disconnect(&self) {}

    async fn deliver(&self, _: &Delivery<'_>) -> Result<Outcome, End> {
        Err(End::NotConnected("it is only looked at".into()))
    }

    async fn healthy(&self) -> Result<(), Unwell> {
        self.connect().await.map(drop)
    }

    fn overdue_after(&self) -> Duration {
        Duration::from_secs(30)
    }
}

/// The same log in every life.
async fn log() -> MemoryLog {
    let log = MemoryLog::new();
    let engine = EngineName { namespace: "n".into(), name: "e".into() };
    let dedup = Dedup { window: 500, outcomes: 100, outcome_bytes: 1 << 20 };
    let settings = Settings { engine, cluster: "c".into(), dedup, classes: [].into() };
    let settings = NewEntry::Control(Control::Settings(settings)).record().unwrap();
    log.append_record(settings, 1);
    for n in 0..COMMANDS {
        let command = Command { id: Some(n.to_string()), ..Command::default() };
        log.append_record(record::encode_command(&command), 1);
    }
    log
}

async fn open(folder: &Path, app: Arc<dyn App>) -> (Replica, decree_sidecar::replica::Handle) {
    let log: Arc<dyn Log> = Arc::new(log().await);
    let config = Config {
        engine: EngineName { namespace: "n".into(), name: "e".into() },
        cluster: "c".into(),
        class: "x".into(),
        replicates: false,
        restart: Restart::Container,
        state: folder.join("state"),
        expected: watch::channel(Some(Incarnation("memory-1".into()))).1,
    };
    Replica::open(config, log, app, Arc::new(ScriptedLife::new(1))).unwrap()
}

#[tokio::test]
#[ignore = "the process that the other test kills"]
async fn child() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let lines = OpenOptions::new().create(true).append(true).open(folder.join("lines")).unwrap();
    let (replica, _handle) = open(&folder, Arc::new(Lines(lines))).await;
    replica.run(CancellationToken::new()).await.unwrap();
}

/// Kills a sidecar a while after it has begun to deliver.
fn kill_one(folder: &Path, after: Duration) {
    let mut child = Process::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored"])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (before, deadline) = (delivered_in(folder).len(), Instant::now() + LIMIT);
    while delivered_in(folder).len() == before {
        assert!(Instant::now() < deadline, "it delivers nothing");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(after);
    child.kill().unwrap(); // SIGKILL
    assert!(!child.wait().unwrap().success(), "it ended before it was killed");
}

fn delivered_in(folder: &Path) -> Vec<u64> {
    let lines = std::fs::read_to_string(folder.join("lines")).unwrap_or_default();
    // Whoever looks while it writes may see half a line.
    let (whole, _) = lines.rsplit_once('\n').unwrap_or_default();
    whole.lines().map(|line| line.parse().unwrap()).collect()
}

/// Whether what it left is in doubt, and how many positions it remembers as dealt with.
async fn left(folder: &Path) -> (bool, u64) {
    let (replica, handle) = open(folder, Arc::new(Away)).await;
    let stop = CancellationToken::new();
    let mut progress = handle.progress();
    let dealt = progress.borrow().next.0;
    let run = tokio::spawn(replica.run(stop.clone()));
    let settled = progress.wait_for(|p| p.calls_for.is_some() || p.start_head.is_some());
    let in_doubt = tokio::time::timeout(LIMIT, settled).await.unwrap().unwrap().calls_for.is_some();
    stop.cancel();
    run.await.unwrap().unwrap();
    (in_doubt, dealt)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_begins_twice() {
    let mut folder = tempfile::tempdir().unwrap();
    let (mut seed, mut doubts, mut applied) = (0x5EED_u64, 0, 0);
    println!("seed {seed:#x}");
    for kill in 0..KILLS {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Now and then long enough for memtables to be flushed and compacted.
        let long = if kill % 10 == 9 { 2000 } else { 0 };
        kill_one(folder.path(), Duration::from_millis(long) + Duration::from_micros((seed >> 33) % 100_000));
        let delivered = delivered_in(folder.path());
        let expected: Vec<u64> = (1..=delivered.len() as u64).collect();
        assert_eq!(delivered, expected, "kill {kill}: each position once and in order");
        let last = delivered.last().copied().unwrap_or(0);
        let (in_doubt, dealt) = left(folder.path()).await;
        let remembered = dealt.saturating_sub(1);
        if in_doubt {
            assert!(last == remembered || last == remembered + 1, "kill {kill}: {last}, {remembered}");
            doubts += 1;
        } else {
            assert_eq!(last, remembered, "kill {kill}: delivered and remembered");
        }
        if in_doubt || last > COMMANDS / 2 {
            applied += last;
            folder = tempfile::tempdir().unwrap();
        }
    }
    println!("{applied} applied and {doubts} doubts in {KILLS} kills");
    assert!(doubts > 0, "no kill met a delivery");
}
