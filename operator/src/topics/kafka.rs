//! Topics on Kafka: one admin client for all engines with the same brokers and credentials.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use decree_crds::labels;
use decree_kafka::{
    Admin, Connection, Header, NewRecord, Producer, ProducerSettings, Reader, ReaderSettings,
};
use decree_wire::control::Control;
use decree_wire::entry::Body;
use decree_wire::record::{self, Record};
use decree_wire::settings::Settings;
use tokio::time::Instant;

use crate::credentials::CLIENT;

use super::{Clusters, Error, NewTopic, Scan, Topic, Topics};

/// A request to the brokers ends within this.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// After this a cluster that did not answer is asked again; until then everybody gets the same answer at once, so that
/// a thousand engines on a broken cluster don't occupy every worker.
const UNREACHABLE_FOR: Duration = Duration::from_secs(2);
/// A new topic has to be visible with a leader within this.
const VISIBLE_WITHIN: Duration = Duration::from_secs(10);
/// One look for a settings entry ends after this.
const SCAN_LIMIT: Duration = Duration::from_secs(4);
/// The list of consumer groups is good for so long: all engines of a cluster ask for it.
const GROUPS_FOR: Duration = Duration::from_secs(240);
/// How much is fetched ahead in a scan, and how much is looked at in one go.
const SCAN_KBYTES: u32 = 1024;
const SCAN_RECORDS: usize = 500;

/// Every cluster that an engine names.
#[derive(Debug, Default)]
pub struct KafkaClusters {
    open: Mutex<HashMap<Connection, Weak<KafkaTopics>>>,
}

impl Clusters for KafkaClusters {
    fn at(&self, connection: &Connection) -> Result<Arc<dyn Topics>, Error> {
        let mut key = connection.clone();
        key.bootstrap_servers.sort_unstable();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(topics) = open.get(&key).and_then(Weak::upgrade) {
            return Ok(topics);
        }
        open.retain(|_, topics| topics.strong_count() > 0);
        let topics = Arc::new(KafkaTopics::open(connection.clone())?);
        open.insert(key, Arc::downgrade(&topics));
        Ok(topics)
    }
}

/// The topics of one cluster.
#[derive(Debug)]
pub struct KafkaTopics {
    connection: Connection,
    admin: Admin,
    unreachable: Mutex<Option<(Instant, Error)>>,
    /// Decree's own consumer groups, as they were listed last.
    groups: tokio::sync::Mutex<Option<(Instant, Vec<String>)>>,
}

impl KafkaTopics {
    /// Connects in the background.
    ///
    /// # Errors
    /// If these can't be bootstrap servers.
    pub fn open(connection: Connection) -> Result<Self, Error> {
        let admin = Admin::open(&connection, REQUEST_LIMIT)?;
        Ok(Self { connection, admin, unreachable: Mutex::default(), groups: tokio::sync::Mutex::default() })
    }

    /// Runs `call`, unless the cluster was found unreachable a moment ago.
    async fn ask<T>(&self, call: impl Future<Output = decree_kafka::Result<T>>) -> Result<T, Error> {
        let recent = self.unreachable.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((since, error)) = recent
            && since.elapsed() < UNREACHABLE_FOR
        {
            return Err(error);
        }
        let answer = call.await.map_err(Error::from);
        let mut unreachable = self.unreachable.lock().unwrap_or_else(PoisonError::into_inner);
        *unreachable = match &answer {
            Err(error @ Error::Unreachable(_)) => Some((Instant::now(), error.clone())),
            _ => None,
        };
        answer
    }

    /// The topic, and whether it has a leader. Brokers hear of a new topic at different times, and one that is cut off
    /// from the controllers never does: so their "there is none" is no news, and only the controller's is believed.
    async fn found(&self, name: &str) -> Result<Option<(Topic, bool)>, Error> {
        let Some(found) = self.ask(self.admin.topic(name)).await? else {
            return match self.ask(self.admin.is_topic_taken(name)).await {
                Ok(true) => Err(Error::Missing(name.to_owned())),
                // Who may not make the topic can't ask either; the caller asks again before it believes that.
                Ok(false) | Err(Error::Unauthorized(_)) => Ok(None),
                Err(error) => Err(error),
            };
        };
        // Another broker may answer this: `Missing` then says that they don't agree yet.
        let config = self.ask(self.admin.topic_config(name)).await?;
        let config =
            config.into_iter().filter_map(|(key, entry)| entry.value.map(|value| (key, value))).collect();
        let decree_kafka::Topic { id, partitions, replication, has_leader } = found;
        Ok(Some((Topic { id, partitions, replication, config }, has_leader)))
    }

