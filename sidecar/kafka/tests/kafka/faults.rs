//! Brokers that are away are said to be, and reading goes on by itself when they are back.

use std::time::Duration;

use decree_kafka::{Connection, Error, MultiReader, Producer, ProducerSettings, Reader, ReaderSettings};
use rdkafka::mocking::MockCluster;

use crate::bed::{LIMIT, numbered, read_all, values};

#[tokio::test]
async fn with_no_broker_reading_says_so() {
    let connection = Connection::plain(["127.0.0.1:1"], "test");
    let mut reader = Reader::open(&connection, ReaderSettings::new("t", 0, "g")).expect("open");
    let error = reader.next(1, 1, LIMIT).await.expect_err("nobody is there");
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(error.retryable());
    let multi = MultiReader::open(&connection, "g", 64).expect("open");
    let error = multi.next(1, LIMIT).await.expect_err("nobody is there");
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_goes_on_after_the_brokers_were_away() {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    cluster.create_topic("t", 1, 1).expect("a topic");
    let connection = Connection::plain(cluster.bootstrap_servers().split(','), "test");
    let producer = Producer::open(&connection, &ProducerSettings::default()).expect("open");
    producer.send("t", &numbered(0)).await.expect("append");
    let mut reader = Reader::open(&connection, ReaderSettings::new("t", 0, "g")).expect("open");
    assert_eq!(values(&read_all(&mut reader).await.0), ["0"]);

    cluster.broker_down(1).expect("down");
    let deadline = tokio::time::Instant::now() + LIMIT;
    let error = loop {
        assert!(tokio::time::Instant::now() < deadline, "not noticed");
        match reader.next(10, 1000, Duration::from_millis(200)).await {
            Err(error) => break error,
            Ok(fetched) => assert!(fetched.records.is_empty()),
        }
    };
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");

    cluster.broker_up(1).expect("up");
    producer.send("t", &numbered(1)).await.expect("append");
    let deadline = tokio::time::Instant::now() + LIMIT;
    let mut all = Vec::new();
    let caught_up = loop {
        assert!(tokio::time::Instant::now() < deadline, "did not recover: {all:?}");
        match reader.next(10, 1000, Duration::from_millis(200)).await {
            Ok(mut fetched) => {
                all.append(&mut fetched.records);
                if !all.is_empty() && fetched.caught_up() {
                    break fetched;
                }
            }
            Err(error) => assert!(matches!(error, Error::Unreachable { .. }), "{error:?}"),
        }
    };
    assert_eq!((values(&all), caught_up.next), (vec!["1".to_owned()], 2));
}
