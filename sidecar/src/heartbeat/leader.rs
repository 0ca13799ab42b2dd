//! Heartbeats to the leader of the group.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use decree_wire::heartbeat::Heartbeat;

use super::Publish;
use super::heard::{Heard, PATH};
use crate::peers::Target;
use crate::peers::client::Peers;

const LIMIT: Duration = Duration::from_secs(2);

/// Who leads now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leader {
    /// This agent.
    Own,
    /// Another.
    Other(Target),
}

/// Says who leads.
pub trait Leads: Send + Sync + fmt::Debug {
    /// As far as this member knows; none if it does not.
    fn leader(&self) -> Option<Leader>;
}

/// Publishes to whoever leads.
#[derive(Debug)]
pub struct ToLeader<L> {
    leads: L,
    peers: Peers,
    heard: Heard,
}

impl<L: Leads> ToLeader<L> {
    /// `heard`: those that this agent itself was told.
    #[must_use]
    pub fn new(leads: L, peers: Peers, heard: Heard) -> Self {
        Self { leads, peers, heard }
    }
}

#[async_trait]
impl<L: Leads> Publish for ToLeader<L> {
    async fn publish(&self, heartbeat: &Heartbeat) -> Result<(), String> {
        let target = match self.leads.leader() {
            None => return Err("nobody leads the group".into()),
            Some(Leader::Own) => {
                self.heard.take(heartbeat.clone());
                return Ok(());
            }
            Some(Leader::Other(target)) => target,
        };
        let body = serde_json::to_vec(heartbeat).map_err(|error| format!("write a heartbeat: {error}"))?;
        let told = self.peers.call(&target, PATH, body.into(), LIMIT).await;
        told.map(drop).map_err(|error| error.to_string())
    }
}
