//! One client hears many topics, each from where it was told, and says which of them can't be heard.

use std::collections::BTreeMap;
use std::time::Duration;

use decree_kafka::{Error, Heard, MultiReader, Start};

use crate::bed::{Bed, LIMIT, unique};

/// Listens until `enough`, and answers with the values heard of each topic.
async fn listen(
    reader: &MultiReader,
    enough: impl Fn(&BTreeMap<String, Vec<String>>) -> bool,
) -> BTreeMap<String, Vec<String>> {
    let deadline = tokio::time::Instant::now() + LIMIT;
    let mut heard = BTreeMap::<String, Vec<String>>::new();
    while !enough(&heard) {
        assert!(tokio::time::Instant::now() < deadline, "heard only {heard:?}");
        for item in reader.next(100, Duration::from_millis(200)).await.expect("listen") {
            match item {
                Heard::Record { topic, record } => {
                    let value = String::from_utf8_lossy(&record.value.unwrap_or_default()).into_owned();
                    heard.entry(topic).or_default().push(value);
                }
                Heard::Failed { topic, error } => panic!("{topic}: {error}"),
            }
        }
    }
    heard
}

#[tokio::test]
#[ignore = "needs Kafka: cargo verify"]
async fn topics_come_and_go() {
    let bed = Bed::new();
    let (tail, ago, end) = (bed.topic("tail").await, bed.topic("ago").await, bed.topic("end").await);
    for topic in [&tail, &ago, &end] {
        bed.fill(topic, 0..5).await;
    }
    let reader = MultiReader::open(&bed.connection, "listener", 64).expect("open");
    reader.add(&tail, Start::Tail(2)).await.expect("add");
    reader.add(&ago, Start::Ago(Duration::from_secs(3600))).await.expect("add");
    reader.add(&end, Start::End).await.expect("add");
    let heard = listen(&reader, |heard| heard.values().map(Vec::len).sum::<usize>() >= 7).await;
    assert_eq!(heard[&tail], ["3", "4"]);
    assert_eq!(heard[&ago], ["0", "1", "2", "3", "4"]);
    assert!(!heard.contains_key(&end), "{heard:?}");

    reader.remove(&tail).expect("remove");
    reader.remove(&tail).expect("removing twice is no error");
    for topic in [&tail, &ago, &end] {
        bed.fill(topic, 5..6).await;
    }
    let heard = listen(&reader, |heard| heard.len() >= 2).await;
    assert_eq!(
        heard.keys().collect::<Vec<_>>(),
        BTreeMap::from([(&ago, ()), (&end, ())]).into_keys().collect::<Vec<_>>()
    );
    assert_eq!(heard[&end], ["5"]);

    reader.add(&ago, Start::Tail(1)).await.expect("adding again starts again");
    assert_eq!(listen(&reader, |heard| !heard.is_empty()).await[&ago], ["5"]);
}

#[tokio::test]
#[ignore = "needs Kafka: cargo verify"]
async fn a_missing_topic_fails_alone_and_is_heard_once_it_is_there() {
    let bed = Bed::new();
    let (there, missing) = (bed.topic("there").await, unique("missing"));
    bed.fill(&there, 0..1).await;
    let reader = MultiReader::open(&bed.connection, "listener", 64).expect("open");
    reader.add(&missing, Start::End).await.expect("adding needs no topic");
    reader.add(&there, Start::Tail(1)).await.expect("add");
    let deadline = tokio::time::Instant::now() + LIMIT;
    let (mut failed, mut heard) = (false, false);
    while !(failed && heard) {
        assert!(tokio::time::Instant::now() < deadline, "failed {failed}, heard {heard}");
        for item in reader.next(100, Duration::from_millis(200)).await.expect("listen") {
            match item {
                Heard::Record { topic, .. } => heard |= topic == there,
                Heard::Failed { topic, error } => {
                    assert_eq!(topic, missing);
                    assert!(matches!(error, Error::TopicMissing { .. }), "{error:?}");
                    failed = true;
                }
            }
        }
    }
    bed.make(&missing, 1).await;
    reader.add(&missing, Start::Tail(10)).await.expect("add");
    bed.fill(&missing, 7..8).await;
    assert_eq!(listen(&reader, |heard| !heard.is_empty()).await[&missing], ["7"]);
}
