//! Agents without Kubernetes: an engine's topics and settings, and sidecars as processes beside their applications.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use decree_kafka::{Admin, Connection, Header, NewRecord, NewTopic, Producer, ProducerSettings};
use decree_wire::control::Control;
use decree_wire::record::encode_control;
use serde_json::json;

use crate::http::Caller;

const READY_LIMIT: Duration = Duration::from_secs(60);

/// An engine's topics on the brokers, as the operator makes them.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) brokers: String,
    pub(crate) topic: String,
    id: String,
}

impl Engine {
    pub(crate) async fn create(brokers: &str, name: &str) -> Result<Self> {
        let topic = format!("bench.{name}.{}", uuid::Uuid::now_v7().simple());
        let connection = Connection::plain(brokers.split(','), "bench");
        let admin = Admin::open(&connection, Duration::from_secs(10))?;
        let config = BTreeMap::from(
            [("message.timestamp.type", "LogAppendTime"), ("min.insync.replicas", "2")]
                .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        for name in [topic.clone(), format!("{topic}.heartbeats")] {
            admin
                .create_topic(&name, &NewTopic { partitions: 1, replication: 3, config: config.clone() })
                .await?;
        }
        let settings = serde_json::from_value(json!({
            "engine": {"namespace": "bench", "name": "bench"},
            "cluster": "bench",
            "dedup": {"window": 1_000_000, "outcomes": 10_000, "outcomeBytes": 64 << 20},
            "classes": {"bench": {"digest": "Outcome", "maxAttempts": 8}},
        }))?;
        let record = encode_control(&Control::Settings(settings))?;
        let headers = record.headers.into_iter().map(|(name, value)| Header { name, value }).collect();
        let record = NewRecord { value: record.value, headers, ..NewRecord::default() };
        let producer = Producer::open(&connection, &ProducerSettings::default())?;
        let begun = Instant::now();
        while let Err(error) = producer.send(&topic, &record).await {
            if begun.elapsed() > READY_LIMIT {
                return Err(error).context("append the settings");
            }
        }
        let id = admin.topic(&topic).await?.context("find the topic that was just made")?.id;
        Ok(Self { brokers: brokers.to_owned(), topic, id })
    }

    fn document(&self, application: SocketAddr) -> serde_json::Value {
        json!({
            "level": 1,
            "engine": {"namespace": "bench", "name": "bench"},
            "cluster": "bench",
            "kafka": {
                "bootstrapServers": self.brokers.split(',').collect::<Vec<_>>(),
                "topic": self.topic,
                "topicId": self.id,
                "heartbeats": format!("{}.heartbeats", self.topic),
            },
            "classes": [{
                "name": "bench",
                "port": application.port(),
                "overdueAfterMs": 30_000,
                "mode": {"apply": {"path": "/"}},
            }],
            "heartbeatMs": 1000,
        })
    }
}

/// A sidecar that runs, as a pod has it. It ends with this value.
#[derive(Debug)]
pub(crate) struct Agent {
    child: Child,
    _folder: tempfile::TempDir,
    pub(crate) api: SocketAddr,
    health: SocketAddr,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Agent {
    /// Starts a sidecar for the application at `application`, and waits until it is ready.
    pub(crate) async fn start(
        engine: &Engine,
        sidecar: &Path,
        name: &str,
        application: SocketAddr,
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        for name in ["document", "state", "run"] {
            std::fs::create_dir(folder.path().join(name))?;
        }
        let document = folder.path().join("document").join(decree_wire::document::FILE);
        std::fs::write(document, engine.document(application).to_string())?;
        let addresses = [free()?, free()?, free()?];
        let mut command = Command::new(sidecar);
        command.env_clear().env("DECREE_POD", name).env("DECREE_CLASS", "bench").env("DECREE_LOG", "warn");
        command.stdout(Stdio::null());
        for flag in ["document", "state", "run"] {
            command.arg(format!("--{flag}")).arg(folder.path().join(flag));
        }
        for (flag, address) in ["--api", "--health", "--replicate"].iter().zip(addresses) {
            command.arg(flag).arg(address.to_string());
        }
        let child = command.spawn().with_context(|| format!("start {}", sidecar.display()))?;
        let agent = Self { child, _folder: folder, api: addresses[0], health: addresses[1] };
        agent.until_ready().await?;
        Ok(agent)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    async fn until_ready(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            if let Ok(mut caller) = Caller::connect(self.health).await
                && matches!(caller.get("/readyz").await, Ok(200))
            {
                return Ok(());
            }
            if begun.elapsed() > READY_LIMIT {
                bail!("the sidecar at {} is not ready after {READY_LIMIT:?}", self.health);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
