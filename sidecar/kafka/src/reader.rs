//! Reads partition 0 of one topic in order, from a position of its own, and knows when it has read all there is.

use std::fmt;
use std::time::Duration;

use rdkafka::error::KafkaResult;
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{ClientConfig, Offset};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::client;
use crate::connection::Connection;
use crate::consumer::{Consumer, changed_id};
use crate::error::{Attempt, Error, Result};
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
    /// The position that the broker reported as the end, while nothing has come after it. It was the end when the
    /// broker answered; what was appended since is on its way.
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
    connection: Connection,
    config: ClientConfig,
    topic: String,
    expected_id: Option<String>,
    next: i64,
    end: Option<i64>,
    stopped: Option<Stopped>,
    /// Set while no broker can be reached.
    lost: Option<Lost>,
    /// An error that came after records, for the next call.
    untold: Option<Error>,
    uncommitted: Option<String>,
}

/// librdkafka connects again by itself, but tells neither that nor the end a second time. So the brokers are asked.
#[derive(Debug)]
struct Lost {
    told: Instant,
    probe: Option<JoinHandle<KafkaResult<(i64, i64)>>>,
}

/// How often `next` says that the brokers are away, and how long a probe may take.
const AWAY: Duration = Duration::from_secs(1);

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
        let config = client::reader(connection, &group, queue_kbytes)?;
        let consumer = Consumer::open(connection, &config)?;
        let reader = Self {
            consumer,
            connection: connection.clone(),
            config,
            topic,
            expected_id: topic_id,
            next: from,
            end: None,
            stopped: None,
            lost: None,
            untold: None,
            uncommitted: None,
        };
        reader.assign(from)?;
        Ok(reader)
    }

    /// Records from the position on, at least one within `wait` or none; sooner when the end is reached. At most
    /// `max_records`, and no more once they have `max_bytes`.
    ///
    /// Cancel-safe: a record is given once, and none is lost when the future is dropped.
    ///
    /// Errors: `Unreachable` says that the connection was lost (or never was); the reader goes on trying, so call again,
    /// and before applying what comes make sure that the log is the same. `OutOfRange`, `Truncated`, `TopicReplaced`,
    /// `Unauthorized` and `TopicMissing` last until `seek` or until another reader is opened.
    pub async fn next(&mut self, max_records: usize, max_bytes: usize, wait: Duration) -> Result<Fetched> {
        if let Some(error) = self.untold.take() {
            return Err(error);
        }
        let deadline = Instant::now() + wait;
        loop {
            if let Some(stopped) = self.stopped.clone() {
                // Logs gather all the same.
                while self.consumer.poll().is_some() {}
                return Err(self.explain(stopped).await);
            }
            let heard = self.probe().await;
            let (had_end, before) = (self.end, self.next);
            let records = self.drain(max_records.max(1), max_bytes)?;
            let reached = heard || self.end.is_some() && (had_end, before) != (self.end, self.next);
            if !records.is_empty() || reached {
                return Ok(Fetched { records, end: self.end, next: self.next });
            }
            if self.stopped.is_none() && !self.consumer.arrived(deadline).await {
                return Ok(Fetched { records: Vec::new(), end: self.end, next: self.next });
            }
        }
    }

    /// Goes on from another position of the same incarnation, and forgets an error of the last one. Connects anew.
    ///
    /// librdkafka aborts the process when a partition is assigned again while it is about to stop (its issue 5573), and
    /// seeks nothing where it has stopped fetching, or unreliably where brokers are away. So a consumer is assigned once.
    pub fn seek(&mut self, position: i64) -> Result<()> {
        if matches!(self.stopped, Some(Stopped::Replaced(_))) {
            // Another topic does not become the right one.
            return Ok(());
        }
        self.attempt_from(position)?;
        self.consumer = Consumer::open(&self.connection, &self.config)?;
        self.assign(position)?;
        self.next = position;
        self.end = None;
        self.stopped = None;
        self.lost = None;
        self.untold = None;
        Ok(())
    }

    fn assign(&self, position: i64) -> Result<()> {
        let attempt = self.attempt_from(position)?;
        self.consumer
            .assign(&self.topic, Offset::Offset(position))
            .map_err(|error| attempt.error(Code::InvalidArgument, error.to_string()))
    }

    fn attempt_from(&self, position: i64) -> Result<Attempt> {
        let what = format!("read topic {} from {position}", self.topic);
        let attempt = self.consumer.attempt(what, &self.topic, WATERMARKS_LIMIT);
        if position < 0 {
            return Err(attempt.error(Code::InvalidArgument, "a position is not negative"));
        }
        Ok(attempt)
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

    /// Why a commit failed, once.
    pub fn uncommitted(&mut self) -> Option<Error> {
        let why = self.uncommitted.take()?;
        let group = self.config.get("group.id").unwrap_or_default();
        let what = format!("commit a position of topic {} to group {group}", self.topic);
        let attempt = self.consumer.attempt(what, &self.topic, WATERMARKS_LIMIT);
        let (attempt, code) = match why.contains("Group authorization failed") {
            true => (attempt.needs("READ", &format!("group {group}")), Code::GroupAuthorizationFailed),
            false if why.contains("Topic authorization failed") => (attempt, Code::TopicAuthorizationFailed),
            false => (attempt, Code::Fail),
        };
        Some(attempt.error(code, why))
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
                    self.lost = None;
                    bytes += record.size();
                    records.push(record);
                }
                Event::End { topic, offset } if topic == self.topic && offset >= self.next => {
                    self.next = offset;
                    self.end = Some(offset);
                    self.lost = None;
                }
                Event::Failed { topic, refusal } => match self.fail(topic, refusal) {
                    Some(error) if records.is_empty() => return Err(error),
                    Some(error) => {
                        self.untold = Some(error);
                        break;
                    }
                    None => (),
                },
                // A refused commit is told nowhere else.
                Event::Log { facility, message, .. } if facility == "COMMITFAIL" => {
                    self.uncommitted = Some(message);
                }
                Event::Log { message, .. } => self.notice_id(&message),
                Event::Record { .. } | Event::End { .. } | Event::Committed(_) | Event::Other => (),
            }
        }
        Ok(records)
    }

    /// Takes note of an error; gives it back if it is to be told at once.
    fn fail(&mut self, topic: Option<String>, refusal: Refusal) -> Option<Error> {
        match refusal.code {
            Code::AutoOffsetReset if refusal.detail.to_lowercase().contains("truncat") => {
                self.stopped = Some(Stopped::Truncated(refusal.detail));
            }
            Code::LogTruncation => self.stopped = Some(Stopped::Truncated(refusal.detail)),
            Code::AutoOffsetReset | Code::OffsetOutOfRange => self.stopped = Some(Stopped::OutOfRange),
            // What is refused is told until another reader is opened: this one would not say when it no longer is.
            Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::TopicAuthorizationFailed => self.stopped = Some(Stopped::Refused(refusal)),
            Code::AllBrokersDown | Code::Authentication | Code::SSL => return self.lose(&refusal),
            // One broker of several, the group's coordinator, a commit: reading goes on.
            code => tracing::debug!(?code, topic, detail = refusal.detail, "librdkafka reports"),
        }
        None
    }

    /// The brokers are away; that is told once in a while.
    fn lose(&mut self, refusal: &Refusal) -> Option<Error> {
        let now = Instant::now();
        self.end = None;
        let lost = self.lost.get_or_insert(Lost { told: now - AWAY, probe: None });
        if now - lost.told < AWAY {
            return None;
        }
        lost.told = now;
        let attempt =
            self.consumer.attempt(format!("read topic {}", self.topic), &self.topic, WATERMARKS_LIMIT);
        Some(self.consumer.failed(&attempt, refusal.code, &refusal.detail))
    }

    /// While the brokers are away, asks for the end; whether it was heard just now. Never waits.
    async fn probe(&mut self) -> bool {
        let Some(lost) = &mut self.lost else { return false };
        match &mut lost.probe {
            Some(probe) if probe.is_finished() => {
                let answer = probe.await;
                lost.probe = None;
                let Ok(Ok((_, high))) = answer else { return false };
                self.lost = None;
                // Where more is to come, its end comes with it.
                self.end = (self.next >= high).then_some(self.next);
                self.end.is_some()
            }
            Some(_) => false,
            None => {
                lost.probe = Some(self.consumer.start_query(&self.topic, AWAY));
                false
            }
        }
    }

    fn notice_id(&mut self, message: &str) {
        let Some(found) = changed_id(message, &self.topic) else { return };
        match &self.expected_id {
            None => self.expected_id = Some(found),
            Some(expected) if *expected == found => (),
            Some(_) => self.stopped = Some(Stopped::Replaced(found)),
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
