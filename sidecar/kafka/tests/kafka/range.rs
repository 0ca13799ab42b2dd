//! A position that is not there is an error that says what is, never another position.

use std::time::Duration;

use decree_kafka::{Error, Fetched, Reader, Watermarks, read_one};

use crate::bed::{Bed, LIMIT, read_all, unique, values};

async fn first_error(reader: &mut Reader) -> Error {
    let deadline = tokio::time::Instant::now() + LIMIT;
    loop {
        match reader.next(10, 1000, Duration::from_secs(1)).await {
            Err(error) => return error,
            Ok(Fetched { records, .. }) => assert!(records.is_empty(), "{records:?}"),
        }
        assert!(tokio::time::Instant::now() < deadline, "no error came");
    }
}

#[tokio::test]
#[ignore = "needs Kafka: cargo verify"]
async fn what_was_trimmed_is_out_of_range() {
    let bed = Bed::new();
    let topic = bed.topic("trimmed").await;
    bed.fill(&topic, 0..10).await;
    assert_eq!(bed.admin.trim(&topic, 4).await, Ok(4));
    assert_eq!(bed.admin.watermarks(&topic).await, Ok(Watermarks { low: 4, high: 10 }));

    let expected = Error::OutOfRange { topic: topic.clone(), asked: 2, low: 4, high: 10 };
    let mut reader = bed.reader(&topic, 2);
    assert_eq!(first_error(&mut reader).await, expected);
    let again = reader.next(10, 1000, Duration::from_millis(10)).await;
    assert_eq!(again, Err(expected.clone()), "it lasts");
    assert_eq!(read_one(&bed.connection, &topic, 2, LIMIT).await, Err(expected));

    reader.seek(4).expect("seek");
    let (records, _) = read_all(&mut reader).await;
    assert_eq!(values(&records), ["4", "5", "6", "7", "8", "9"]);
}

#[tokio::test]
#[ignore = "needs Kafka: cargo verify"]
async fn what_is_past_the_end_is_out_of_range() {
    let bed = Bed::new();
    let topic = bed.topic("past").await;
    bed.fill(&topic, 0..3).await;
    let expected = Error::OutOfRange { topic: topic.clone(), asked: 50, low: 0, high: 3 };
    assert_eq!(first_error(&mut bed.reader(&topic, 50)).await, expected);
    let (records, _) = read_all(&mut bed.reader(&topic, 3)).await;
    assert!(records.is_empty());
}

#[tokio::test]
#[ignore = "needs Kafka: cargo verify"]
async fn a_trim_ahead_of_the_reader_is_noticed() {
    let bed = Bed::new();
    let topic = bed.topic("overtaken").await;
    bed.fill(&topic, 0..3).await;
    let mut reader = bed.reader(&topic, 0);
    read_all(&mut reader).await;
    drop(reader);
    bed.fill(&topic, 3..9).await;
    bed.admin.trim(&topic, 6).await.expect("trim");
    let error = first_error(&mut bed.reader(&topic, 3)).await;
    assert!(matches!(error, Error::OutOfRange { asked: 3, low: 6, high: 9, .. }), "{error:?}");
}

#[tokio::test]
#[ignore = "needs Kafka: cargo verify"]
async fn a_topic_that_does_not_exist_is_missing() {
    let bed = Bed::new();
    let error = first_error(&mut bed.reader(&unique("missing"), 0)).await;
    assert!(matches!(error, Error::TopicMissing { .. }), "{error:?}");
}
