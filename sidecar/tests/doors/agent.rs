//! An agent's doors on free ports of localhost, over the log in memory and an application that a test scripts.

use std::sync::Arc;
use std::time::Duration;

use decree_sidecar::agent::Agent;
use decree_sidecar::app::scripted::ScriptedApp;
use decree_sidecar::config::document::Watch;
use decree_sidecar::config::{Places, Pod};
use decree_sidecar::follow::{Ports, open};
use decree_sidecar::intake::Intake;
use decree_sidecar::life::scripted::ScriptedLife;
use decree_sidecar::log::memory::MemoryLog;
use decree_sidecar::log::{Log, NewEntry};
use decree_sidecar::metrics::Metrics;
use decree_sidecar::serve::{Limits, serve};
use decree_sidecar::{api, health, replicate};
use decree_wire::control::Control;
use decree_wire::document::{Class, Document, Kafka, Mode, Reads, Rule};
use decree_wire::position::EngineName;
use decree_wire::settings::Settings;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::http::send;

/// A running agent.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) agent: Agent,
    pub(crate) log: MemoryLog,
    pub(crate) app: Arc<ScriptedApp>,
    pub(crate) life: Arc<ScriptedLife>,
    /// `http://…` of each door.
    pub(crate) api: String,
    pub(crate) health: String,
    pub(crate) replicate: String,
    stop: CancellationToken,
    folder: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A class that applies.
pub(crate) fn apply() -> Mode {
    Mode::Apply { path: "/decisions".into() }
}

/// A class that replicates writes below `/v1/`.
pub(crate) fn replicating(reads: Reads) -> Mode {
    let rule = Rule { methods: vec!["PUT".into(), "POST".into()], path_prefix: "/v1/".into() };
    Mode::Replicate { rules: vec![rule], reads }
}

fn engine() -> EngineName {
    EngineName { namespace: "shop".into(), name: "policy".into() }
}

fn document(mode: Mode, port: u16) -> Document {
    let (name, deliver_headers) = ("a".into(), None);
    let class = Class { name, port, health_path: None, overdue_after_ms: 30_000, mode, deliver_headers };
    Document {
        level: 1,
        engine: engine(),
        cluster: "c".into(),
        group: None,
        kafka: Some(Kafka {
            bootstrap_servers: vec!["nowhere:1".into()],
            topic: "t".into(),
            topic_id: Some("memory-1".into()),
            heartbeats: "h".into(),
            tls: None,
            sasl: None,
        }),
        classes: vec![class],
        heartbeat_ms: 1000,
    }
}

/// Starts an agent and waits until it is ready. `port`: of an application for what passes through.
pub(crate) async fn start(mode: Mode, port: u16) -> Running {
    start_within(mode, port, Limits::of(64)).await
}

/// The same with doors that put up with less.
pub(crate) async fn start_within(mode: Mode, port: u16, limits: Limits) -> Running {
    let log = MemoryLog::new();
    let settings = Settings {
        engine: engine(),
        cluster: "c".into(),
        dedup: decree_wire::settings::Dedup { window: 1000, outcomes: 3, outcome_bytes: 1 << 20 },
        classes: [("a".to_owned(), decree_wire::settings::ClassSettings::default())].into(),
    };
    log.append(&NewEntry::Control(Control::Settings(settings))).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("document.json");
    std::fs::write(&file, serde_json::to_vec(&document(mode, port)).unwrap()).unwrap();
    let running = doors_within(log, folder, limits).await;
    running.engine().await;
    for _ in 0..400 {
        if send("GET", &format!("{}/readyz", running.health), &[], "").await.status == 200 {
            return running;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the agent did not become ready: {:?}", running.agent.unready());
}

/// The doors alone, before there is an engine.
pub(crate) async fn doors(log: MemoryLog, folder: tempfile::TempDir) -> Running {
    doors_within(log, folder, Limits::of(64)).await
}

async fn doors_within(log: MemoryLog, folder: tempfile::TempDir, limits: Limits) -> Running {
    let (watch, documents) = Watch::new(folder.path().join("document.json"));
    let pod = Pod {
        name: "a-0".into(),
        uid: "u".into(),
        namespace: "shop".into(),
        class: Some("a".into()),
        version: 1,
        restart: decree_wire::probe::Restart::Container,
        liveness: None,
        grace_seconds: 30,
        ip: "127.0.0.1".into(),
    };
    let agent = Agent::new(pod, documents, Metrics::default());
    let stop = CancellationToken::new();
    tokio::spawn(watch.run(stop.clone()));
    let intake = Intake::default();
    let (local, _) = api::routers(agent.clone(), intake.clone());
    Running {
        api: listen(local, limits, &stop).await,
        health: listen(health::router(agent.clone()), limits, &stop).await,
        replicate: listen(replicate::router(agent.clone(), intake), limits, &stop).await,
        agent,
        log,
        app: Arc::default(),
        life: Arc::new(ScriptedLife::new(1)),
        stop,
        folder,
    }
}

async fn listen(router: axum::Router, limits: Limits, stop: &CancellationToken) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, router, limits, stop.clone()));
    format!("http://{address}")
}

impl Running {
    async fn engine(&self) {
        let document = self.agent.document().unwrap();
        let class = self.agent.class().unwrap();
        let nowhere = ([127, 0, 0, 1], 0).into();
        let places = Places {
            document: self.folder.path().into(),
            state: self.folder.path().join("state"),
            run: self.folder.path().into(),
            token: self.folder.path().into(),
            api: nowhere,
            health: nowhere,
            replicate: nowhere,
            peers: nowhere,
        };
        std::fs::create_dir_all(&places.state).unwrap();
        let ports = Ports { log: Arc::new(self.log.clone()), app: self.app.clone(), life: self.life.clone() };
        let expected = watch::channel(Some(self.log.incarnation().await.unwrap())).1;
        let (replica, barriers) = open(&self.agent, &places, (&document, &class), ports, expected).unwrap();
        let stop = self.stop.clone();
        tokio::spawn(async move { tokio::join!(Box::pin(replica.run(stop.clone())), barriers.run(stop)) });
    }
}
