//! What every adapter of the topics port does alike, as assertions.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, clippy::panic)] // it is a test, wherever it is compiled

use std::collections::BTreeMap;

use decree_wire::position::EngineName;
use decree_wire::settings::{Dedup, Settings};

use super::{Error, NewTopic, Scan, Topic, Topics};

/// The topics that [`all`] makes; none may exist before.
#[must_use]
pub fn names(prefix: &str) -> [String; 2] {
    ["config", "settings"].map(|name| format!("{prefix}-{name}"))
}

/// Runs every promise against an adapter. Panics at the first that is broken.
pub async fn all(topics: &dyn Topics, prefix: &str) {
    let [config, settings] = names(prefix);
    assert!(topics.brokers().await.unwrap() >= 1);
    a_topic_is_made_once_and_configured(topics, &config).await;
    the_first_settings_entry_is_found(topics, &settings).await;
    groups_that_are_not_there_are_no_error(topics, prefix).await;
}

async fn groups_that_are_not_there_are_no_error(topics: &dyn Topics, prefix: &str) {
    assert_eq!(topics.groups(prefix).await, Ok(vec![]));
    assert_eq!(topics.delete_groups(&[format!("decree.{prefix}.gone")]).await, Ok(()));
}

async fn a_topic_is_made_once_and_configured(topics: &dyn Topics, name: &str) {
    assert_eq!(topics.topic(name).await, Ok(None));
    let missing = topics.set_config(name, &entries([("retention.ms", "1")])).await;
    assert_eq!(missing, Err(Error::Missing(name.to_owned())));
    let made = made(topics, name).await;
    assert_eq!((made.partitions, made.replication), (1, 1));
    agreed(async || topics.topic(name).await, &Ok(Some(made))).await; // described as it was made
    let again = topics.create(name, &new()).await;
    assert_eq!(again, Err(Error::Exists(name.to_owned())), "a topic is never made twice");

    topics.set_config(name, &entries([("retention.ms", "7200000")])).await.unwrap();
    let retention =
        async || Ok(topics.topic(name).await?.and_then(|t| t.config.get("retention.ms").cloned()));
    agreed(retention, &Ok(Some("7200000".to_owned()))).await;
    let config = topics.topic(name).await.unwrap().unwrap().config;
    assert_eq!(config.get("retention.bytes").map(String::as_str), Some("12345"), "others stay");
}

/// Brokers hear of a topic and of its configuration one by one: what all will say in the end is waited for.
async fn agreed<T: PartialEq + std::fmt::Debug>(
    ask: impl AsyncFn() -> Result<T, Error>,
    wanted: &Result<T, Error>,
) {
    // So often in a row that every broker was asked.
    let mut alike = 0;
    for _ in 0..200 {
        alike = if ask().await == *wanted { alike + 1 } else { 0 };
        if alike == 10 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(&ask().await, wanted);
}

async fn the_first_settings_entry_is_found(topics: &dyn Topics, name: &str) {
    let made = made(topics, name).await;
    agreed(async || topics.scan(name, &made.id, None).await, &Ok(Scan::None { next: 0 })).await;
    topics.append_settings(name, &settings("first")).await.unwrap();
    topics.append_settings(name, &settings("second")).await.unwrap();
    let found = topics.scan(name, &made.id, None).await;
    assert_eq!(found, Ok(Scan::Settings { position: 0, settings: Box::new(settings("first")) }));
    let second = topics.scan(name, &made.id, Some(1)).await;
    assert_eq!(second, Ok(Scan::Settings { position: 1, settings: Box::new(settings("second")) }));
    let later = topics.scan(name, &made.id, Some(2)).await;
    assert_eq!(later, Ok(Scan::None { next: 2 }), "an end is not an empty log");
    assert_eq!(topics.start(name).await, Ok(0), "nothing was dropped");
    let other = topics.scan(name, "bm90IHRoaXMgb25lIQ", None).await;
    assert_eq!(other, Err(Error::Replaced(name.to_owned())), "another incarnation is not read");
    let other = topics.delete(name, Some("bm90IHRoaXMgb25lIQ")).await;
    assert_eq!(other, Err(Error::Replaced(name.to_owned())), "nor deleted");
    topics.delete(name, Some(&made.id)).await.unwrap();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while topics.topic(name).await != Ok(None) {
        assert!(tokio::time::Instant::now() < deadline, "what is deleted is gone");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(topics.delete(name, Some(&made.id)).await, Ok(()), "what is gone is gone");
}

async fn made(topics: &dyn Topics, name: &str) -> Topic {
    topics.create(name, &new()).await.unwrap()
}

fn new() -> NewTopic {
    NewTopic { replication: 1, config: entries([("retention.ms", "3600000"), ("retention.bytes", "12345")]) }
}

fn entries<const N: usize>(entries: [(&str, &str); N]) -> BTreeMap<String, String> {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn settings(name: &str) -> Settings {
    Settings {
        engine: EngineName { namespace: "suite".into(), name: name.into() },
        cluster: "cluster".into(),
        dedup: Dedup::default(),
        classes: BTreeMap::new(),
    }
}
