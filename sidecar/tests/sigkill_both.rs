//! Sidecar and application, each a process of its own and killed with SIGKILL at any moment: the application's last
//! life ends with the count that the log gives.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use decree_sidecar::app::http::{HttpApp, Settings as AppSettings, Target};
use decree_sidecar::life::system::System;
use decree_sidecar::log::NewEntry;
use decree_sidecar::log::memory::MemoryLog;
use decree_sidecar::replica::{Config, Progress, Replica};
use decree_wire::command::Command;
use decree_wire::control::Control;
use decree_wire::heartbeat::{CallsFor, State};
use decree_wire::position::{EngineName, Incarnation};
use decree_wire::probe::Restart;
use decree_wire::record;
use decree_wire::settings::{ClassSettings, Dedup, Settings};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const FOLDER: &str = "DECREE_TEST_SIGKILL_BOTH";
const COMMANDS: u64 = 1_500;
const KILLS: u64 = 24;
const LIMIT: Duration = Duration::from_secs(120);

fn engine() -> EngineName {
    EngineName { namespace: "n".into(), name: "e".into() }
}

/// The same log in every life; each third command is a repeat.
fn log() -> MemoryLog {
    let log = MemoryLog::new();
    let dedup = Dedup { window: 100_000, outcomes: 1_000, outcome_bytes: 1 << 20 };
    let class = ClassSettings { max_attempts: 1_000, ..ClassSettings::default() };
    let classes = [("x".to_owned(), class)].into();
    let settings = Settings { engine: engine(), cluster: "c".into(), dedup, classes };
    log.append_record(NewEntry::Control(Control::Settings(settings)).record().unwrap(), 1);
    for n in 0..COMMANDS {
        let id = if n % 3 == 2 { n - 1 } else { n };
        let command = Command { id: Some(id.to_string()), ..Command::default() };
        log.append_record(record::encode_command(&command), 1);
    }
    log
}

/// Counts POSTs in memory, and tells the count to whoever asks.
#[test]
#[ignore = "a process that the other test kills"]
fn application() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let port: u16 = std::fs::read_to_string(folder.join("port")).unwrap().parse().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let count = Arc::new(AtomicU64::new(0));
    for stream in listener.incoming().flatten() {
        let count = Arc::clone(&count);
        std::thread::spawn(move || serve(stream, &count));
    }
}

fn serve(mut stream: TcpStream, count: &AtomicU64) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        reader.read_exact(&mut vec![0; length])?;
        let post = first.starts_with("POST");
        let now = if post { count.fetch_add(1, Ordering::SeqCst) + 1 } else { count.load(Ordering::SeqCst) };
        let body = now.to_string();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes())?;
    }
}

/// The sidecar: says in a file what it calls for, and when it is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process that the other test kills"]
async fn sidecar() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let port: u16 = std::fs::read_to_string(folder.join("port")).unwrap().parse().unwrap();
    let config = Config {
        engine: engine(),
        cluster: "c".into(),
        class: "x".into(),
        replicates: false,
        restart: Restart::Container,
        state: folder.join("state"),
        expected: watch::channel(Some(Incarnation("memory-1".into()))).1,
    };
    let target = Target::Apply { path: "/".into() };
    let app = AppSettings {
        port,
        target,
        health_path: None,
        overdue_after: LIMIT,
        deliver_headers: Default::default(),
    };
    let app = Arc::new(HttpApp::new(app));
    let (replica, handle) = Replica::open(config, Arc::new(log()), app, Arc::new(System::new(port))).unwrap();
    let stop = CancellationToken::new();
    let run = tokio::spawn(replica.run(stop));
    loop {
        let progress = handle.progress().borrow().clone();
        let says = says(&progress, handle.application_known().is_ok());
        std::fs::write(folder.join("says.new"), says).unwrap();
        std::fs::rename(folder.join("says.new"), folder.join("says")).unwrap();
        assert!(!run.is_finished(), "the replica ended");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn says(progress: &Progress, known: bool) -> String {
    let word = match progress {
        Progress { calls_for: Some(CallsFor::ContainerRestart), .. } => "restart",
        Progress { suspicion: Some(_), .. } => "suspicious",
        Progress { state: State::Running, .. } if known && progress.caught_up() => "done",
        _ => "busy",
    };
    format!("{word} {} {}", progress.tally.doubts, progress.tally.rebuilds)
}

fn start(folder: &Path, what: &str) -> Child {
    Process::new(std::env::current_exe().unwrap())
        .args(["--exact", what, "--ignored"])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn kill(child: &mut Child) {
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
}

fn count(port: u16) -> Option<u64> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").ok()?;
    stream.shutdown(std::net::Shutdown::Write).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split("\r\n\r\n").nth(1)?.parse().ok()
}

#[test]
fn the_last_life_has_the_count_that_the_log_gives() {
    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    std::fs::write(folder.path().join("port"), port.to_string()).unwrap();
    let told = || std::fs::read_to_string(folder.path().join("says")).unwrap_or_default();
    let (mut application, mut sidecar) =
        (start(folder.path(), "application"), start(folder.path(), "sidecar"));
    let mut seed = 0xB07_u64;
    println!("seed {seed:#x}");
    for kill_number in 0..KILLS {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Each life is given something before it, or the sidecar, is killed: most kills meet a replay.
        let deadline = Instant::now() + LIMIT;
        while count(port).unwrap_or_default() == 0 && !told().starts_with("restart") {
            assert!(Instant::now() < deadline, "nothing is delivered: {}", told());
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis((seed >> 33) % 300));
        if kill_number % 2 == 0 || told().starts_with("restart") {
            kill(&mut application);
            application = start(folder.path(), "application");
        } else {
            kill(&mut sidecar);
            let _ = std::fs::remove_file(folder.path().join("says")); // a dead one's word, if it had said any
            sidecar = start(folder.path(), "sidecar");
        }
    }
    let deadline = Instant::now() + LIMIT;
    while !told().starts_with("done") || count(port).is_none() {
        assert!(Instant::now() < deadline && !told().starts_with("suspicious"), "{}", told());
        if told().starts_with("restart") {
            kill(&mut application);
            application = start(folder.path(), "application");
            std::thread::sleep(Duration::from_millis(200));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let distinct = (0..COMMANDS).filter(|n| n % 3 != 2).count() as u64;
    let counted = count(port);
    let told = told();
    kill(&mut application);
    kill(&mut sidecar);
    println!("{counted:?} counted after {KILLS} kills; done, deliveries in doubt, rebuilds: {told}");
    assert_eq!(counted, Some(distinct));
    let numbers: Vec<u64> = told.split(' ').skip(1).map(|n| n.parse().unwrap()).collect();
    assert!(numbers[0] > 0 && numbers[1] > 2, "too little was met: {told}");
}
