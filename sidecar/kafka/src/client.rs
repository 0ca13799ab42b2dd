//! How each kind of librdkafka client is configured, and where its logs go.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;

use crate::connection::{ClientCertificate, Connection, ProducerSettings, Sasl, Tls};
use crate::error::{Error, Result};
use crate::trouble::{Lasting, Trouble};

/// Larger than any record that brokers take by default, so that one always fits.
const FETCH_BYTES: usize = 1024 * 1024;

fn base(connection: &Connection) -> Result<ClientConfig> {
    connection.check()?;
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", connection.brokers())
        .set("client.id", &connection.client_id)
        .set("socket.keepalive.enable", "true")
        .set("socket.connection.setup.timeout.ms", millis(setup_limit(connection)))
        // A broker that was cut off without a FIN is noticed this late, instead of after a minute.
        .set("socket.timeout.ms", "10000")
        .set("reconnect.backoff.ms", "100")
        .set("reconnect.backoff.max.ms", "2000")
        // Brokers close idle connections all the time; that is no news.
        .set("log.connection.close", "false")
        // A topic that is gone must stay gone until a person says otherwise; a producer would bring it back.
        .set("allow.auto.create.topics", "false")
        // Nobody asked for telemetry to be pushed to the brokers.
        .set("enable.metrics.push", "false")
        .set("security.protocol", connection.protocol());
    if let Some(Tls { ca, client }) = &connection.tls {
        // librdkafka's defaults, which nobody may lose by a new version of it.
        config.set("enable.ssl.certificate.verification", "true");
        config.set("ssl.endpoint.identification.algorithm", "https");
        if let Some(ca) = ca {
            config.set("ssl.ca.pem", ca);
        }
        if let Some(ClientCertificate { certificate, key }) = client {
            config.set("ssl.certificate.pem", certificate).set("ssl.key.pem", key);
        }
    }
    if let Some(Sasl { mechanism, username, password }) = &connection.sasl {
        config.set("sasl.mechanisms", mechanism.name());
        config.set("sasl.username", username).set("sasl.password", password);
    }
    Ok(config)
}

/// How long a connection may take to be made. Handshakes and passwords are several questions and answers more, each of
/// which a broker that is short of CPU takes its time for; given up too soon, none is ever made.
fn setup_limit(connection: &Connection) -> Duration {
    let secured = connection.tls.is_some() || connection.sasl.is_some();
    Duration::from_secs(if secured { 20 } else { 5 })
}

pub(crate) fn admin(connection: &Connection) -> Result<ClientConfig> {
    base(connection)
}

pub(crate) fn producer(connection: &Connection, settings: &ProducerSettings) -> Result<ClientConfig> {
    let mut config = base(connection)?;
    config
        // Not librdkafka's own idempotence: it counts five *records* in flight, not requests, and while more wait its
        // thread turns round and round (a whole core, measured, from five clients on). A record's id makes a repeat
        // harmless, and `Producer::send` repeats: librdkafka forgets that an attempt before may have been kept.
        .set("enable.idempotence", "false")
        .set("message.send.max.retries", "0")
        .set("acks", "all")
        // In order, and the next batch gathers meanwhile.
        .set("max.in.flight.requests.per.connection", "1")
        // While a request is in flight the next batch gathers anyway; waiting for more only adds delay.
        .set("linger.ms", "0")
        .set("compression.type", "none")
        // What brokers take by default: librdkafka's own limit is lower.
        .set("message.max.bytes", "1048588")
        .set("message.timeout.ms", millis(settings.delivery_limit))
        .set("topic.metadata.propagation.max.ms", "2000")
        .set("queue.buffering.max.messages", settings.queue_records.to_string())
        .set("queue.buffering.max.kbytes", settings.queue_kbytes.to_string());
    Ok(config)
}

/// A consumer that is assigned by hand. librdkafka wants a group for that; it is used for commits alone.
pub(crate) fn reader(connection: &Connection, group: &str, queue_kbytes: u32) -> Result<ClientConfig> {
    let mut config = base(connection)?;
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        // The end is reported by the next, empty fetch: as late as this.
        .set("fetch.wait.max.ms", "10")
        .set("fetch.error.backoff.ms", "100")
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.max.bytes", FETCH_BYTES.to_string())
        .set("fetch.message.max.bytes", FETCH_BYTES.to_string())
        .set("queued.max.messages.kbytes", queue_kbytes.to_string())
        .set("topic.metadata.propagation.max.ms", "2000")
        // The only place where librdkafka says that a topic was made again (see `consumer::TopicId`).
        .set("debug", "topic")
        .set_log_level(RDKafkaLogLevel::Debug);
    Ok(config)
}

/// Many topics, where what was missed while away does not matter: longer fetches, no end, goes on from the end.
pub(crate) fn multi_reader(connection: &Connection, group: &str, queue_kbytes: u32) -> Result<ClientConfig> {
    let mut config = reader(connection, group, queue_kbytes)?;
    config
        .set("enable.partition.eof", "false")
        .set("auto.offset.reset", "latest")
        .set("fetch.wait.max.ms", "200")
        .remove("debug")
        .set_log_level(RDKafkaLogLevel::Warning);
    Ok(config)
}

