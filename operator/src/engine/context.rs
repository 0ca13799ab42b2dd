//! What every reconcile is given: the ports, and what the process remembers.

use std::sync::Arc;

use decree_wire::position::EngineName;
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use kube::Client;
use kube::runtime::reflector::Store;
use tokio::sync::OnceCell;

use super::notes::Notes;
use crate::detector::heartbeats::Heartbeats;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::topics::Clusters;

/// Made once, where the process is wired.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// What the watches have seen.
    pub stores: Stores,
    /// Kafka.
    pub clusters: Arc<dyn Clusters>,
    /// What is heard of agents.
    pub heartbeats: Heartbeats,
    /// Where Events go.
    pub events: Events,
    /// What is counted.
    pub metrics: Metrics,
    /// What is remembered of each engine.
    pub notes: Notes,
    /// The uid of the `kube-system` namespace, once it is known.
    pub cluster: OnceCell<String>,
}

/// What the watches have seen.
#[derive(Clone)]
pub struct Stores {
    /// Pods with the engine label.
    pub pods: Store<Pod>,
    /// Secrets that Decree made.
    pub secrets: Store<Secret>,
    /// Services that Decree made.
    pub services: Store<Service>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("clusters", &self.clusters).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Stores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stores").finish_non_exhaustive()
    }
}

impl Context {
    /// The engine was deleted: what is remembered of it goes, its topics stay.
    pub fn forget(&self, name: &EngineName) {
        self.notes.forget(name);
        self.heartbeats.forget(name);
    }
}
