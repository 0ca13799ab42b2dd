//! What can be asked for of topics: making one, its configuration, deleting it.

use std::collections::BTreeMap;

use rdkafka::types::RDKafkaErrorCode as Code;

use crate::admin::Admin;
use crate::error::Result;
use crate::native;
use crate::topic::{ConfigEntry, NewTopic, Topic};

impl Admin {
    /// `None` where the broker that was asked knows no such topic: one that lags behind does not know a new one yet, see
    /// [`Admin::is_topic_taken`].
    pub async fn topic(&self, name: &str) -> Result<Option<Topic>> {
        let attempt =
            self.attempt(format!("describe topic {name}"), name).needs("DESCRIBE", &topic_named(name));
        let answer = native::describe_topic(self.client(), name, self.limit()).await;
        self.answered(&attempt, answer)
    }

    /// Whether there is a topic of that name, from the one that must know. Needs the right to make it.
    pub async fn is_topic_taken(&self, name: &str) -> Result<bool> {
        let attempt = self
            .attempt(format!("ask the controller for topic {name}"), name)
            .needs("CREATE", &topic_named(name));
        let answer = native::is_taken(self.client(), name, self.limit()).await;
        self.answered(&attempt, answer)
    }

    /// Fails with `TopicExists` where there is one.
    pub async fn create_topic(&self, name: &str, topic: &NewTopic) -> Result<()> {
        let attempt = self
            .attempt(
                format!(
                    "create topic {name} with {} partitions and replication {}",
                    topic.partitions, topic.replication
                ),
                name,
            )
            .needs("CREATE", &topic_named(name));
        let answer = native::create_topic(self.client(), name, topic, self.limit()).await;
        self.answered(&attempt, answer)
    }

    /// Every entry of the topic's configuration, the brokers' defaults included. Another broker may answer than to
    /// [`Admin::topic`]: `TopicMissing` says that this one has not heard of it.
    pub async fn topic_config(&self, name: &str) -> Result<BTreeMap<String, ConfigEntry>> {
        let attempt = self
            .attempt(format!("describe the configuration of topic {name}"), name)
            .needs("DESCRIBE_CONFIGS", &topic_named(name));
        let answer = native::topic_config(self.client(), name, None, self.limit()).await;
        self.answered(&attempt, answer)
    }

    /// Sets these entries and leaves the others as they are.
    pub async fn set_topic_config(&self, name: &str, entries: &BTreeMap<String, String>) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let keys = entries.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let attempt = self
            .attempt(format!("set {keys} of topic {name}"), name)
            .needs("ALTER_CONFIGS", &topic_named(name));
        let answer = native::set_topic_config(self.client(), name, entries, self.limit()).await;
        self.answered(&attempt, answer)
    }

    /// Fails with `TopicMissing` where there is none. Brokers go on deleting after they have answered.
    pub async fn delete_topic(&self, name: &str) -> Result<()> {
        let attempt = self.attempt(format!("delete topic {name}"), name).needs("DELETE", &topic_named(name));
        let answer = self.rdkafka().delete_topics(&[name], &self.options()).await;
        match self.answered_by_rdkafka(&attempt, answer)?.into_iter().next() {
            Some(Ok(_)) => Ok(()),
            Some(Err((_, code))) => Err(self.failed(&attempt, code, &code.to_string())),
            None => Err(self.failed(&attempt, Code::Fail, "an answer without a result")),
        }
    }
}

fn topic_named(name: &str) -> String {
    format!("topic {name}")
}
