//! Listeners that want TLS, a certificate or a password: what is right goes through, what is wrong is told apart.

use std::path::PathBuf;
use std::time::Duration;

use decree_kafka::{
    Admin, ClientCertificate, Connection, Error, Mechanism, MultiReader, Producer, ProducerSettings, Reader,
    ReaderSettings, Sasl, Tls,
};

use crate::bed::{Bed, LIMIT, numbered, read_all, unique, values};

const TLS: u16 = 9093;
const MUTUAL: u16 = 9094;
const SASL: u16 = 9095;
const SASL_TLS: u16 = 9096;
const SHORT: Duration = Duration::from_secs(5);

fn pem(file: &str) -> String {
    let folder =
        std::env::var("DECREE_KAFKA_CERTIFICATES").expect("DECREE_KAFKA_CERTIFICATES names a folder");
    std::fs::read_to_string(PathBuf::from(folder).join(file)).expect("read a certificate")
}

/// The bed's brokers on another of their ports.
fn at(port: u16, tls: Option<Tls>, sasl: Option<Sasl>) -> Connection {
    let servers = std::env::var("DECREE_KAFKA").expect("DECREE_KAFKA names the bootstrap servers");
    let hosts = servers.split(',').filter_map(|server| server.split_once(':'));
    let servers: Vec<_> = hosts.map(|(host, _)| format!("{host}:{port}")).collect();
    Connection::plain(servers, "decree-kafka-test").secured(tls, sasl)
}

fn trusting() -> Tls {
    Tls { ca: Some(pem("ca.crt")), client: None }
}

fn certified() -> Tls {
    let client = ClientCertificate { certificate: pem("client.crt"), key: pem("client.key") };
    Tls { client: Some(client), ..trusting() }
}

fn password(mechanism: Mechanism, password: &str) -> Sasl {
    Sasl { mechanism, username: "admin".into(), password: password.into() }
}

#[tokio::test]
#[ignore = "needs Kafka: cargo verify"]
async fn every_kind_of_listener_is_written_and_read() {
    let bed = Bed::new();
    let topic = bed.topic("secured").await;
    let scram = password(Mechanism::ScramSha512, "admin-secret");
    let plain = password(Mechanism::Plain, "admin-secret");
    let connections = [
        at(TLS, Some(trusting()), None),
        at(MUTUAL, Some(certified()), None),
        at(SASL, None, Some(scram.clone())),
        at(SASL_TLS, Some(trusting()), Some(scram)),
        at(SASL_TLS, Some(trusting()), Some(plain)),
    ];
    for (number, connection) in connections.iter().enumerate() {
        let settings = ProducerSettings { delivery_limit: LIMIT, ..ProducerSettings::default() };
        let producer = Producer::open(connection, &settings).expect("open");
        producer.send(&topic, &numbered(number)).await.expect("append");
        let settings = ReaderSettings::new(&topic, 0, unique("group"));
        let mut reader = Reader::open(connection, settings).expect("open");
        let expected: Vec<_> = (0..=number).map(|number| number.to_string()).collect();
        assert_eq!(values(&read_all(&mut reader).await.0), expected, "{connection:?}");
        let admin = Admin::open(connection, LIMIT).expect("open");
        assert!(admin.topic(&topic).await.expect("describe").is_some());
    }
}

/// What each kind of client says over a connection that the brokers or we refuse.
async fn refusals(connection: &Connection) -> Vec<&'static str> {
    let admin = Admin::open(connection, SHORT).expect("open");
    let settings = ProducerSettings { delivery_limit: SHORT, ..ProducerSettings::default() };
    let producer = Producer::open(connection, &settings).expect("open");
    let multi = MultiReader::open(connection, "g", 64).expect("open");
    vec![
        refusal(async || admin.topic("t").await.map(drop)).await,
        refusal(async || producer.send("t", &numbered(0)).await.map(drop)).await,
        refusal(async || {
            let mut reader = Reader::open(connection, ReaderSettings::new("t", 0, "g"))?;
            reader.next(1, 1, LIMIT).await.map(drop)
        })
        .await,
        refusal(async || multi.next(1, SHORT).await.map(drop)).await,
    ]
}

/// Brokers that are slow to answer are not refusing yet.
async fn refusal(ask: impl AsyncFn() -> Result<(), Error>) -> &'static str {
    let deadline = tokio::time::Instant::now() + 3 * LIMIT;
    loop {
        let answer = ask().await;
        let slow = matches!(
            &answer,
            Ok(()) | Err(Error::Unreachable { .. } | Error::Timeout { .. } | Error::NotDelivered { .. })
        );
        if slow && tokio::time::Instant::now() < deadline {
            continue;
        }
        let error = answer.expect_err("refused");
        println!("{error}");
        assert!(error.retryable(), "it may be mended at the other end: {error:?}");
        return error.reason();
    }
}

#[tokio::test]
#[ignore = "needs Kafka: cargo verify"]
async fn a_wrong_password_is_unauthenticated() {
    for connection in [
        at(SASL, None, Some(password(Mechanism::ScramSha512, "wrong"))),
        at(SASL_TLS, Some(trusting()), Some(password(Mechanism::Plain, "wrong"))),
    ] {
        assert_eq!(refusals(&connection).await, ["KafkaUnauthenticated"; 4], "{connection:?}");
    }
}

#[tokio::test]
#[ignore = "needs Kafka: cargo verify"]
async fn a_listener_that_wants_a_certificate_does_not_take_none() {
    assert_eq!(refusals(&at(MUTUAL, Some(trusting()), None)).await, ["KafkaUnauthenticated"; 4]);
}

#[tokio::test]
#[ignore = "needs Kafka: cargo verify"]
async fn brokers_that_nobody_vouches_for_are_untrusted() {
    // A certificate, but none of who signed the brokers'.
    let tls = Tls { ca: Some(pem("client.crt")), client: None };
    assert_eq!(refusals(&at(TLS, Some(tls), None)).await, ["UntrustedCertificate"; 4]);
}
