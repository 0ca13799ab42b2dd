//! A topic that was deleted, or deleted and made again, is never read on as if it were the same.

use std::time::Duration;

use decree_kafka::{Error, Reader, ReaderSettings};

use crate::bed::{Bed, LIMIT, read_all, unique};

/// Reads until an error; panics if any record comes.
async fn error_without_a_record(reader: &mut Reader) -> Error {
    let deadline = tokio::time::Instant::now() + LIMIT;
    loop {
        match reader.next(100, 1 << 20, Duration::from_secs(1)).await {
            Err(error @ Error::Unreachable { .. }) => eprintln!("meanwhile: {error}"),
            Err(error) => return error,
            Ok(fetched) => assert!(fetched.records.is_empty(), "of another topic: {:?}", fetched.records),
        }
        assert!(tokio::time::Instant::now() < deadline, "no error came");
    }
}

#[tokio::test]
#[ignore = "needs Kafka: cargo verify"]
async fn the_incarnation_that_is_read_is_known() {
    let bed = Bed::new();
    let topic = unique("incarnation");
    let id = bed.make(&topic, 1).await;
    let mut reader = bed.reader(&topic, 0);
    read_all(&mut reader).await;
    assert_eq!(reader.topic_id(), Some(id.as_str()));

    let settings = ReaderSettings::new(&topic, 0, "g").of_incarnation("JG-s6QZmTZ2FXgzXRaqcdQ");
    let mut other = Reader::open(&bed.connection, settings).expect("open");
    let error = error_without_a_record(&mut other).await;
    assert!(matches!(&error, Error::TopicReplaced { found, .. } if *found == id), "{error:?}");
}

#[tokio::test]
#[ignore = "needs Kafka: cargo verify"]
async fn a_topic_made_again_is_noticed_though_it_holds_more() {
    let bed = Bed::new();
    let topic = unique("replaced");
    let id = bed.make(&topic, 1).await;
    bed.fill(&topic, 0..5).await;
    let settings = ReaderSettings::new(&topic, 0, unique("group")).of_incarnation(&id);
    let mut reader = Reader::open(&bed.connection, settings).expect("open");
    read_all(&mut reader).await;

    bed.admin.delete_topic(&topic).await.expect("delete");
    bed.gone(&topic).await;
    let found = bed.make(&topic, 1).await;
    bed.fill(&topic, 100..120).await;

    let mut error = error_without_a_record(&mut reader).await;
    if matches!(error, Error::TopicMissing { .. }) {
        reader.seek(5).expect("seek");
        error = error_without_a_record(&mut reader).await;
    }
    assert_eq!(error, Error::TopicReplaced { topic: topic.clone(), expected: id, found });
    reader.seek(5).expect("seek");
    let still = error_without_a_record(&mut reader).await;
    assert_eq!(still.reason(), "LogReplaced", "seeking does not make it the same");
}

#[tokio::test]
#[ignore = "needs Kafka: cargo verify"]
async fn a_topic_that_is_deleted_is_missing() {
    let bed = Bed::new();
    let topic = bed.topic("deleted").await;
    bed.fill(&topic, 0..5).await;
    let mut reader = bed.reader(&topic, 0);
    read_all(&mut reader).await;
    bed.admin.delete_topic(&topic).await.expect("delete");
    let error = error_without_a_record(&mut reader).await;
    assert!(matches!(error, Error::TopicMissing { .. }), "{error:?}");
}
