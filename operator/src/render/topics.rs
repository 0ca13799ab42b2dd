//! The engine's topics as they should be, and what of their configuration has to be put back.

use std::collections::BTreeMap;

use crate::spec::Kafka;
use crate::topics::NewTopic;

const HOUR: &str = "3600000";
/// The broker takes off what a client compressed, and `max.message.bytes` bounds what readers get: a megabyte of gzip may
/// be a gigabyte in the memory of every agent.
const PLAIN: (&str, &str) = ("compression.type", "uncompressed");

/// The log: nothing in it may be dropped, lost or reordered.
#[must_use]
pub fn log(kafka: &Kafka) -> NewTopic {
    let mut config = entries([
        // Records that are written with fewer copies than this can be lost with one broker.
        ("min.insync.replicas", if kafka.replication == 1 { "1" } else { "2" }),
        PLAIN,
    ]);
    config.extend(kafka.config.clone());
    config.extend(entries([
        ("cleanup.policy", "delete"),
        ("retention.ms", "-1"),
        ("retention.bytes", "-1"),
        ("unclean.leader.election.enable", "false"),
        ("message.timestamp.type", "LogAppendTime"),
    ]));
    NewTopic { replication: kafka.replication, config }
}

/// Heartbeats: old ones are of no use.
#[must_use]
pub fn heartbeats(kafka: &Kafka) -> NewTopic {
    let config = entries([("cleanup.policy", "delete"), ("retention.ms", HOUR), ("segment.ms", HOUR), PLAIN]);
    NewTopic { replication: kafka.replication, config }
}

/// Entries that are not as they should be.
#[must_use]
pub fn drift(
    desired: &BTreeMap<String, String>,
    existing: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let differs = |(key, value): &(&String, &String)| existing.get(*key) != Some(value);
    desired.iter().filter(differs).map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn entries<const N: usize>(entries: [(&str, &str); N]) -> BTreeMap<String, String> {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::example_kafka;

    #[test]
    fn a_user_may_add_and_raise_but_not_loosen() {
        let mut kafka = example_kafka();
        assert_eq!(log(&kafka).config["min.insync.replicas"], "2");
        kafka.config = entries([("min.insync.replicas", "3"), ("retention.ms", "1"), ("x", "y")]);
        let config = log(&kafka).config;
        assert_eq!(config["min.insync.replicas"], "3");
        assert_eq!(config["retention.ms"], "-1");
        assert_eq!(config["x"], "y");
        assert_eq!(config["compression.type"], "uncompressed");
        let alone = Kafka { replication: 1, config: BTreeMap::new(), ..kafka };
        assert_eq!(log(&alone).config["min.insync.replicas"], "1");
    }

    #[test]
    fn drift_is_what_differs_and_nothing_else() {
        let desired = log(&example_kafka()).config;
        let mut existing = desired.clone();
        existing.insert("somebody.elses".into(), "1".into());
        assert!(drift(&desired, &existing).is_empty());
        existing.insert("retention.ms".into(), "604800000".into());
        existing.remove("cleanup.policy");
        assert_eq!(
            drift(&desired, &existing),
            entries([("retention.ms", "-1"), ("cleanup.policy", "delete")])
        );
    }
}
