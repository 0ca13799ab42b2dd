//! The whole core at once: a real Kafka, an application over HTTP, and the kernel saying which life of it listens.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use bytes::Bytes;
use decree_kafka::{Admin, Connection, Everywhere, NewTopic};
use decree_sidecar::app::http::{HttpApp, Settings as AppSettings, Target};
use decree_sidecar::life::system::System;
use decree_sidecar::log::kafka::{KafkaLog, Settings as LogSettings};
use decree_sidecar::log::refusals::Refusals;
use decree_sidecar::log::{Log, NewEntry};
use decree_sidecar::replica::{Config, Handle, Progress, Replica, Resolution};
use decree_wire::command::Command;
use decree_wire::control::Control;
use decree_wire::heartbeat::State;
use decree_wire::position::{EngineName, Incarnation, Position};
use decree_wire::probe::Restart;
use decree_wire::settings::{Dedup, Settings};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const LIMIT: Duration = Duration::from_secs(60);

/// What the application was sent, in order.
type Applied = Arc<Mutex<Vec<String>>>;

/// An application that answers how many commands it has had.
async fn application(port: u16, applied: Applied) -> (u16, AbortHandle) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let take = move |body: String| async move {
        let mut applied = applied.lock().unwrap();
        applied.push(body);
        applied.len().to_string()
    };
    let server = axum::serve(listener, Router::new().route("/apply", post(take)));
    (port, tokio::spawn(async move { server.await.unwrap() }).abort_handle())
}

async fn make(admin: &Admin, everywhere: &Everywhere, topic: &str) -> Incarnation {
    let config = [("retention.ms", "-1"), ("message.timestamp.type", "LogAppendTime")];
    let config = BTreeMap::from(config.map(|(key, value)| (key.to_owned(), value.to_owned())));
    admin.create_topic(topic, &NewTopic { partitions: 1, replication: 1, config }).await.unwrap();
    Incarnation(everywhere.known(topic).await.unwrap())
}

struct Agent {
    handle: Handle,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Agent {
    fn start(
        log: &Arc<KafkaLog>,
        port: u16,
        state: &Path,
        expected: &watch::Sender<Option<Incarnation>>,
    ) -> Self {
        let config = Config {
            engine: EngineName { namespace: "n".into(), name: "e".into() },
            cluster: "c".into(),
            class: "x".into(),
            replicates: false,
            restart: Restart::Container,
            state: state.to_owned(),
            expected: expected.subscribe(),
        };
        let target = Target::Apply { path: "/apply".into() };
        let deliver_headers = http::HeaderMap::new();
        let app = AppSettings { port, target, health_path: None, overdue_after: LIMIT, deliver_headers };
        let (app, life) = (Arc::new(HttpApp::new(app)), Arc::new(System::new(port)));
        let (replica, handle) = Replica::open(config, log.clone(), app, life).unwrap();
        let stop = CancellationToken::new();
        let run = replica.run(stop.clone());
        Self { handle, stop, task: tokio::spawn(async move { run.await.unwrap() }) }
    }

    async fn until(&self, what: impl Fn(&Progress) -> bool) -> Progress {
        let mut progress = self.handle.progress();
        let seen = tokio::time::timeout(LIMIT, progress.wait_for(|p| what(p))).await;
        match seen {
            Ok(progress) => progress.unwrap().clone(),
            Err(_) => panic!("it never came to that: {:#?}", self.handle.progress().borrow().clone()),
        }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

async fn append(log: &KafkaLog, n: usize) -> Position {
    let payload = Bytes::from(n.to_string());
    let command = Command { id: Some(n.to_string()), payload, ..Command::default() };
    log.append(&NewEntry::Command(command)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: cargo verify"]
async fn a_command_goes_its_whole_way() {
    let servers = std::env::var("DECREE_KAFKA").expect("DECREE_KAFKA names the bootstrap servers");
    let connection = Connection::plain(servers.split(','), "decree-kafka-replica-test");
    let admin = Admin::open(&connection, LIMIT).unwrap();
    let everywhere = Everywhere::open(&connection, LIMIT).unwrap();
    let topic = format!("sidecar-replica-{}", Uuid::new_v4());
    let expected = watch::Sender::new(Some(make(&admin, &everywhere, &topic).await));
    let refusals = Refusals::default();
    let log = LogSettings { connection, topic: topic.clone(), group: topic.clone(), refusals };
    let log = Arc::new(KafkaLog::new(log).unwrap());
    let engine = EngineName { namespace: "n".into(), name: "e".into() };
    let dedup = Dedup::default();
    let settings = Settings { engine, cluster: "c".into(), dedup, classes: [].into() };
    log.append(&NewEntry::Control(Control::Settings(settings))).await.unwrap();
    let (applied, folder) = (Applied::default(), tempfile::tempdir().unwrap());
    let (port, listening) = application(0, applied.clone()).await;

    let agent = Agent::start(&log, port, folder.path(), &expected);
    let mut last = Position(0);
    for n in 0..20 {
        last = append(&log, n).await;
    }
    let Resolution::Applied { outcome } = agent.handle.resolved(last).await.unwrap() else { panic!() };
    assert_eq!((outcome.status, outcome.body.as_ref()), (200, &b"20"[..]));
    agent.until(|p| p.caught_up() && p.state == State::Running).await;
    agent.stop().await;

    let agent = Agent::start(&log, port, folder.path(), &expected);
    for n in 20..25 {
        last = append(&log, n).await;
    }
    agent.until(|p| p.position == Some(last)).await;
    let all: Vec<_> = (0..25).map(|n| n.to_string()).collect();
    assert_eq!(*applied.lock().unwrap(), all, "each once, and in order");
    assert_eq!(agent.handle.application_known(), Ok(()));

    applied.lock().unwrap().clear();
    listening.abort();
    let (_, _again) = loop {
        // Its old connections may take a moment to go.
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            break application(port, applied.clone()).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    agent.until(|p| p.tally.rebuilds == 1 && p.state == State::Running && p.position == Some(last)).await;
    assert_eq!(*applied.lock().unwrap(), all, "rebuilt from the log");
    admin.delete_topic(&topic).await.unwrap();
    everywhere.gone(&topic).await.unwrap();
    let trouble = |p: &Progress, reason: &str| p.trouble.as_ref().is_some_and(|t| t.reason == reason);
    let missing = agent.until(|p| trouble(p, "LogMissing")).await;
    assert_eq!((missing.state, missing.reached), (State::Running, true), "all agents share it");
    let refused = log.append(&NewEntry::Command(Command::default())).await.unwrap_err();
    assert_eq!(refused.reason(), "LogMissing");
    let again = make(&admin, &everywhere, &topic).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    // The producer learns of it in its own time, and says until then that it is missing.
    while let Err(error) = log.append(&NewEntry::Command(Command::default())).await {
        assert_eq!(error.reason(), "LogMissing");
        assert!(
            tokio::time::Instant::now() < deadline,
            "the producer never learnt that the topic is there again"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let halted = agent.until(|p| p.state == State::Halted).await;
    assert!(trouble(&halted, "LogReplaced") && halted.shared && halted.reached, "{halted:?}");
    expected.send_replace(Some(again));
    agent.until(|p| !p.shared).await; // a person has given the old one up
    assert_eq!(*applied.lock().unwrap(), all, "nothing of the new log was applied");
    agent.stop().await;
    admin.delete_topic(&topic).await.unwrap();
}
