//! What is appended is read as it was, and a delivery that fails says what is known.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use decree_kafka::{Connection, Error, Header, NewRecord, NewTopic, Producer, ProducerSettings};

use crate::bed::{Bed, numbered, read_all, unique, values};

#[tokio::test]
#[ignore = "needs Kafka: cargo verify"]
async fn a_record_comes_back_as_it_was() {
    let bed = Bed::new();
    let topic = bed.topic("roundtrip").await;
    let binary = (0..=255u8).collect::<Vec<_>>();
    let full = NewRecord {
        key: Some(Bytes::from_static(b"\x00key\xff")),
        value: Some(binary.clone().into()),
        headers: vec![
            Header::new("same", "1"),
            Header::new("other", binary),
            Header::new("same", "2"),
            Header::new("empty", ""),
            Header { name: "none".into(), value: None },
            Header::new("same", "1"),
        ],
        timestamp: Some(1_700_000_000_123),
    };
    let none = NewRecord::default();
    let empty = NewRecord { key: Some(Bytes::new()), value: Some(Bytes::new()), ..NewRecord::default() };
    let producer = bed.producer();
    for (offset, record) in [&full, &none, &empty].into_iter().enumerate() {
        let sent = producer.send(&topic, record).await.expect("append");
        assert_eq!(sent.offset, offset as i64);
    }

    let (records, end) = read_all(&mut bed.reader(&topic, 0)).await;
    assert_eq!((end.end, end.next), (Some(3), 3));
    let [first, second, third] = &records[..] else { panic!("{records:?}") };
    assert_eq!(first.key, full.key);
    assert_eq!(first.value, full.value);
    assert_eq!(first.headers, full.headers);
    assert_eq!(first.timestamp, 1_700_000_000_123);
    assert_eq!(first.leader_epoch, Some(0));
    assert_eq!((&second.key, &second.value, second.headers.len()), (&None, &None, 0));
    assert_eq!((&third.key, &third.value), (&Some(Bytes::new()), &Some(Bytes::new())));
}

#[tokio::test]
#[ignore = "needs Kafka: cargo verify"]
async fn the_time_is_the_brokers_where_the_topic_says_so() {
    let bed = Bed::new();
    let topic = unique("append-time");
    let config = BTreeMap::from([("message.timestamp.type".to_owned(), "LogAppendTime".to_owned())]);
    bed.admin
        .create_topic(&topic, &NewTopic { partitions: 1, replication: 1, config })
        .await
        .expect("create");
    bed.settled(&topic).await;
    let record = NewRecord { timestamp: Some(1), ..numbered(0) };
    let sent = bed.producer().send(&topic, &record).await.expect("append");
    let (records, _) = read_all(&mut bed.reader(&topic, 0)).await;
    assert!(sent.timestamp > 1_700_000_000_000, "{sent:?}");
    assert_eq!(records[0].timestamp, sent.timestamp);
}

#[tokio::test]
#[ignore = "needs Kafka: cargo verify"]
async fn what_is_enqueued_together_is_appended_in_order() {
    let bed = Bed::new();
    let topic = bed.topic("order").await;
    let producer = bed.producer();
    let deliveries = (0..500)
        .map(|value| producer.enqueue(&topic, &numbered(value)).expect("enqueue"))
        .collect::<Vec<_>>();
    producer.flush(Duration::from_secs(10)).await.expect("flush");
    assert_eq!(producer.outstanding(), 0);
    for (offset, delivery) in deliveries.into_iter().enumerate() {
        assert_eq!(delivery.await.expect("delivered").offset, offset as i64);
    }
    let (records, _) = read_all(&mut bed.reader(&topic, 0)).await;
    assert_eq!(values(&records), (0..500).map(|value| value.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
#[ignore = "needs Kafka: cargo verify"]
async fn what_cannot_be_appended_is_told_apart() {
    let bed = Bed::new();
    let topic = bed.topic("refused").await;
    let producer = bed.producer();
    let large = NewRecord { value: Some(vec![0; 2_000_000].into()), ..NewRecord::default() };
    let refused = producer.send(&topic, &large).await;
    assert!(matches!(refused, Err(Error::TooLarge { bytes: 2_000_000, .. })), "{refused:?}");
    let nul = NewRecord { headers: vec![Header::new("a\0b", "")], ..NewRecord::default() };
    let refused = producer.send(&topic, &nul).await;
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    let missing = producer.send(&unique("missing"), &numbered(0)).await;
    assert!(matches!(missing, Err(Error::TopicMissing { .. })), "{missing:?}");
}

fn nowhere(queue_records: u32) -> Producer {
    let connection = Connection::plain(["127.0.0.1:1"], "test");
    let settings = ProducerSettings {
        delivery_limit: Duration::from_secs(1),
        queue_records,
        ..ProducerSettings::default()
    };
    Producer::open(&connection, &settings).expect("the settings are valid")
}

#[tokio::test]
async fn with_no_broker_a_delivery_ends_within_its_limit_and_was_not_made() {
    let started = tokio::time::Instant::now();
    let answer = nowhere(100).send("t", &numbered(0)).await;
    assert!(matches!(answer, Err(Error::NotDelivered { .. })), "{answer:?}");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_full_queue_is_an_answer() {
    let producer = nowhere(2);
    let waiting = [producer.enqueue("t", &numbered(0)), producer.enqueue("t", &numbered(1))];
    assert!(waiting.iter().all(Result::is_ok));
    let third = producer.enqueue("t", &numbered(2)).map(|_| ());
    assert_eq!(third, Err(Error::QueueFull { topic: "t".into() }));
    let flushed = producer.flush(Duration::from_millis(100)).await;
    assert!(flushed.is_err());
}