    async fn visible(&self, name: &str) -> Result<Topic, Error> {
        let deadline = Instant::now() + VISIBLE_WITHIN;
        loop {
            match self.found(name).await {
                Ok(Some((topic, true))) => return Ok(topic),
                Ok(Some((_, false)) | None) | Err(Error::Missing(_)) => {} // brokers hear of it one by one
                Err(error) => return Err(error),
            }
            if Instant::now() >= deadline {
                return Err(Error::Failed(format!(
                    "create topic {name}: it has no leader after {VISIBLE_WITHIN:?}"
                )));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn read(&self, name: &str, id: &str, from: u64, end: u64) -> Result<Scan, Error> {
        let from_offset = i64::try_from(from).unwrap_or(i64::MAX);
        let mut settings = ReaderSettings::new(name, from_offset, CLIENT).of_incarnation(id);
        settings.queue_kbytes = SCAN_KBYTES;
        let mut reader = Reader::open(&self.connection, settings)?;
        let deadline = Instant::now() + SCAN_LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let fetched = self.ask(reader.next(SCAN_RECORDS, SCAN_KBYTES as usize * 1024, left)).await?;
            let caught_up = fetched.caught_up();
            let next = u64::try_from(fetched.next).unwrap_or(from);
            if let Some(found) = fetched.records.into_iter().find_map(first_settings) {
                return Ok(found);
            }
            if caught_up {
                return Ok(Scan::None { next });
            }
            if Instant::now() >= deadline {
                return Ok(Scan::Unfinished { next, end: end.max(next) });
            }
        }
    }
}

fn first_settings(read: decree_kafka::Record) -> Option<Scan> {
    let position = u64::try_from(read.offset).unwrap_or(0);
    let headers = read.headers.into_iter().map(|header| (header.name, header.value)).collect();
    match record::decode(&Record { value: read.value, headers }) {
        Body::Control(Control::Settings(settings)) => {
            Some(Scan::Settings { position, settings: Box::new(settings) })
        }
        Body::Control(Control::Unknown { kind, reason }) if kind == "settings" => {
            Some(Scan::Unreadable(reason))
        }
        Body::Control(_) | Body::Command(_) | Body::Void(_) => None,
    }
}

#[async_trait]
impl Topics for KafkaTopics {
    async fn brokers(&self) -> Result<usize, Error> {
        self.ask(self.admin.brokers()).await
    }

    async fn topic(&self, name: &str) -> Result<Option<Topic>, Error> {
        Ok(self.found(name).await?.map(|(topic, _)| topic))
    }

    async fn create(&self, name: &str, topic: &NewTopic) -> Result<Topic, Error> {
        let NewTopic { replication, config } = topic.clone();
        let new = decree_kafka::NewTopic { partitions: 1, replication, config };
        self.ask(self.admin.create_topic(name, &new)).await?;
        self.visible(name).await
    }

    async fn set_config(&self, name: &str, entries: &BTreeMap<String, String>) -> Result<(), Error> {
        self.ask(self.admin.set_topic_config(name, entries)).await
    }

    async fn start(&self, name: &str) -> Result<u64, Error> {
        let marks = self.ask(self.admin.watermarks(name)).await?;
        Ok(u64::try_from(marks.low).unwrap_or(0))
    }

    async fn delete(&self, name: &str, id: Option<&str>) -> Result<(), Error> {
        match self.ask(self.admin.topic(name)).await? {
            // One broker's word; the controller's is the one that counts (see `found`).
            None => match self.ask(self.admin.is_topic_taken(name)).await {
                Ok(true) => Err(Error::Missing(name.to_owned())),
                Ok(false) | Err(Error::Unauthorized(_)) => Ok(()),
                Err(error) => Err(error),
            },
            Some(topic) if id.is_some_and(|id| topic.id != id) => Err(Error::Replaced(name.to_owned())),
            Some(_) => match self.ask(self.admin.delete_topic(name)).await {
                Err(Error::Missing(_)) => Ok(()),
                answer => answer,
            },
        }
    }

    async fn scan(&self, name: &str, id: &str, from: Option<u64>) -> Result<Scan, Error> {
        let marks = self.ask(self.admin.watermarks(name)).await?;
        let offset = |offset: i64| u64::try_from(offset).unwrap_or(0);
        let (low, high) = (offset(marks.low), offset(marks.high));
        let from = from.unwrap_or(low).max(low);
        // Watermarks don't say of which incarnation they are: an empty log is a claim that must hold for this one.
        if from >= high {
            return match self.ask(self.admin.topic(name)).await? {
                Some(topic) if topic.id == id => Ok(Scan::None { next: high }),
                Some(_) => Err(Error::Replaced(name.to_owned())),
                None => Err(Error::Missing(name.to_owned())),
            };
        }
        self.read(name, id, from, high).await
    }

    async fn append_settings(&self, name: &str, settings: &Settings) -> Result<(), Error> {
        let failed = |detail: String| Error::Failed(format!("append a settings entry to {name}: {detail}"));
        let Record { value, headers } = record::encode_control(&Control::Settings(settings.clone()))
            .map_err(|error| failed(error.to_string()))?;
        let headers = headers.into_iter().map(|(name, value)| Header { name, value }).collect();
        // A producer of its own: this happens once in a log's life, and a handle costs threads.
        let producer = Producer::open(
            &self.connection,
            &ProducerSettings { delivery_limit: REQUEST_LIMIT, queue_records: 10, queue_kbytes: 1024 },
        )?;
        self.ask(producer.send(name, &NewRecord { value, headers, ..NewRecord::default() })).await?;
        Ok(())
    }

    async fn groups(&self, prefix: &str) -> Result<Vec<String>, Error> {
        // Asked for by one at a time: the others find the answer.
        let mut known = self.groups.lock().await;
        if known.as_ref().is_none_or(|(since, _)| since.elapsed() >= GROUPS_FOR) {
            let mut listed = self.ask(self.admin.groups()).await?;
            listed.retain(|group| group.starts_with(labels::CONSUMER_GROUPS));
            *known = Some((Instant::now(), listed));
        }
        let listed = known.iter().flat_map(|(_, listed)| listed);
        Ok(listed.filter(|group| group.starts_with(prefix)).cloned().collect())
    }

    async fn delete_groups(&self, groups: &[String]) -> Result<(), Error> {
        for group in groups {
            match self.ask(self.admin.delete_group(group)).await {
                Ok(()) => {
                    let mut known = self.groups.lock().await;
                    known.iter_mut().for_each(|(_, listed)| listed.retain(|kept| kept != group));
                }
                Err(Error::InUse(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl From<decree_kafka::Error> for Error {
    fn from(error: decree_kafka::Error) -> Self {
        use decree_kafka::Error as Kafka;
        let text = error.to_string();
        match error {
            // To a person a silent broker is as away as one that refuses the connection.
            Kafka::Unreachable { .. } | Kafka::Timeout { .. } => Self::Unreachable(text),
            Kafka::Unauthenticated { .. } => Self::Unauthenticated(text),
            Kafka::Untrusted { .. } => Self::Untrusted(text),
            Kafka::Unauthorized { .. } => Self::Unauthorized(text),
            Kafka::Unusable { .. } => Self::Unusable(text),
            Kafka::TopicMissing { topic, .. } => Self::Missing(topic),
            Kafka::TopicExists { topic, .. } => Self::Exists(topic),
            Kafka::TopicReplaced { topic, .. } => Self::Replaced(topic),
            Kafka::GroupInUse { group } => Self::InUse(group),
            Kafka::Invalid { .. } | Kafka::TooLarge { .. } => Self::Invalid(text),
            Kafka::OutOfRange { .. }
            | Kafka::Truncated { .. }
            | Kafka::QueueFull { .. }
            | Kafka::NotDelivered { .. }
            | Kafka::DeliveryUnknown { .. }
            | Kafka::Failed { .. } => Self::Failed(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::suite;
    use super::*;

    #[tokio::test]
    async fn a_cluster_that_is_away_is_an_answer_and_remembered_for_a_moment() {
        let clusters = KafkaClusters::default();
        let topics = clusters.at(&Connection::plain(["127.0.0.1:1"], CLIENT)).unwrap();
        let error = topics.brokers().await.unwrap_err();
        assert_eq!(error.reason(), "KafkaUnreachable");
        assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
        let asked = Instant::now();
        assert_eq!(topics.topic("t").await.unwrap_err(), error);
        assert!(asked.elapsed() < Duration::from_millis(100));
    }

    #[tokio::test]
    #[ignore = "needs Kafka: DECREE_KAFKA=host:port"]
    async fn passes_the_suite() {
        let servers = std::env::var("DECREE_KAFKA").unwrap();
        let topics = KafkaTopics::open(Connection::plain(servers.split(','), CLIENT)).unwrap();
        let run = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        suite::all(&topics, &format!("operator-suite-{run}")).await;
        for name in suite::names(&format!("operator-suite-{run}")) {
            topics.delete(&name, None).await.unwrap(); // the suite deleted one
        }
    }
}
