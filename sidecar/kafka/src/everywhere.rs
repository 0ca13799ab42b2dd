//! Waits until every broker has heard of a topic, or of its end: for tests, which ask again at once.

use std::time::Duration;

use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::time::Instant;

use crate::admin::Admin;
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::native;

const ASK_AGAIN: Duration = Duration::from_millis(20);

/// Asks each broker for itself. All other questions go to whichever broker is called the controller at the time.
#[derive(Debug)]
pub struct Everywhere {
    admin: Admin,
    limit: Duration,
}

impl Everywhere {
    /// Each wait ends after `limit`.
    pub fn open(connection: &Connection, limit: Duration) -> Result<Self> {
        Ok(Self { admin: Admin::open(connection, limit)?, limit })
    }

    /// The topic's id, once every broker knows it. Where there was one of that name before, [`gone`] comes first.
    ///
    /// [`gone`]: Self::gone
    pub async fn known(&self, topic: &str) -> Result<String> {
        self.until(topic, true).await?;
        let attempt = self.admin.attempt(format!("describe topic {topic}"), topic);
        let missing = || attempt.error(Code::UnknownTopicOrPartition, "");
        self.admin.topic(topic).await?.map(|topic| topic.id).ok_or_else(missing)
    }

    /// Waits until no broker knows the topic.
    pub async fn gone(&self, topic: &str) -> Result<()> {
        self.until(topic, false).await
    }

    async fn until(&self, topic: &str, there: bool) -> Result<()> {
        let what = format!("ask every broker for topic {topic}");
        let attempt = self.admin.attempt(what, topic);
        let ids = native::brokers(self.admin.client(), self.limit).await;
        let deadline = Instant::now() + self.limit;
        for broker in self.admin.answered(&attempt, ids)? {
            while self.is_known_to(broker, topic).await? != there {
                if Instant::now() >= deadline {
                    return Err(attempt.error(Code::OperationTimedOut, ""));
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
        Ok(())
    }

    async fn is_known_to(&self, broker: i32, topic: &str) -> Result<bool> {
        let attempt = self.admin.attempt(format!("ask broker {broker} for topic {topic}"), topic);
        let answer = native::topic_config(self.admin.client(), topic, Some(broker), self.limit).await;
        match self.admin.answered(&attempt, answer) {
            Ok(_) => Ok(true),
            Err(Error::TopicMissing { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
