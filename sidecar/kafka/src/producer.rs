//! Appends records to partition 0, acknowledged by all in-sync replicas.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::bindings::rd_kafka_msg_status_t as Status;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Header as NativeHeader, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::sync::oneshot;

use crate::PARTITION;
use crate::client::{self, Context};
use crate::connection::{Connection, ProducerSettings};
use crate::error::{Attempt, Error, Result};
use crate::native;
use crate::record::{NewRecord, Sent};
use crate::trouble::{Kind, Trouble};

/// Appends records. Cheap to clone; clones share one client and its order.
#[derive(Clone)]
pub struct Producer {
    inner: Arc<Inner>,
}

type Client = ThreadedProducer<Reports>;

struct Inner {
    config: ClientConfig,
    brokers: String,
    delivery_limit: Duration,
    /// Replaced when librdkafka gives one up for good (its sequence numbers no longer fit the broker's).
    client: Mutex<Option<Arc<Client>>>,
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("brokers", &self.inner.brokers).finish_non_exhaustive()
    }
}

impl Producer {
    /// Connects in the background: succeeds with brokers away.
    pub fn open(connection: &Connection, settings: &ProducerSettings) -> Result<Self> {
        let config = client::producer(connection, settings)?;
        let client = create(&config).map_err(|error| client::refused(connection, &error))?;
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                brokers: connection.brokers(),
                delivery_limit: settings.delivery_limit,
                client: Mutex::new(Some(client)),
            }),
        })
    }

    /// Appends a record and waits until it is durable. Nothing is retried once this has answered.
    ///
    /// Where an attempt's end is not known it is repeated: the record may then stand in the topic more than once, and
    /// what is returned is said of one of them. Who reads must know a record again by what is in it. Ends within twice
    /// the delivery limit and a little: the last attempt has as long as the first.
    pub async fn send(&self, topic: &str, record: &NewRecord) -> Result<Sent> {
        let begun = Instant::now();
        let mut kept = false;
        loop {
            let mut delivery = match self.enqueue(topic, record) {
                Ok(delivery) => delivery,
                Err(error) if kept => {
                    return Err(Error::DeliveryUnknown { topic: topic.into(), detail: error.to_string() });
                }
                Err(error) => return Err(error),
            };
            let mut failure = match poll_fn(|context| delivery.report(context)).await {
                Ok(sent) => return Ok(sent),
                Err(failure) => failure,
            };
            kept |= failure.persisted || may_be_kept(failure.code);
            // A batch that was not answered ends with its oldest record's time; younger ones have some left.
            let passing = passing(failure.code) || failure.persisted && failure.code == Code::MessageTimedOut;
            if !passing || begun.elapsed() + PAUSE >= self.inner.delivery_limit {
                failure.persisted = kept;
                return Err(undelivered(&delivery.attempt, delivery.bytes, &failure));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Puts a record in the queue, in order with all that this producer was given before. Must be called in a runtime.
    pub fn enqueue(&self, topic: &str, record: &NewRecord) -> Result<Delivery> {
        let attempt = self.inner.attempt(topic);
        let headers = native_headers(record, &attempt)?;
        let client = self.inner.client(&attempt)?;
        let (report, reported) = oneshot::channel();
        let mut native =
            BaseRecord::<[u8], [u8], _>::with_opaque_to(topic, Box::new(report)).partition(PARTITION);
        native.headers = headers;
        native.key = record.key.as_deref();
        native.payload = record.value.as_deref();
        native.timestamp = record.timestamp;
        match client.send(native) {
            Ok(()) => Ok(Delivery {
                reported,
                // librdkafka reports by then; this is for the case that it does not.
                overdue: Box::pin(tokio::time::sleep(self.inner.delivery_limit + OVERDUE)),
                attempt,
                bytes: record.size(),
            }),
            Err((error, _)) => {
                let code = error.rdkafka_error_code().unwrap_or(Code::InvalidArgument);
                let trouble = client.client().context().context.trouble();
                let failure = Undelivered { code, persisted: false, trouble };
                Err(undelivered(&attempt, record.size(), &failure))
            }
        }
    }

    /// Waits until nothing is outstanding.
    pub async fn flush(&self, limit: Duration) -> Result<()> {
        let attempt = Attempt { what: "flush the producer".into(), limit, ..self.inner.attempt("") };
        let client = self.inner.client(&attempt)?;
        let flushed = tokio::task::spawn_blocking(move || client.flush(limit)).await;
        match flushed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                Err(attempt.error(error.rdkafka_error_code().unwrap_or(Code::Fail), error.to_string()))
            }
            Err(error) => Err(attempt.error(Code::Fail, error.to_string())),
        }
    }

    /// How many records are outstanding.
    pub fn outstanding(&self) -> usize {
        let client = self.inner.client.lock().unwrap_or_else(PoisonError::into_inner);
        client.as_ref().map_or(0, |client| usize::try_from(client.in_flight_count()).unwrap_or(0))
    }
}

