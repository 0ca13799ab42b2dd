//! A librdkafka consumer that is assigned by hand and wakes its owner: no thread waits, nothing blocks.
//!
//! rdkafka's `StreamConsumer` does the same, but drops the offsets of ends and errors; `BaseConsumer::poll` needs a
//! thread. So this is a `BaseConsumer` whose queue is read by `native`.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::PARTITION;
use crate::client::{self, Context};
use crate::connection::Connection;
use crate::error::{Attempt, Error, Result};
use crate::native::{self, Event, EventQueue};
use crate::topic::as_kafka_prints;

/// The wake-up is an edge: should one be missed, we look again this much later.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

pub(crate) struct Consumer {
    client: Option<(EventQueue, Arc<BaseConsumer<Context>>)>,
    arrived: Arc<Notify>,
    brokers: String,
}

impl Consumer {
    pub(crate) fn open(connection: &Connection, config: &ClientConfig) -> Result<Self> {
        let refused = |error| client::refused(connection, &error);
        let mut client: BaseConsumer<Context> =
            config.create_with_context(Context::default()).map_err(refused)?;
        let arrived = Arc::new(Notify::new());
        let wake = arrived.clone();
        client.set_nonempty_callback(move || wake.notify_one());
        let client = Arc::new(client);
        let queue = EventQueue::of(client.clone())
            .ok_or_else(|| refused(KafkaError::ClientCreation("the consumer has no group".into())))?;
        Ok(Self { client: Some((queue, client)), arrived, brokers: connection.brokers() })
    }

    /// The next event, logs taken care of, without waiting.
    pub(crate) fn poll(&self) -> Option<Event> {
        let (queue, client) = self.client.as_ref()?;
        let event = queue.poll()?;
        match &event {
            Event::Log { level, facility, message } => client.context().log(*level, facility, message),
            Event::Failed { topic: None, refusal } => client.context().note(refusal.code, &refusal.detail),
            Event::Record { .. } | Event::End { .. } => client.context().answered(),
            Event::Committed(Err(refusal)) => tracing::debug!(detail = refusal.detail, "a commit failed"),
            Event::Committed(Ok(())) | Event::Failed { .. } | Event::Other => (),
        }
        Some(event)
    }

    /// Waits until there may be an event, at most until `deadline`; false when that has passed. Call it only after
    /// `poll` gave nothing. Cancel-safe.
    pub(crate) async fn arrived(&self, deadline: Instant) -> bool {
        let look_again = Instant::now() + LOOK_AGAIN;
        let _ = timeout_at(deadline.min(look_again), self.arrived.notified()).await;
        Instant::now() < deadline
    }

    pub(crate) fn client(&self) -> &Arc<BaseConsumer<Context>> {
        &self.client.as_ref().expect("the client is taken only in drop").1
    }

    /// Reads `topic` from `offset` on. Once for each consumer (see `Reader::seek`).
    pub(crate) fn assign(&self, topic: &str, offset: Offset) -> KafkaResult<()> {
        self.client().assign(&at(topic, offset)?)
    }

    /// Goes on elsewhere in a topic that is assigned; what was fetched before is dropped, the end is told anew. In the
    /// background; nothing happens where fetching has stopped.
    pub(crate) fn seek(&self, topic: &str, offset: Offset) -> KafkaResult<()> {
        self.client().seek_partitions(at(topic, offset)?, Duration::ZERO).map(|_| ())
    }

    /// Commits in the background; what becomes of it is logged.
    pub(crate) fn commit(&self, topic: &str, position: i64) -> KafkaResult<()> {
        self.client().commit(&at(topic, Offset::Offset(position))?, CommitMode::Async)
    }

    pub(crate) fn watermarks(&self, topic: &str) -> Option<(i64, i64)> {
        native::watermarks(self.client(), topic)
    }

    pub(crate) fn attempt(&self, what: String, topic: &str, limit: Duration) -> Attempt {
        let needs = format!("READ on topic {topic}");
        Attempt { what, brokers: self.brokers.clone(), topic: topic.to_owned(), limit, needs }
    }

    /// What an error of librdkafka means, with the reason why brokers can't be reached if it is that.
    pub(crate) fn failed(&self, attempt: &Attempt, code: Code, detail: &str) -> Error {
        match (code, self.client().context().trouble()) {
            (Code::AllBrokersDown | Code::OperationTimedOut, Some(trouble)) => attempt.behind(&trouble),
            _ => attempt.error(code, detail),
        }
    }

    /// Asks the brokers for the low and high watermark.
    pub(crate) async fn query_watermarks(&self, topic: &str, limit: Duration) -> Result<(i64, i64)> {
        let attempt = self
            .attempt(format!("list the offsets of topic {topic}"), topic, limit)
            .needs("DESCRIBE", &format!("topic {topic}"));
        match self.start_query(topic, limit).await {
            Ok(Ok(watermarks)) => Ok(watermarks),
            Ok(Err(error)) => {
                let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
                Err(self.failed(&attempt, code, &error.to_string()))
            }
            Err(error) => Err(attempt.error(Code::Fail, error.to_string())),
        }
    }

    /// The same as a task, which ends within `limit`.
    pub(crate) fn start_query(&self, topic: &str, limit: Duration) -> JoinHandle<KafkaResult<(i64, i64)>> {
        let (client, topic) = (self.client().clone(), topic.to_owned());
        tokio::task::spawn_blocking(move || client.fetch_watermarks(&topic, PARTITION, limit))
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // Closing a consumer waits for its group to be left.
        client::close(self.client.take());
    }
}

pub(crate) fn at(topic: &str, offset: Offset) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition_offset(topic, PARTITION, offset)?;
    Ok(list)
}

/// The topic id that librdkafka fetches by, from the one place where it says so: a line of its debug log. It goes on
/// reading, at the same offset, when a topic was deleted and made again; this line comes before the first such record.
pub(crate) fn changed_id(message: &str, topic: &str) -> Option<String> {
    let change = message.split_once(&format!("Topic {topic} changed id from "))?.1;
    let (_, found) = change.split_once(" to ")?;
    Some(as_kafka_prints(found.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_read_from_the_log() {
        let line =
            "[thrd:main]: Topic decree.a changed id from AAAAAAAAAAAAAAAAAAAAAA to JG+s6QZmTZ2FXgzXRa/cdQ";
        assert_eq!(changed_id(line, "decree.a"), Some("JG-s6QZmTZ2FXgzXRa_cdQ".to_owned()));
        assert_eq!(changed_id(line, "decree"), None);
        assert_eq!(changed_id("[thrd:main]: Topic decree.a partition 0 Leader 1", "decree.a"), None);
    }
}
