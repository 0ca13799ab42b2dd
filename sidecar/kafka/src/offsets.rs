//! Where a topic begins and ends, what a group has committed, and dropping what lies before a position.

use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{Offset, TopicPartitionList};

use crate::PARTITION;
use crate::admin::Admin;
use crate::error::{Error, Result};
use crate::native;

/// The positions that a topic holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// The first position that is still there.
    pub low: i64,
    /// The next position: that of the next record, or of the oldest open transaction.
    pub high: i64,
}

impl Admin {
    pub async fn watermarks(&self, topic: &str) -> Result<Watermarks> {
        let attempt = self
            .attempt(format!("list the offsets of topic {topic}"), topic)
            .needs("DESCRIBE", &format!("topic {topic}"));
        let (topic, limit) = (topic.to_owned(), self.limit());
        let answer =
            self.blocking(attempt, move |client| client.fetch_watermarks(&topic, PARTITION, limit)).await;
        answer.map(|(low, high)| Watermarks { low, high })
    }

    /// The next position that `group` committed, `None` where it never did.
    pub async fn committed(&self, group: &str, topic: &str) -> Result<Option<i64>> {
        let attempt = self
            .attempt(format!("list what group {group} committed"), topic)
            .needs("DESCRIBE", &format!("group {group}"));
        let answer = native::committed(self.client(), group, topic, self.limit()).await;
        self.answered(&attempt, answer)
    }

    /// Drops the records before `position`; answers with the first that is still there.
    pub async fn trim(&self, topic: &str, position: i64) -> Result<i64> {
        let attempt = self
            .attempt(format!("trim topic {topic} before {position}"), topic)
            .needs("DELETE", &format!("topic {topic}"));
        let mut before = TopicPartitionList::new();
        before
            .add_partition_offset(topic, PARTITION, Offset::Offset(position))
            .map_err(|error| attempt.error(Code::InvalidArgument, error.to_string()))?;
        let answer = self.rdkafka().delete_records(&before, &self.options()).await;
        let trimmed = self.answered_by_rdkafka(&attempt, answer)?;
        let elements = trimmed.elements();
        let element =
            elements.first().ok_or_else(|| attempt.error(Code::Fail, "an answer without a result"))?;
        if let Err(error) = element.error() {
            let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
            return Err(self.failed(&attempt, code, &code.to_string()));
        }
        Ok(element.offset().to_raw().unwrap_or(position))
    }

    /// The names of all groups that these credentials may see, with members or without.
    pub async fn groups(&self) -> Result<Vec<String>> {
        let attempt = self.attempt("list the consumer groups".into(), "");
        let answer = native::groups(self.client(), self.limit()).await;
        self.answered(&attempt, answer)
    }

    /// Deletes a group that has no members; one that does not exist is no error.
    pub async fn delete_group(&self, group: &str) -> Result<()> {
        let attempt =
            self.attempt(format!("delete group {group}"), "").needs("DELETE", &format!("group {group}"));
        let answer = self.rdkafka().delete_groups(&[group], &self.options()).await;
        match self.answered_by_rdkafka(&attempt, answer)?.into_iter().next() {
            Some(Ok(_)) | Some(Err((_, Code::GroupIdNotFound))) => Ok(()),
            Some(Err((_, Code::NonEmptyGroup))) => Err(Error::GroupInUse { group: group.to_owned() }),
            Some(Err((_, code))) => Err(self.failed(&attempt, code, &code.to_string())),
            None => Err(self.failed(&attempt, Code::Fail, "an answer without a result")),
        }
    }
}