pub(crate) fn millis(limit: Duration) -> String {
    limit.as_millis().clamp(1, i32::MAX as u128).to_string()
}

pub(crate) fn refused(connection: &Connection, error: &KafkaError) -> Error {
    let attempt = format!("make a Kafka client for {}", connection.brokers());
    let detail = error.to_string();
    // All else about a connection is ours, or was looked at before.
    match detail.contains("ssl.") {
        true => Error::Unusable { attempt, detail },
        false => Error::Invalid { attempt, detail },
    }
}

/// Drops a client where it may block: closing waits for librdkafka's threads.
pub(crate) fn close<T: Send + 'static>(client: T) {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(move || drop(client))),
        Err(_) => drop(client),
    }
}

/// Takes librdkafka's logs, and remembers why brokers can't be reached until one answers again.
#[derive(Debug, Default)]
pub(crate) struct Context {
    trouble: Mutex<Lasting>,
    told: Mutex<Quiet>,
}

impl Context {
    /// A request that times out is not told why: this says so.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).now()
    }

    pub(crate) fn answered(&self) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Lasting::default();
    }

    pub(crate) fn note(&self, code: Code, detail: &str) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match code {
            // "1/1 brokers are down" says less than the reason that came before it.
            Code::AllBrokersDown if trouble.now().is_some() => {}
            Code::AllBrokersDown
            | Code::BrokerTransportFailure
            | Code::Resolve
            | Code::Authentication
            | Code::SSL => trouble.note(Trouble::of(code, detail), Instant::now()),
            _ => (),
        }
    }
}

/// Brokers that are away for an hour are worth a line a minute, not one with each attempt to connect.
#[derive(Debug, Default)]
struct Quiet {
    until: Option<Instant>,
    left_out: u64,
}

/// So long after a line no further one is written.
const QUIET: Duration = Duration::from_secs(60);

impl Quiet {
    /// Whether to write now; then also how many lines were left out since the last one.
    fn may(&mut self, now: Instant) -> Option<u64> {
        if self.until.is_some_and(|until| now < until) {
            self.left_out += 1;
            return None;
        }
        self.until = Some(now + QUIET);
        Some(std::mem::take(&mut self.left_out))
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == "FAIL" {
            // "[thrd:HOST]: HOST: Connect to ADDRESS failed: Connection refused (after 0ms in state CONNECT)"
            let detail = message.split_once("]: ").map_or(message, |(_, detail)| detail);
            self.note(Code::BrokerTransportFailure, detail);
        }
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(facility, "librdkafka: {message}");
            }
            // librdkafka logs every refused connection as an error, and goes on trying.
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
                let may = self.told.lock().unwrap_or_else(PoisonError::into_inner).may(Instant::now());
                match may {
                    Some(left_out) => tracing::warn!(facility, left_out, "librdkafka: {message}"),
                    None => tracing::debug!(facility, "librdkafka: {message}"),
                }
            }
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::debug!(facility, "librdkafka: {message}");
            }
            RDKafkaLogLevel::Debug => tracing::trace!(facility, "librdkafka: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.note(code, reason);
        }
    }
}

impl ConsumerContext for Context {}

#[cfg(test)]
mod tests {
    use rdkafka::admin::AdminClient;

    use super::*;
    use crate::connection::Mechanism;

    #[test]
    fn trouble_keeps_the_reason_that_helps() {
        let context = Context::default();
        context.note(Code::BrokerTransportFailure, "connection refused");
        context.note(Code::AllBrokersDown, "1/1 brokers are down");
        assert_eq!(context.trouble().unwrap().detail, "connection refused");
        context.answered();
        assert_eq!(context.trouble(), None);
    }

    #[test]
    fn an_hour_away_is_a_line_a_minute() {
        let (mut quiet, start) = (Quiet::default(), Instant::now());
        let lines = (0..7200).filter_map(|half| quiet.may(start + Duration::from_millis(500 * half)));
        let lines: Vec<u64> = lines.collect();
        assert_eq!((lines.len(), lines[0], lines[1]), (60, 0, 119));
    }

    #[test]
    fn certificates_that_are_none_are_said() {
        let tls = Tls { ca: Some("no certificate".into()), client: None };
        let connection = Connection::plain(["127.0.0.1:1"], "test").secured(Some(tls), None);
        let native = admin(&connection).unwrap().create_with_context::<_, AdminClient<_>>(Context::default());
        let error = refused(&connection, &native.err().unwrap());
        assert!(matches!(error, Error::Unusable { .. }), "{error}");
    }

    #[test]
    fn librdkafka_knows_every_setting() {
        let sasl = Sasl { mechanism: Mechanism::ScramSha256, username: "a".into(), password: "b".into() };
        let connection = Connection::plain(["127.0.0.1:1"], "test").secured(Some(Tls::default()), Some(sasl));
        let settings = ProducerSettings::default();
        for config in [
            admin(&connection),
            producer(&connection, &settings),
            reader(&connection, "group", 1024),
            multi_reader(&connection, "group", 1024),
        ] {
            let native = config.and_then(|config| {
                config.create_native_config().map_err(|error| refused(&connection, &error))
            });
            assert!(native.is_ok());
        }
    }
}
