//! A Kafka to test against, and topics of a test's own on it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use decree_kafka::{
    Admin, Connection, Error, Everywhere, Fetched, NewRecord, NewTopic, Producer, ProducerSettings, Reader,
    ReaderSettings, Record,
};

pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Bed {
    pub(crate) connection: Connection,
    pub(crate) admin: Admin,
    everywhere: Everywhere,
}

impl Bed {
    pub(crate) fn new() -> Self {
        let servers = std::env::var("DECREE_KAFKA").expect("DECREE_KAFKA names the bootstrap servers");
        let connection = Connection::plain(servers.split(','), "decree-kafka-test");
        let admin = Admin::open(&connection, LIMIT).expect("the settings are valid");
        let everywhere = Everywhere::open(&connection, LIMIT).expect("the settings are valid");
        Self { connection, admin, everywhere }
    }

    /// A new topic with one partition, deleted by nobody: names don't repeat.
    pub(crate) async fn topic(&self, test: &str) -> String {
        let name = unique(test);
        self.make(&name, 1).await;
        name
    }

    pub(crate) async fn make(&self, name: &str, partitions: i32) -> String {
        let topic = NewTopic { partitions, replication: 1, config: BTreeMap::new() };
        self.admin.create_topic(name, &topic).await.expect("create the topic");
        self.settled(name).await
    }

    /// The topic's id, once every broker knows it: the next request goes to any of them.
    pub(crate) async fn settled(&self, name: &str) -> String {
        self.everywhere.known(name).await.expect("a topic that was made")
    }

    pub(crate) async fn gone(&self, name: &str) {
        self.everywhere.gone(name).await.expect("a topic that was deleted");
    }

    pub(crate) fn producer(&self) -> Producer {
        let settings = ProducerSettings { delivery_limit: LIMIT, ..ProducerSettings::default() };
        Producer::open(&self.connection, &settings).expect("the settings are valid")
    }

    pub(crate) async fn fill(&self, topic: &str, values: impl IntoIterator<Item = usize>) {
        let producer = self.producer();
        for value in values {
            producer.send(topic, &numbered(value)).await.expect("append");
        }
    }

    pub(crate) fn reader(&self, topic: &str, from: i64) -> Reader {
        Reader::open(&self.connection, ReaderSettings::new(topic, from, unique("group"))).expect("open")
    }
}

pub(crate) fn unique(test: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
    format!("decree-kafka-test.{test}.{now:x}")
}

pub(crate) fn numbered(value: usize) -> NewRecord {
    NewRecord { value: Some(value.to_string().into()), ..NewRecord::default() }
}

pub(crate) fn values(records: &[Record]) -> Vec<String> {
    let text =
        |record: &Record| String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned();
    records.iter().map(text).collect()
}

/// Reads until the reader says that it has caught up; everything read, and the last answer.
pub(crate) async fn read_all(reader: &mut Reader) -> (Vec<Record>, Fetched) {
    let deadline = tokio::time::Instant::now() + LIMIT;
    let mut all = Vec::new();
    loop {
        assert!(tokio::time::Instant::now() < deadline, "did not catch up: read {}", all.len());
        match reader.next(100, 1 << 20, Duration::from_secs(1)).await {
            Ok(mut fetched) => {
                all.append(&mut fetched.records);
                if fetched.caught_up() {
                    return (all, fetched);
                }
            }
            Err(Error::Unreachable { .. }) => {} // it goes on by itself
            Err(error) => panic!("read: {error}"),
        }
    }
}
