//! Reading from anywhere, knowing the end, and being interrupted without loss.

use std::time::Duration;

use decree_kafka::{ReaderSettings, read_one};

use crate::bed::{Bed, LIMIT, numbered, read_all, unique, values};

#[tokio::test]
#[ignore = "needs Kafka: cargo verify"]
async fn reading_starts_in_the_middle_and_ends_at_the_end() {
    let bed = Bed::new();
    let topic = bed.topic("middle").await;
    bed.fill(&topic, 0..10).await;
    let mut reader = bed.reader(&topic, 6);
    let (records, end) = read_all(&mut reader).await;
    assert_eq!(values(&records), ["6", "7", "8", "9"]);
    assert_eq!((end.end, end.next, reader.head()), (Some(10), 10, Some(10)));

    let idle = reader.next(10, 1000, Duration::from_millis(50)).await.expect("nothing is wrong");
    assert!(idle.records.is_empty() && idle.caught_up(), "{idle:?}");
    bed.fill(&topic, 10..12).await;
    let (records, end) = read_all(&mut reader).await;
    assert_eq!((values(&records), end.next), (vec!["10".to_owned(), "11".to_owned()], 12));

    reader.seek(3).expect("seek");
    assert_eq!(values(&reader.next(2, 1000, LIMIT).await.expect("read").records), ["3", "4"]);
}

#[tokio::test]
#[ignore = "needs Kafka: cargo verify"]
async fn the_end_of_an_empty_topic_is_known() {
    let bed = Bed::new();
    let topic = bed.topic("empty").await;
    let (records, end) = read_all(&mut bed.reader(&topic, 0)).await;
    assert_eq!((records.len(), end.end, end.next), (0, Some(0), 0));
}

#[tokio::test]
#[ignore = "needs Kafka: cargo verify"]
async fn a_call_gives_no_more_than_was_asked_for() {
    let bed = Bed::new();
    let topic = bed.topic("bounds").await;
    bed.fill(&topic, 0..20).await;
    let mut reader = bed.reader(&topic, 0);
    let mut all = Vec::new();
    while all.len() < 20 {
        let mut fetched = reader.next(3, 2, LIMIT).await.expect("read");
        assert!(fetched.records.len() <= 2, "one byte each, two bytes asked for: {fetched:?}");
        all.append(&mut fetched.records);
    }
    assert_eq!(values(&all), (0..20).map(|value| value.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
#[ignore = "needs Kafka: cargo verify"]
async fn nothing_is_lost_when_reading_is_interrupted() {
    let bed = Bed::new();
    let topic = bed.topic("interrupted").await;
    let producer = bed.producer();
    let mut reader = bed.reader(&topic, 0);
    let writing = tokio::spawn(async move {
        for value in 0..300 {
            producer.send(&topic, &numbered(value)).await.expect("append");
        }
    });
    let mut all = Vec::new();
    while all.len() < 300 {
        tokio::select! {
            biased;
            () = tokio::time::sleep(Duration::from_micros(300)) => (),
            fetched = reader.next(7, 1 << 20, LIMIT) => all.append(&mut fetched.expect("read").records),
        }
    }
    writing.await.expect("written");
    assert_eq!(values(&all), (0..300).map(|value| value.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
#[ignore = "needs Kafka: cargo verify"]
async fn a_commit_is_what_kafkas_tools_see() {
    let bed = Bed::new();
    let topic = bed.topic("commit").await;
    bed.fill(&topic, 0..5).await;
    let group = unique("group");
    assert_eq!(bed.admin.committed(&group, &topic).await, Ok(None));
    let settings = ReaderSettings::new(&topic, 0, &group);
    let mut reader = decree_kafka::Reader::open(&bed.connection, settings).expect("open");
    read_all(&mut reader).await;
    reader.commit(4).expect("commit");
    let mut committed = None;
    for _ in 0..100 {
        // A commit needs nothing but that its reader is polled now and then.
        reader.next(1, 1, Duration::from_millis(50)).await.expect("read");
        committed = bed.admin.committed(&group, &topic).await.expect("ask");
        if committed.is_some() {
            break;
        }
    }
    assert_eq!(committed, Some(4));
    drop(reader);
    assert!(bed.admin.groups().await.expect("list").contains(&group), "it is not listed");
    bed.admin.delete_group(&group).await.expect("delete the group");
    assert!(!bed.admin.groups().await.expect("list").contains(&group), "it is still listed");
    assert_eq!(bed.admin.committed(&group, &topic).await, Ok(None));
    bed.admin.delete_group(&group).await.expect("a group that is gone is no error");
}

#[tokio::test]
#[ignore = "needs Kafka: cargo verify"]
async fn one_record_is_read_again() {
    let bed = Bed::new();
    let topic = bed.topic("one").await;
    bed.fill(&topic, 0..3).await;
    let record = read_one(&bed.connection, &topic, 1, LIMIT).await.expect("read").expect("it is there");
    assert_eq!((record.offset, values(&[record])), (1, vec!["1".to_owned()]));
    assert_eq!(read_one(&bed.connection, &topic, 3, LIMIT).await, Ok(None));
}
