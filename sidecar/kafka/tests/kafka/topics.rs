//! Topics are described as they are, and their configuration changes only where it is told to.

use std::collections::BTreeMap;
use std::time::Duration;

use decree_kafka::{Admin, Connection, Error, NewTopic};

use crate::bed::{Bed, unique};

#[tokio::test]
#[ignore = "needs Kafka: cargo verify"]
async fn a_topic_is_described_with_its_id_partitions_and_replication() {
    let bed = Bed::new();
    let name = unique("describe");
    assert_eq!(bed.admin.topic(&name).await, Ok(None));
    bed.make(&name, 2).await;
    let topic = bed.admin.topic(&name).await.expect("describe").expect("there is one");
    assert_eq!((topic.partitions, topic.replication, topic.has_leader), (2, 1, true));
    assert_eq!(topic.id.len(), 22, "{}", topic.id);
    assert!(bed.admin.brokers().await.expect("list brokers") >= 1);
}

#[tokio::test]
#[ignore = "needs Kafka: cargo verify"]
async fn a_topic_made_again_has_another_id() {
    let bed = Bed::new();
    let name = unique("again");
    let first = bed.make(&name, 1).await;
    assert_eq!(bed.settled(&name).await, first, "the id stays");
    bed.admin.delete_topic(&name).await.expect("delete");
    bed.gone(&name).await;
    assert_ne!(bed.make(&name, 1).await, first);
}

#[tokio::test]
#[ignore = "needs Kafka: cargo verify"]
async fn what_exists_or_is_missing_is_said() {
    let bed = Bed::new();
    let name = bed.topic("exists").await;
    let topic = NewTopic { partitions: 1, replication: 1, config: BTreeMap::new() };
    let again = bed.admin.create_topic(&name, &topic).await;
    assert!(matches!(again, Err(Error::TopicExists { .. })), "{again:?}");
    assert_eq!(bed.admin.is_topic_taken(&name).await, Ok(true));
    assert_eq!(bed.admin.is_topic_taken(&unique("missing")).await, Ok(false), "and asking makes none");
    let missing = bed.admin.delete_topic(&unique("missing")).await;
    assert!(matches!(missing, Err(Error::TopicMissing { .. })), "{missing:?}");
    let missing = bed.admin.topic_config(&unique("missing")).await;
    assert!(matches!(missing, Err(Error::TopicMissing { .. })), "{missing:?}");
    let missing = bed.admin.watermarks(&unique("missing")).await;
    assert!(matches!(missing, Err(Error::TopicMissing { .. })), "{missing:?}");
}

/// Which broker answers is chance, so many topics are made: some broker then lags behind, and the controller never.
#[tokio::test]
#[ignore = "needs Kafka: cargo verify"]
async fn the_controller_knows_at_once_what_brokers_hear_later() {
    let bed = Bed::new();
    let topic = NewTopic { partitions: 1, replication: 1, config: BTreeMap::new() };
    let mut behind = 0;
    for _ in 0..30 {
        let name = unique("controller");
        bed.admin.create_topic(&name, &topic).await.expect("create");
        let described = bed.admin.topic_config(&name).await;
        behind += usize::from(matches!(described, Err(Error::TopicMissing { .. })));
        assert_eq!(bed.admin.is_topic_taken(&name).await, Ok(true));
        bed.settled(&name).await;
        bed.admin.topic_config(&name).await.expect("every broker knows it now");
        bed.admin.delete_topic(&name).await.expect("delete");
        assert_eq!(bed.admin.is_topic_taken(&name).await, Ok(false));
    }
    println!("{behind} of 30 times the broker that was asked had not heard of the topic yet");
}

#[tokio::test]
#[ignore = "needs Kafka: cargo verify"]
async fn more_replicas_than_brokers_and_bad_config_are_refused() {
    let bed = Bed::new();
    let many = NewTopic { partitions: 1, replication: 30, config: BTreeMap::new() };
    let refused = bed.admin.create_topic(&unique("replicas"), &many).await;
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    let config = BTreeMap::from([("retention.ms".to_owned(), "soon".to_owned())]);
    let bad = NewTopic { partitions: 1, replication: 1, config };
    let refused = bed.admin.create_topic(&unique("config"), &bad).await;
    assert!(matches!(&refused, Err(Error::Invalid { detail, .. }) if detail.contains("soon")), "{refused:?}");
}

#[tokio::test]
#[ignore = "needs Kafka: cargo verify"]
async fn setting_one_entry_leaves_the_others() {
    let bed = Bed::new();
    let name = unique("config");
    let config = BTreeMap::from([
        ("retention.ms".to_owned(), "3600000".to_owned()),
        ("message.timestamp.type".to_owned(), "LogAppendTime".to_owned()),
    ]);
    bed.admin.create_topic(&name, &NewTopic { partitions: 1, replication: 1, config }).await.expect("create");
    bed.settled(&name).await;

    let change = BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]);
    bed.admin.set_topic_config(&name, &change).await.expect("set");

    let mut config = bed.admin.topic_config(&name).await.expect("describe");
    for _ in 0..50 {
        if config["retention.ms"].value.as_deref() == Some("-1") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        config = bed.admin.topic_config(&name).await.expect("describe");
    }
    assert_eq!(config["retention.ms"].value.as_deref(), Some("-1"));
    assert!(!config["retention.ms"].is_default);
    assert_eq!(config["message.timestamp.type"].value.as_deref(), Some("LogAppendTime"));
    assert!(!config["message.timestamp.type"].is_default);
    assert_eq!(config["cleanup.policy"].value.as_deref(), Some("delete"));
    assert!(config["cleanup.policy"].is_default);

    let wrong = BTreeMap::from([("retention.ms".to_owned(), "soon".to_owned())]);
    let refused = bed.admin.set_topic_config(&name, &wrong).await;
    assert!(matches!(&refused, Err(Error::Invalid { detail, .. }) if detail.contains("soon")), "{refused:?}");
}

#[tokio::test]
async fn brokers_that_are_away_are_named_within_the_limit() {
    let connection = Connection::plain(["127.0.0.1:1"], "test");
    let admin = Admin::open(&connection, Duration::from_secs(1)).expect("the settings are valid");
    let started = tokio::time::Instant::now();
    for answer in [
        admin.topic("t").await.map(|_| ()),
        admin.topic_config("t").await.map(|_| ()),
        admin.watermarks("t").await.map(|_| ()),
        admin.committed("g", "t").await.map(|_| ()),
    ] {
        let error = answer.expect_err("nobody is there");
        assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
        assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    }
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
}
