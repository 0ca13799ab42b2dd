//! Markers and aborted records fill offsets: the end is known all the same, and what is open is waited for.

use std::time::Duration;

use decree_kafka::read_one;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::bed::{Bed, LIMIT, read_all, unique, values};

/// A stranger's transactional producer.
fn stranger(bed: &Bed) -> BaseProducer {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bed.connection.brokers())
        .set("transactional.id", unique("stranger"))
        .create()
        .expect("a producer");
    producer.init_transactions(LIMIT).expect("init");
    producer
}

fn write(producer: &BaseProducer, topic: &str, values: &[&str]) {
    for value in values {
        let record = BaseRecord::<(), str>::to(topic).payload(*value).partition(0);
        producer.send(record).expect("enqueue");
    }
    producer.flush(LIMIT).expect("flush");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Kafka: cargo verify"]
async fn markers_and_aborted_records_at_the_end_are_passed() {
    let bed = Bed::new();
    let topic = bed.topic("markers").await;
    bed.fill(&topic, 0..2).await;
    let producer = stranger(&bed);
    producer.begin_transaction().expect("begin");
    write(&producer, &topic, &["committed"]); // 2, marker 3
    producer.commit_transaction(LIMIT).expect("commit");

    // A commit is answered before its markers are written.
    while bed.admin.watermarks(&topic).await.expect("watermarks").high < 4 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut reader = bed.reader(&topic, 0);
    let (records, end) = read_all(&mut reader).await;
    assert_eq!(values(&records), ["0", "1", "committed"]);
    assert_eq!((end.end, end.next), (Some(4), 4));

    producer.begin_transaction().expect("begin");
    write(&producer, &topic, &["aborted", "aborted"]); // 4, 5, marker 6
    producer.abort_transaction(LIMIT).expect("abort");
    let deadline = tokio::time::Instant::now() + LIMIT;
    let mut fetched = reader.next(10, 1000, Duration::from_millis(100)).await.expect("read");
    while fetched.next < 7 {
        assert!(tokio::time::Instant::now() < deadline, "{fetched:?}");
        assert!(fetched.records.is_empty(), "{fetched:?}");
        fetched = reader.next(10, 1000, Duration::from_millis(100)).await.expect("read");
    }
    assert_eq!((fetched.end, fetched.next), (Some(7), 7));
    assert_eq!(bed.admin.watermarks(&topic).await.expect("watermarks").high, 7);

    // From a marker on, too.
    for from in [3, 4, 5, 6, 7] {
        let (records, end) = read_all(&mut bed.reader(&topic, from)).await;
        assert_eq!((records.len(), end.end, end.next), (0, Some(7), 7), "from {from}");
        assert_eq!(read_one(&bed.connection, &topic, from, LIMIT).await, Ok(None), "offset {from}");
    }
    bed.fill(&topic, [9]).await;
    let (records, end) = read_all(&mut reader).await;
    assert_eq!((values(&records), records[0].offset, end.next), (vec!["9".to_owned()], 7, 8));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Kafka: cargo verify"]
async fn an_open_transaction_holds_back_what_comes_after() {
    let bed = Bed::new();
    let topic = bed.topic("open").await;
    bed.fill(&topic, 0..1).await;
    let producer = stranger(&bed);
    producer.begin_transaction().expect("begin");
    write(&producer, &topic, &["open"]); // 1
    bed.fill(&topic, 2..3).await; // 2

    let mut reader = bed.reader(&topic, 0);
    let (records, end) = read_all(&mut reader).await;
    assert_eq!((values(&records), end.end, end.next), (vec!["0".to_owned()], Some(1), 1));
    assert_eq!(bed.admin.watermarks(&topic).await.expect("watermarks").high, 1, "what is stable");
    assert_eq!(reader.head(), Some(3), "what is there");

    producer.commit_transaction(LIMIT).expect("commit");
    let deadline = tokio::time::Instant::now() + LIMIT;
    let mut all = Vec::new();
    while all.len() < 2 {
        assert!(tokio::time::Instant::now() < deadline, "{all:?}");
        all.append(&mut reader.next(10, 1000, Duration::from_secs(1)).await.expect("read").records);
    }
    assert_eq!(values(&all), ["open", "2"]);
}
