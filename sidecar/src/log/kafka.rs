//! The log on one Kafka topic of one partition: the broker orders, and nothing here is ever rebalanced.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use decree_kafka::{Admin, Connection, Producer, ProducerSettings, ReaderSettings};
use decree_wire::entry::Entry;
use decree_wire::position::{Incarnation, Position};
use decree_wire::record;

use super::refusals::{Refusals, Way};
use super::{Batch, Error, Log, Mark, NewEntry, Reader, Stored};

mod convert;
mod fault;

/// How long a question to the brokers may take.
const LIMIT: Duration = Duration::from_secs(5);
/// What one batch holds at most.
const BATCH_RECORDS: usize = 500;
const BATCH_BYTES: usize = 1 << 20;

/// Which topic it is, and as whom it is read.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The brokers.
    pub connection: Connection,
    /// The engine's topic.
    pub topic: String,
    /// Where positions are committed to, for people to see: `decree.<namespace>.<engine>.<pod>`.
    pub group: String,
    /// Where is noted what the brokers refuse.
    pub refusals: Refusals,
}

/// The log on a Kafka topic.
#[derive(Debug)]
pub struct KafkaLog {
    settings: Settings,
    admin: Admin,
    producer: Producer,
    /// The topic's id as it was last asked for: readers read that one and no other.
    id: Mutex<Option<String>>,
}

impl KafkaLog {
    /// Connects in the background: succeeds with brokers away. Must be called in a runtime.
    ///
    /// # Errors
    /// If the settings are not usable.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let admin = Admin::open(&settings.connection, LIMIT).map_err(fault::error)?;
        let producer =
            Producer::open(&settings.connection, &ProducerSettings::default()).map_err(fault::error)?;
        Ok(Self { settings, admin, producer, id: Mutex::new(None) })
    }

    /// The producer, for what else is written to the same brokers: a client costs threads and buffers.
    #[must_use]
    pub fn producer(&self) -> Producer {
        self.producer.clone()
    }

    fn known(&self) -> Option<String> {
        self.id.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn id(&self) -> Result<String, Error> {
        let topic = &self.settings.topic;
        let found = self.admin.topic(topic).await.map_err(fault::error)?;
        let found = found.ok_or_else(|| {
            Error::Missing(format!("topic {topic} is not on {}", self.settings.connection.brokers()))
        })?;
        *self.id.lock().unwrap_or_else(PoisonError::into_inner) = Some(found.id.clone());
        Ok(found.id)
    }
}

#[async_trait]
impl Log for KafkaLog {
    async fn append(&self, entry: &NewEntry) -> Result<Position, Error> {
        let record = convert::to_kafka(entry.record()?);
        let sent = self.producer.send(&self.settings.topic, &record).await;
        // Of an append that was not refused but failed, nobody knows whether it would have been.
        match &sent {
            Ok(_) => self.settings.refusals.note(Way::Append, None),
            Err(error) => fault::refused(error, |why| self.settings.refusals.note(Way::Append, Some(why))),
        }
        let sent = sent.map_err(fault::error)?;
        convert::position(sent.offset)
    }

    async fn read(&self, from: Position) -> Result<Box<dyn Reader>, Error> {
        let id = match self.known() {
            Some(id) => id,
            None => self.id().await?,
        };
        let Settings { connection, topic, group, refusals } = &self.settings;
        let settings = ReaderSettings::new(topic, convert::offset(from)?, group).of_incarnation(id);
        let reader = decree_kafka::Reader::open(connection, settings).map_err(fault::error)?;
        Ok(Box::new(KafkaReader { reader, refusals: refusals.clone(), fails: false }))
    }

    async fn earliest(&self) -> Result<Position, Error> {
        let watermarks = self.admin.watermarks(&self.settings.topic).await.map_err(fault::error)?;
        convert::position(watermarks.low)
    }

    async fn head(&self) -> Result<Position, Error> {
        let watermarks = self.admin.watermarks(&self.settings.topic).await.map_err(fault::error)?;
        convert::position(watermarks.high)
    }

    async fn incarnation(&self) -> Result<Incarnation, Error> {
        self.id().await.map(Incarnation)
    }

    async fn trim(&self, before: Position) -> Result<(), Error> {
        let offset = convert::offset(before)?;
        self.admin.trim(&self.settings.topic, offset).await.map_err(fault::error)?;
        Ok(())
    }
}

#[derive(Debug)]
struct KafkaReader {
    reader: decree_kafka::Reader,
    refusals: Refusals,
    /// The last commit failed.
    fails: bool,
}

#[async_trait]
impl Reader for KafkaReader {
    async fn next(&mut self, wait: Duration) -> Result<Batch, Error> {
        let fetched = self.reader.next(BATCH_RECORDS, BATCH_BYTES, wait).await;
        if let Some(error) = self.reader.uncommitted() {
            self.fails = true;
            fault::refused(&error, |why| self.refusals.note(Way::Commit, Some(why)));
        }
        let fetched = fetched.map_err(fault::error)?;
        let entries = fetched.records.into_iter().map(stored).collect::<Result<_, _>>()?;
        let end = fetched.end.map(convert::position).transpose()?;
        Ok(Batch { entries, next: convert::position(fetched.next)?, end })
    }

    async fn commit(&mut self, next: Position) -> Result<(), Error> {
        // Failures are told and successes are not; there is a second between two commits.
        if !std::mem::take(&mut self.fails) {
            self.refusals.note(Way::Commit, None);
        }
        self.reader.commit(convert::offset(next)?).map_err(fault::error)
    }
}

fn stored(record: decree_kafka::Record) -> Result<Stored, Error> {
    let position = convert::position(record.offset)?;
    let (log_time, leader_epoch) = (record.timestamp, record.leader_epoch);
    let record = convert::from_kafka(record);
    Ok(Stored {
        mark: Mark::of(&record, log_time, leader_epoch),
        entry: Entry { position, log_time, body: record::decode(&record) },
    })
}
