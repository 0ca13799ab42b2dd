//! Reads partition 0 of one topic in order, from a position of its own, and knows when it has read all there is.

use std::fmt;
use std::time::Duration;

use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::time::Instant;

use crate::client;
use crate::connection::Connection;
use crate::consumer::{Consumer, changed_id};
use crate::error::{Error, Result};
use crate::native::{Event, Refusal};
use crate::record::Record;

/// What to read, and within which bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderSettings {
    pub topic: String,
    /// The incarnation that the position belongs to. Any, if absent: then that which is found first.
    pub topic_id: Option<String>,
    /// The first position to read.
    pub from: i64,
    /// Where `commit` commits to. It is not joined, so nothing is ever rebalanced.
    pub group: String,
    /// How much is fetched ahead, in KiB.
    pub queue_kbytes: u32,
}

impl ReaderSettings {
    pub fn new(topic: impl Into<String>, from: i64, group: impl Into<String>) -> Self {
        Self { topic: topic.into(), topic_id: None, from, group: group.into(), queue_kbytes: 1024 }
    }

    /// Reads nothing but this incarnation of the topic.
    pub fn of_incarnation(mut self, topic_id: impl Into<String>) -> Self {
        self.topic_id = Some(topic_id.into());
        self
    }
}

/// What one call of `next` gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// In order; empty when nothing came in time.
    pub records: Vec<Record>,
    /// The position that the broker reported as the end, while nothing has come after it.
    pub end: Option<i64>,
    /// The position that is read next. Markers and aborted records are passed without a record.
    pub next: i64,
}

impl Fetched {
    /// Whether everything up to the end that the broker reported is read.
    pub fn caught_up(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }
}

/// How long to wait for the watermarks that make an error understandable.
const WATERMARKS_LIMIT: Duration = Duration::from_secs(5);

/// A consumer of one topic's partition 0.
pub struct Reader {
    consumer: Consumer,
    topic: String,
    expected_id: Option<String>,
    next: i64,
    end: Option<i64>,
    stopped: Option<Stopped>,
    /// The end must be heard of again: the connection was lost.
    unsure: bool,
}

/// Why nothing more is read until `seek`.
#[derive(Debug, Clone)]
enum Stopped {
    /// The offset is not there; the low and high watermark are asked for when the error is told.
    OutOfRange,
    Truncated(String),
    Replaced(String),
    Refused(Refusal),
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("topic", &self.topic).field("next", &self.next).finish_non_exhaustive()
    }
}

impl Reader {
    /// Connects in the background: succeeds with brokers away. Must be called in a runtime.
    pub fn open(connection: &Connection, settings: ReaderSettings) -> Result<Self> {
        let ReaderSettings { topic, topic_id, from, group, queue_kbytes } = settings;
        let consumer = Consumer::open(connection, &client::reader(connection, &group, queue_kbytes)?)?;
        let mut reader = Self {
            consumer,
            topic,
            expected_id: topic_id,
            next: from,
            end: None,
            stopped: None,
            unsure: false,
        };
        reader.seek(from)?;
        Ok(reader)
    }

    /// Records from the position on, at least one within `wait` or none; sooner when the end is reached. At most
    /// `max_records`, and no more once they have `max_bytes`.
    ///
    /// Cancel-safe: a record is given once, and none is lost when the future is dropped.
    ///
    /// Errors: `Unreachable` says that the connection was lost (or never was); the reader goes on trying, so call again,
    /// and before applying what comes make sure that the log is the same. `OutOfRange`, `Truncated`, `TopicReplaced`
    /// and `TopicMissing` last until `seek` or until another reader is opened.
    pub async fn next(&mut self, max_records: usize, max_bytes: usize, wait: Duration) -> Result<Fetched> {
        if self.unsure {
            // The end is reported anew, which also tells that a broker answers.
            self.seek(self.next)?;
        }
        let deadline = Instant::now() + wait;
        loop {
            if let Some(stopped) = self.stopped.clone() {
                return Err(self.explain(stopped).await);
            }
            let (had_end, before) = (self.end, self.next);
            let records = self.drain(max_records.max(1), max_bytes)?;
            let reached = self.end.is_some() && (had_end, before) != (self.end, self.next);
            if !records.is_empty() || reached {
                return Ok(Fetched { records, end: self.end, next: self.next });
            }
            if self.stopped.is_none() && !self.consumer.arrived(deadline).await {
                return Ok(Fetched { records: Vec::new(), end: self.end, next: self.next });
            }
        }
    }

    /// Goes on from another position of the same incarnation, and forgets an error of the last one.
    pub fn seek(&mut self, position: i64) -> Result<()> {
        let attempt = self.consumer.attempt(
            format!("read topic {} from {position}", self.topic),
            &self.topic,
            WATERMARKS_LIMIT,
        );
        if position < 0 {
            return Err(attempt.error(Code::InvalidArgument, "a position is not negative"));
        }
        self.consumer
            .assign(&self.topic, position)
            .map_err(|error| attempt.error(Code::InvalidArgument, error.to_string()))?;
        self.next = position;
        self.end = None;
        self.unsure = false;
        if !matches!(self.stopped, Some(Stopped::Replaced(_))) {
            self.stopped = None;
        }
        Ok(())
    }

