//! The log on a real Kafka passes the suite that every log passes. `DECREE_KAFKA` names the bootstrap servers.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use decree_kafka::{Admin, Connection, Everywhere, Header, NewRecord, NewTopic, Producer, ProducerSettings};
use decree_sidecar::log::kafka::{KafkaLog, Settings};
use decree_sidecar::log::refusals::Refusals;
use decree_sidecar::log::suite::{self, Factory};
use decree_sidecar::log::{Log, NewEntry, Reader};
use decree_wire::command::Command;
use decree_wire::position::Position;
use decree_wire::record::Record;
use tokio::sync::Mutex;
use uuid::Uuid;

const LIMIT: Duration = Duration::from_secs(30);

/// Makes topics of its own, and takes them away.
#[derive(Debug)]
struct Topics {
    connection: Connection,
    admin: Admin,
    everywhere: Everywhere,
    producer: Producer,
    made: Mutex<Vec<String>>,
}

impl Topics {
    fn new() -> Self {
        let servers = std::env::var("DECREE_KAFKA").expect("DECREE_KAFKA names the bootstrap servers");
        let connection = Connection::plain(servers.split(','), "decree-kafka-log-test");
        Self {
            admin: Admin::open(&connection, LIMIT).unwrap(),
            everywhere: Everywhere::open(&connection, LIMIT).unwrap(),
            producer: Producer::open(&connection, &ProducerSettings::default()).unwrap(),
            made: Mutex::default(),
            connection,
        }
    }

    async fn make(&self, topic: &str) {
        let config = [("retention.ms", "-1"), ("message.timestamp.type", "LogAppendTime")];
        let config = BTreeMap::from(config.map(|(key, value)| (key.to_owned(), value.to_owned())));
        self.admin.create_topic(topic, &NewTopic { partitions: 1, replication: 1, config }).await.unwrap();
        self.everywhere.known(topic).await.unwrap();
    }

    fn log(&self, topic: &str) -> KafkaLog {
        let (connection, topic) = (self.connection.clone(), topic.to_owned());
        let refusals = Refusals::default();
        KafkaLog::new(Settings { connection, group: topic.clone(), topic, refusals }).unwrap()
    }

    async fn clean(self) {
        for topic in self.made.into_inner() {
            self.admin.delete_topic(&topic).await.unwrap();
        }
    }
}

#[async_trait]
impl Factory for Topics {
    async fn create(&self) -> Arc<dyn Log> {
        let topic = format!("sidecar-log-{}", Uuid::new_v4());
        self.make(&topic).await;
        self.made.lock().await.push(topic.clone());
        Arc::new(self.log(&topic))
    }

    async fn recreate(&self, log: Arc<dyn Log>) -> Arc<dyn Log> {
        drop(log);
        let topic = self.made.lock().await.last().unwrap().clone();
        self.admin.delete_topic(&topic).await.unwrap();
        self.everywhere.gone(&topic).await.unwrap();
        self.make(&topic).await;
        Arc::new(self.log(&topic))
    }

    async fn plain(&self, _: &Arc<dyn Log>, record: Record) -> Position {
        let topic = self.made.lock().await.last().unwrap().clone();
        let headers =
            record.headers.into_iter().map(|(name, value)| Header { name, value }).collect::<Vec<_>>();
        let record = NewRecord { value: record.value, headers, ..NewRecord::default() };
        let sent = self.producer.send(&topic, &record).await.unwrap();
        Position(u64::try_from(sent.offset).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: cargo verify"]
async fn it_is_a_log() {
    let topics = Topics::new();
    suite::all(&topics).await;
    topics.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: cargo verify"]
async fn kafkas_own_tools_see_where_a_reader_is() {
    let topics = Topics::new();
    let log = topics.create().await;
    for _ in 0..3 {
        log.append(&NewEntry::Command(Command::default())).await.unwrap();
    }
    let mut reader = log.read(Position(0)).await.unwrap();
    let batch = next(reader.as_mut()).await;
    reader.commit(batch).await.unwrap();
    let topic = topics.made.lock().await[0].clone();
    let deadline = tokio::time::Instant::now() + LIMIT;
    while topics.admin.committed(&topic, &topic).await.unwrap() != Some(batch.0 as i64) {
        assert!(tokio::time::Instant::now() < deadline, "nothing was committed");
        // As a replica does: commits travel while the reader is asked for more.
        reader.next(Duration::from_millis(100)).await.unwrap();
    }
    topics.clean().await;
}

async fn next(reader: &mut dyn Reader) -> Position {
    let mut batch = reader.next(LIMIT).await.unwrap();
    while batch.entries.is_empty() {
        batch = reader.next(LIMIT).await.unwrap();
    }
    batch.next
}
