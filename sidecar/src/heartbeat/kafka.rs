//! Heartbeats to the engine's topic, over the producer that proposals use.

use async_trait::async_trait;
use bytes::Bytes;
use decree_kafka::{NewRecord, Producer};
use decree_wire::heartbeat::Heartbeat;

use super::Publish;
use crate::log::refusals::{Refusals, Way};

/// Publishes to one topic.
#[derive(Debug)]
pub struct Topic {
    producer: Producer,
    name: String,
    refusals: Refusals,
}

impl Topic {
    /// The topic of that name.
    #[must_use]
    pub fn new(producer: Producer, name: String, refusals: Refusals) -> Self {
        Self { producer, name, refusals }
    }
}

#[async_trait]
impl Publish for Topic {
    async fn publish(&self, heartbeat: &Heartbeat) -> Result<(), String> {
        let value = serde_json::to_vec(heartbeat).map_err(|error| format!("write a heartbeat: {error}"))?;
        let record = NewRecord {
            key: Some(Bytes::copy_from_slice(heartbeat.pod.as_bytes())),
            value: Some(value.into()),
            ..NewRecord::default()
        };
        let sent = self.producer.send(&self.name, &record).await;
        let refused = matches!(sent, Err(decree_kafka::Error::Unauthorized { .. }));
        if refused || sent.is_ok() {
            self.refusals.note(Way::Heartbeat, sent.as_ref().err().map(ToString::to_string));
        }
        sent.map(drop).map_err(|error| error.to_string())
    }
}