    /// Tells Kafka's tools that everything before `position` is dealt with. In the background; nobody depends on it.
    pub fn commit(&self, position: i64) -> Result<()> {
        let attempt = self.consumer.attempt(
            format!("commit position {position} of topic {}", self.topic),
            &self.topic,
            WATERMARKS_LIMIT,
        );
        self.consumer.commit(&self.topic, position).map_err(|error| {
            attempt.error(error.rdkafka_error_code().unwrap_or(Code::Fail), error.to_string())
        })
    }

    /// The position that is read next.
    pub fn position(&self) -> i64 {
        self.next
    }

    /// The incarnation that is read: known once a broker has answered.
    pub fn topic_id(&self) -> Option<&str> {
        self.expected_id.as_deref()
    }

    /// The next position of the log as the last fetch reported it, without asking. Markers count.
    pub fn head(&self) -> Option<i64> {
        self.consumer.watermarks(&self.topic).map(|(_, high)| high)
    }

    /// Takes what has arrived. Never waits, so nothing taken can be lost; an error is told only where no record was
    /// taken, and comes again otherwise.
    fn drain(&mut self, max_records: usize, max_bytes: usize) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        let mut bytes = 0;
        while records.len() < max_records
            && (records.is_empty() || bytes < max_bytes)
            && self.stopped.is_none()
        {
            let Some(event) = self.consumer.poll() else { break };
            match event {
                Event::Record { topic, record } if topic == self.topic && record.offset >= self.next => {
                    self.next = record.offset + 1;
                    self.end = None;
                    bytes += record.size();
                    records.push(record);
                }
                Event::End { topic, offset } if topic == self.topic && offset >= self.next => {
                    self.next = offset;
                    self.end = Some(offset);
                }
                Event::Failed { topic, offset: _, refusal } => {
                    self.fail(topic, refusal, records.is_empty())?;
                }
                Event::Log { message, .. } => self.notice_id(&message),
                Event::Record { .. } | Event::End { .. } | Event::Committed(_) | Event::Other => (),
            }
        }
        Ok(records)
    }

    fn fail(&mut self, topic: Option<String>, refusal: Refusal, tell: bool) -> Result<()> {
        let attempt =
            self.consumer.attempt(format!("read topic {}", self.topic), &self.topic, WATERMARKS_LIMIT);
        match refusal.code {
            Code::AutoOffsetReset if refusal.detail.to_lowercase().contains("truncat") => {
                self.stopped = Some(Stopped::Truncated(refusal.detail));
            }
            Code::LogTruncation => self.stopped = Some(Stopped::Truncated(refusal.detail)),
            Code::AutoOffsetReset | Code::OffsetOutOfRange => self.stopped = Some(Stopped::OutOfRange),
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
                self.stopped = Some(Stopped::Refused(refusal));
            }
            Code::AllBrokersDown | Code::Authentication | Code::SSL | Code::TopicAuthorizationFailed => {
                self.unsure = true;
                if tell {
                    return Err(self.consumer.failed(&attempt, refusal.code, &refusal.detail));
                }
            }
            // One broker of several, the group's coordinator, a commit: reading goes on.
            code => {
                tracing::debug!(?code, topic, detail = refusal.detail, "librdkafka reports");
            }
        }
        Ok(())
    }

    fn notice_id(&mut self, message: &str) {
        let Some(found) = changed_id(message, &self.topic) else { return };
        match &self.expected_id {
            None => self.expected_id = Some(found.to_owned()),
            Some(expected) if expected == found => (),
            Some(_) => self.stopped = Some(Stopped::Replaced(found.to_owned())),
        }
    }

    async fn explain(&mut self, stopped: Stopped) -> Error {
        let topic = self.topic.clone();
        match stopped {
            Stopped::Truncated(detail) => Error::Truncated { topic, asked: self.next, detail },
            Stopped::Replaced(found) => {
                Error::TopicReplaced { topic, expected: self.expected_id.clone().unwrap_or_default(), found }
            }
            Stopped::Refused(refusal) => {
                let attempt = self.consumer.attempt(format!("read topic {topic}"), &topic, WATERMARKS_LIMIT);
                attempt.error(refusal.code, refusal.detail)
            }
            Stopped::OutOfRange => match self.consumer.query_watermarks(&topic, WATERMARKS_LIMIT).await {
                Ok((low, high)) => Error::OutOfRange { topic, asked: self.next, low, high },
                Err(error) => error,
            },
        }
    }
}

/// The record at exactly `offset`, read by itself, to compare it with what is remembered of it. `None` where there is
/// none (a marker, an aborted record, the end).
pub async fn read_one(
    connection: &Connection,
    topic: &str,
    offset: i64,
    limit: Duration,
) -> Result<Option<Record>> {
    let deadline = Instant::now() + limit;
    let mut reader = Reader::open(connection, ReaderSettings::new(topic, offset, &connection.client_id))?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let fetched = reader.next(1, 1, left).await?;
        if let Some(record) = fetched.records.into_iter().next() {
            return Ok((record.offset == offset).then_some(record));
        }
        if fetched.end.is_some() {
            return Ok(None);
        }
        if left.is_zero() {
            let attempt =
                reader.consumer.attempt(format!("read offset {offset} of topic {topic}"), topic, limit);
            return Err(reader.consumer.failed(&attempt, Code::OperationTimedOut, "no record came"));
        }
    }
}
