//! Reads partition 0 of many topics with one client: for what is heard now, not for what must not be missed.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::time::Instant;

use crate::client;
use crate::connection::Connection;
use crate::consumer::{Consumer, at};
use crate::error::{Error, Result};
use crate::native::Event;
use crate::record::Record;

/// Where a topic is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// What comes from now on.
    End,
    /// From so many records before the end.
    Tail(u32),
    /// From the first record that is no older than this.
    Ago(Duration),
}

/// What a `MultiReader` heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    Record {
        topic: String,
        record: Record,
    },
    /// The topic can't be read (it is missing, say). It is still assigned, and read again once it can be.
    Failed {
        topic: String,
        error: Error,
    },
}

/// How long to ask for the offset of a point in time.
const START_LIMIT: Duration = Duration::from_secs(5);

/// One consumer of many topics. A topic whose start is trimmed or that was made again is read from its end.
pub struct MultiReader {
    consumer: Consumer,
    topics: Mutex<HashMap<String, State>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Read,
    /// librdkafka aborts the process when it is told to stop what is about to stop (its issue 5573), and does not say
    /// when that is over: a topic comes back after `STOPPED`.
    Removed(Instant),
}

/// Stopping takes milliseconds.
const STOPPED: Duration = Duration::from_secs(1);

impl fmt::Debug for MultiReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MultiReader").finish_non_exhaustive()
    }
}

impl MultiReader {
    /// Connects in the background: succeeds with brokers away. `group` is named to Kafka, never joined or committed to.
    /// At most `queue_kbytes` KiB a topic are fetched ahead.
    pub fn open(connection: &Connection, group: &str, queue_kbytes: u32) -> Result<Self> {
        let config = client::multi_reader(connection, group, queue_kbytes)?;
        let consumer = Consumer::open(connection, &config)?;
        let reader = Self { consumer, topics: Mutex::default() };
        // librdkafka takes incremental assignments only after a first.
        reader
            .consumer
            .client()
            .assign(&rdkafka::TopicPartitionList::new())
            .map_err(|error| client::refused(connection, &error))?;
        Ok(reader)
    }

    /// Reads this topic too; once more from `start` where it is read already.
    pub async fn add(&self, topic: &str, start: Start) -> Result<()> {
        let attempt = self.consumer.attempt(format!("read topic {topic}"), topic, START_LIMIT);
        let offset = match start {
            Start::End => Offset::End,
            Start::Tail(records) => Offset::OffsetTail(i64::from(records)),
            Start::Ago(ago) => self.offset_of(topic, ago).await?,
        };
        let failed = |error: KafkaError| attempt.error(Code::Fail, error.to_string());
        loop {
            let removed = {
                let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
                match topics.get(topic).copied() {
                    Some(State::Removed(at)) if at.elapsed() < STOPPED => at,
                    Some(State::Read) => {
                        return self.consumer.seek(topic, offset).map_err(failed);
                    }
                    Some(State::Removed(_)) | None => {
                        at(topic, offset)
                            .and_then(|list| self.consumer.client().incremental_assign(&list))
                            .map_err(failed)?;
                        topics.insert(topic.to_owned(), State::Read);
                        return Ok(());
                    }
                }
            };
            tokio::time::sleep_until(removed + STOPPED).await;
        }
    }

    /// Reads this topic no longer.
    pub fn remove(&self, topic: &str) -> Result<()> {
        let attempt = self.consumer.attempt(format!("stop reading topic {topic}"), topic, START_LIMIT);
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        topics.retain(|_, state| !matches!(state, State::Removed(at) if at.elapsed() >= STOPPED));
        if topics.get(topic) == Some(&State::Read) {
            at(topic, Offset::Invalid)
                .and_then(|list| self.consumer.client().incremental_unassign(&list))
                .map_err(|error| attempt.error(Code::Fail, error.to_string()))?;
            topics.insert(topic.to_owned(), State::Removed(Instant::now()));
        }
        Ok(())
    }

    /// What has been heard, at most `max`; waits up to `wait` for something. `Unreachable` says that every broker is
    /// away; reading goes on by itself, so call again. Cancel-safe.
    pub async fn next(&self, max: usize, wait: Duration) -> Result<Vec<Heard>> {
        let deadline = Instant::now() + wait;
        loop {
            let heard = self.drain(max.max(1))?;
            if !heard.is_empty() || !self.consumer.arrived(deadline).await {
                return Ok(heard);
            }
        }
    }

    fn drain(&self, max: usize) -> Result<Vec<Heard>> {
        let mut heard = Vec::new();
        while heard.len() < max {
            let Some(event) = self.consumer.poll() else { break };
            match event {
                Event::Record { topic, record } => heard.push(Heard::Record { topic, record }),
                Event::Failed { topic: Some(topic), refusal } => {
                    let attempt = self.consumer.attempt(format!("read topic {topic}"), &topic, START_LIMIT);
                    let error = attempt.error(refusal.code, refusal.detail);
                    heard.push(Heard::Failed { topic, error });
                }
                Event::Failed { topic: None, refusal } => match refusal.code {
                    Code::AllBrokersDown | Code::Authentication | Code::SSL if heard.is_empty() => {
                        let attempt = self.consumer.attempt("read".into(), "", START_LIMIT);
                        return Err(self.consumer.failed(&attempt, refusal.code, &refusal.detail));
                    }
                    code => tracing::debug!(?code, detail = refusal.detail, "librdkafka reports"),
                },
                Event::End { .. } | Event::Committed(_) | Event::Log { .. } | Event::Other => (),
            }
        }
        Ok(heard)
    }

    async fn offset_of(&self, topic: &str, ago: Duration) -> Result<Offset> {
        let attempt = self.consumer.attempt(format!("find the start of topic {topic}"), topic, START_LIMIT);
        let then = std::time::SystemTime::now() - ago;
        let then = then.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis();
        let then = i64::try_from(then).unwrap_or(i64::MAX);
        let (client, name) = (self.consumer.client().clone(), topic.to_owned());
        let answer = tokio::task::spawn_blocking(move || {
            let found = client.offsets_for_times(at(&name, Offset::Offset(then))?, START_LIMIT)?;
            let offset = found.elements().first().map(|element| (element.error(), element.offset()));
            match offset {
                Some((Ok(()), offset)) => Ok(offset),
                Some((Err(error), _)) => Err(error),
                None => Ok(Offset::End),
            }
        })
        .await;
        match answer {
            Ok(Ok(offset)) => Ok(offset),
            Ok(Err(error)) => {
                let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
                Err(self.consumer.failed(&attempt, code, &error.to_string()))
            }
            Err(error) => Err(attempt.error(Code::Fail, error.to_string())),
        }
    }
}
