//! A pod without Kubernetes: topics of its own, a document, a state folder, and the built binary.

use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use decree_kafka::{Admin, Connection, Everywhere, Header, NewRecord, NewTopic, Producer, ProducerSettings};
use decree_wire::control::Control;
use decree_wire::document::{Class, Document, Kafka, Mode};
use decree_wire::position::EngineName;
use decree_wire::record::encode_control;
use decree_wire::settings::{ClassSettings, Settings};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::client::{Answer, free_port, request, until};

pub(crate) struct Pod {
    folder: tempfile::TempDir,
    ports: [u16; 3],
    brokers: String,
    topic: String,
    topic_id: String,
    child: Option<Child>,
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Pod {
    pub(crate) fn new(test: &str, application: u16) -> Self {
        let brokers = std::env::var("DECREE_KAFKA").unwrap_or_else(|_| "127.0.0.1:19092".into());
        let topic = format!("process.{test}.{}", uuid::Uuid::now_v7().simple());
        let topic_id = provision(&brokers, &topic);
        Self::of(application, brokers, topic, topic_id)
    }

    /// Another agent of the same engine.
    pub(crate) fn beside(&self, application: u16) -> Self {
        Self::of(application, self.brokers.clone(), self.topic.clone(), self.topic_id.clone())
    }

    /// One whose brokers are away.
    pub(crate) fn without_kafka(application: u16) -> Self {
        Self::of(application, "127.0.0.1:1".into(), "nowhere".into(), "AAAAAAAAAAAAAAAAAAAAAA".into())
    }

    fn of(application: u16, brokers: String, topic: String, topic_id: String) -> Self {
        let pod = Self {
            folder: tempfile::tempdir().unwrap(),
            ports: std::array::from_fn(|_| free_port()),
            brokers,
            topic,
            topic_id,
            child: None,
        };
        for folder in ["document", "state", "run"] {
            std::fs::create_dir(pod.folder.path().join(folder)).unwrap();
        }
        let document = document(&pod.brokers, &pod.topic, pod.topic_id.clone(), application);
        pod.put_document(&serde_json::to_string(&document).unwrap());
        pod
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn document_file(&self) -> PathBuf {
        self.path("document").join(decree_wire::document::FILE)
    }

    pub(crate) fn brokers(&self) -> String {
        self.brokers.replace(',', "\",\"")
    }

    pub(crate) fn take_document(&self) -> String {
        let text = std::fs::read_to_string(self.document_file()).unwrap();
        std::fs::remove_file(self.document_file()).unwrap();
        text
    }

    pub(crate) fn put_document(&self, text: &str) {
        std::fs::write(self.path("document").join("new"), text).unwrap();
        std::fs::rename(self.path("document").join("new"), self.document_file()).unwrap();
    }

    /// `HOST:PORT,…`, and the engine's topic there.
    pub(crate) fn topic(&self) -> (&str, &str) {
        (&self.brokers, &self.topic)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("run").join("decree.sock")
    }

    /// The TCP doors: the application's, health, replication.
    pub(crate) fn doors(&self) -> [SocketAddr; 3] {
        std::array::from_fn(|door| self.address(door))
    }

    fn address(&self, door: usize) -> SocketAddr {
        ([127, 0, 0, 1], self.ports[door]).into()
    }

    pub(crate) fn health(&self) -> SocketAddr {
        self.address(1)
    }

    pub(crate) fn start(&mut self) {
        self.spawn(Stdio::inherit());
    }

    /// The same; [`Pod::ended`] tells what it said.
    pub(crate) fn start_heard(&mut self) {
        self.spawn(Stdio::piped());
    }

    fn spawn(&mut self, stdout: Stdio) {
        // A write beyond a limit then fails, as on a full disk, instead of killing who writes.
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_decree-sidecar")])
            .stdout(stdout)
            .env_clear()
            .env("DECREE_POD", "a-0")
            .env("DECREE_CLASS", "a")
            .env("DECREE_RESTART", "Container")
            .env("DECREE_LOG", "info");
        for (flag, folder) in [("--document", "document"), ("--state", "state"), ("--run", "run")] {
            command.arg(flag).arg(self.path(folder));
        }
        for (door, flag) in ["--api", "--health", "--replicate"].into_iter().enumerate() {
            command.arg(flag).arg(self.address(door).to_string());
        }
        self.child = Some(command.spawn().unwrap());
    }

    /// From now on nothing can be written to files behind their first byte.
    pub(crate) fn refuse_writes(&self) {
        let child = Pid::from_child(self.child.as_ref().unwrap());
        let limit = Rlimit { current: Some(1), ..getrlimit(Resource::Fsize) };
        prlimit(Some(child), Resource::Fsize, limit).unwrap();
    }

    /// How it ended by itself, and what it said.
    pub(crate) fn ended(&mut self) -> (ExitStatus, String) {
        let child = self.child.as_mut().unwrap();
        let mut status = None;
        until("it ends", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        let mut said = String::new();
        child.stdout.as_mut().unwrap().read_to_string(&mut said).unwrap();
        self.child = None;
        (status.unwrap(), said)
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM; how long it then took to end, without complaint.
    pub(crate) fn terminate(&mut self) -> Duration {
        let mut child = self.child.take().unwrap();
        let begun = Instant::now();
        let sent = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap();
        assert!(sent.success() && child.wait().unwrap().success());
        begun.elapsed()
    }

    pub(crate) fn pre_stop(&self) -> ExitStatus {
        let mut command = Command::new(env!("CARGO_BIN_EXE_decree-sidecar"));
        command.arg("pre-stop").arg("--run").arg(self.path("run")).status().unwrap()
    }

    pub(crate) fn alive(&self) -> bool {
        request(self.health(), "GET", "/livez", &[], "").status == 200
    }

    pub(crate) fn until_ready(&self) {
        until("the agent is ready", || request(self.health(), "GET", "/readyz", &[], "").status == 200);
    }

    pub(crate) fn propose(&self, id: &str, body: &str) -> Answer {
        request(self.address(0), "POST", "/v1/commands", &[("ce-id", id)], body)
    }

    pub(crate) fn resident_kib(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most that it ever had.
    pub(crate) fn most_kib(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, line: &str) -> u64 {
        let pid = self.child.as_ref().unwrap().id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|own| own.starts_with(line)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

fn engine() -> EngineName {
    EngineName { namespace: "shop".into(), name: "policy".into() }
}

/// What the operator does: topics of one partition, and the settings entry.
fn provision(brokers: &str, topic: &str) -> String {
    let settings = Settings {
        engine: engine(),
        cluster: "c".into(),
        dedup: decree_wire::settings::Dedup::default(),
        classes: [("a".to_owned(), ClassSettings::default())].into(),
    };
    let record = encode_control(&Control::Settings(settings)).unwrap();
    let headers = record.headers.into_iter();
    let record = NewRecord {
        value: record.value,
        headers: headers.map(|(name, value)| Header { name, value }).collect(),
        ..NewRecord::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let connection = Connection::plain(brokers.split(','), "process-test");
        let admin = Admin::open(&connection, Duration::from_secs(10)).unwrap();
        let everywhere = Everywhere::open(&connection, Duration::from_secs(30)).unwrap();
        for name in [topic.to_owned(), format!("{topic}.heartbeats")] {
            let config = [
                ("message.timestamp.type", "LogAppendTime"),
                ("max.message.bytes", "20971520"),
                ("compression.type", "uncompressed"),
            ];
            let config = config.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
            admin.create_topic(&name, &NewTopic { partitions: 1, replication: 1, config }).await.unwrap();
            everywhere.known(&name).await.unwrap();
        }
        let producer = Producer::open(&connection, &ProducerSettings::default()).unwrap();
        producer.send(topic, &record).await.unwrap();
        everywhere.known(topic).await.unwrap()
    })
}

fn document(brokers: &str, topic: &str, topic_id: String, port: u16) -> Document {
    Document {
        level: 1,
        engine: engine(),
        cluster: "c".into(),
        group: None,
        kafka: Some(Kafka {
            bootstrap_servers: brokers.split(',').map(str::to_owned).collect(),
            topic: topic.into(),
            topic_id: Some(topic_id),
            heartbeats: format!("{topic}.heartbeats"),
            tls: None,
            sasl: None,
        }),
        classes: vec![Class {
            name: "a".into(),
            port,
            health_path: None,
            overdue_after_ms: 30_000,
            mode: Mode::Apply { path: "/".into() },
            deliver_headers: None,
        }],
        heartbeat_ms: 200,
    }
}