/// Between two attempts at a record.
const PAUSE: Duration = Duration::from_millis(50);

/// How much later than librdkafka should have reported a delivery it is given up.
const OVERDUE: Duration = Duration::from_secs(2);

impl Inner {
    fn attempt(&self, topic: &str) -> Attempt {
        Attempt {
            what: format!("append to topic {topic}"),
            brokers: self.brokers.clone(),
            topic: topic.to_owned(),
            limit: self.delivery_limit,
            needs: format!("WRITE on topic {topic}"),
        }
    }

    /// The client, a new one where the last is beyond use.
    fn client(&self, attempt: &Attempt) -> Result<Arc<Client>> {
        let mut current = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        match current.as_ref() {
            Some(client) if !client.client().context().fatal.load(Ordering::Relaxed) => Ok(client.clone()),
            _ => {
                tracing::warn!(brokers = self.brokers, "the producer is beyond use, making a new one");
                let fresh =
                    create(&self.config).map_err(|error| attempt.error(Code::Fail, error.to_string()))?;
                client::close(current.replace(fresh.clone()));
                Ok(fresh)
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Closing waits for librdkafka's threads. What is outstanding is dropped: flush before.
        client::close(self.client.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

fn create(config: &ClientConfig) -> Result<Arc<Client>, KafkaError> {
    config.create_with_context(Reports::default()).map(Arc::new)
}

fn native_headers(record: &NewRecord, attempt: &Attempt) -> Result<Option<OwnedHeaders>> {
    if record.headers.is_empty() {
        return Ok(None);
    }
    let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
    for header in &record.headers {
        if header.name.contains('\0') {
            return Err(attempt.error(Code::InvalidArgument, "a header's name has a NUL in it"));
        }
        headers = headers.insert(NativeHeader { key: &header.name, value: header.value.as_deref() });
    }
    Ok(Some(headers))
}

/// The end of an append, to be awaited. Dropping it takes nothing back.
#[derive(Debug)]
pub struct Delivery {
    reported: oneshot::Receiver<Result<Sent, Undelivered>>,
    overdue: Pin<Box<tokio::time::Sleep>>,
    attempt: Attempt,
    bytes: usize,
}

impl Delivery {
    fn report(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<Sent, Undelivered>> {
        let unknown = Undelivered { code: Code::MessageTimedOut, persisted: true, trouble: None };
        let report = match Pin::new(&mut self.reported).poll(context) {
            Poll::Ready(Ok(report)) => report,
            Poll::Ready(Err(_)) => {
                Err(Undelivered { code: Code::PurgeInflight, persisted: true, trouble: None })
            }
            Poll::Pending => match self.overdue.as_mut().poll(context) {
                Poll::Ready(()) => Err(unknown),
                Poll::Pending => return Poll::Pending,
            },
        };
        Poll::Ready(report)
    }
}

impl Future for Delivery {
    type Output = Result<Sent>;

    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let report = self.report(context);
        report.map_err(|failure| undelivered(&self.attempt, self.bytes, &failure))
    }
}

/// A delivery that failed, and whether the record may be in the log all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Undelivered {
    code: Code,
    persisted: bool,
    /// Why no broker could be reached meanwhile.
    trouble: Option<Trouble>,
}

/// Whether the next attempt may fare better: a leader that moves, a connection that broke, replicas that catch up.
fn passing(code: Code) -> bool {
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::NetworkException
            | Code::NotLeaderForPartition
            | Code::LeaderNotAvailable
            | Code::BrokerNotAvailable
            | Code::ReplicaNotAvailable
            | Code::KafkaStorageError
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
    )
}

/// Refusals that a leader may give behind the append, too; librdkafka takes them for refusals before it.
fn may_be_kept(code: Code) -> bool {
    matches!(code, Code::KafkaStorageError | Code::Unknown)
}

fn undelivered(attempt: &Attempt, bytes: usize, failure: &Undelivered) -> Error {
    let topic = attempt.topic.clone();
    let why = failure.trouble.as_ref().map(|trouble| format!(": {}", trouble.detail)).unwrap_or_default();
    let detail = format!("{} on {}{why}", failure.code, attempt.brokers);
    match failure.code {
        _ if failure.persisted => Error::DeliveryUnknown { topic, detail },
        Code::QueueFull => Error::QueueFull { topic },
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => {
            Error::TooLarge { topic, bytes }
        }
        Code::MessageTimedOut
            if failure.trouble.as_ref().is_some_and(|trouble| trouble.kind != Kind::Away) =>
        {
            failure
                .trouble
                .as_ref()
                .map_or_else(|| attempt.error(failure.code, detail), |trouble| attempt.behind(trouble))
        }
        Code::MessageTimedOut | Code::Fatal | Code::PurgeQueue => Error::NotDelivered { topic, detail },
        code => attempt.error(code, detail),
    }
}

/// Hands each delivery report to whoever waits for it.
#[derive(Default)]
struct Reports {
    context: Context,
    fatal: AtomicBool,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(Code::Fatal) {
            tracing::warn!("librdkafka gave the producer up: {reason}");
            self.fatal.store(true, Ordering::Relaxed);
        }
        self.context.error(error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<oneshot::Sender<Result<Sent, Undelivered>>>;

    fn delivery(&self, result: &DeliveryResult<'_>, waiting: Self::DeliveryOpaque) {
        let report = match result {
            Ok(message) => {
                self.context.answered();
                Ok(Sent {
                    offset: message.offset(),
                    timestamp: message.timestamp().to_millis().unwrap_or(-1),
                })
            }
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
                let persisted = native::message_status(message) != Status::RD_KAFKA_MSG_STATUS_NOT_PERSISTED;
                Err(Undelivered { code, persisted, trouble: self.context.trouble() })
            }
        };
        // Nobody waits any more: the record is appended or not all the same.
        let _ = waiting.send(report);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(code: Code, persisted: bool) -> &'static str {
        reason_behind(code, persisted, None)
    }

    fn reason_behind(code: Code, persisted: bool, trouble: Option<Trouble>) -> &'static str {
        let attempt = Attempt {
            what: "append".into(),
            brokers: "b:1".into(),
            topic: "t".into(),
            limit: Duration::from_secs(1),
            needs: "WRITE on topic t".into(),
        };
        undelivered(&attempt, 7, &Undelivered { code, persisted, trouble }).reason()
    }

    #[test]
    fn what_may_be_in_the_log_is_unknown_whatever_the_code() {
        assert_eq!(reason(Code::MessageTimedOut, true), "DeliveryUnknown");
        assert_eq!(reason(Code::NotEnoughReplicasAfterAppend, true), "DeliveryUnknown");
        assert_eq!(reason(Code::PurgeInflight, true), "DeliveryUnknown");
    }

    #[test]
    fn what_was_never_sent_is_not_delivered() {
        assert_eq!(reason(Code::MessageTimedOut, false), "NotDelivered");
        assert_eq!(reason(Code::QueueFull, false), "QueueFull");
        assert_eq!(reason(Code::MessageSizeTooLarge, false), "TooLarge");
        assert_eq!(reason(Code::UnknownTopic, false), "TopicMissing");
        assert_eq!(reason(Code::TopicAuthorizationFailed, false), "KafkaUnauthorized");
        let refused = Trouble::of(Code::Authentication, "wrong password");
        let reason = reason_behind(Code::MessageTimedOut, false, Some(refused));
        assert_eq!(reason, "KafkaUnauthenticated", "a time-out is not all that is known");
    }
}
