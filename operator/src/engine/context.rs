//! What every reconcile is given: the ports, and what the process remembers.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use decree_crds::{ConsensusGroup, DecisionEngine};
use decree_wire::position::EngineName;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Client;
use kube::runtime::reflector::{Lookup, Store};
use tokio::sync::{OnceCell, mpsc};

use super::documents::Documents;
use super::notes::Notes;
use super::secrets::Secrets;
use crate::certs;
use crate::detector::heartbeats::Heartbeats;
use crate::events::Events;
use crate::evictor::Evictor;
use crate::group::call::Calls;
use crate::group::notes::Notes as GroupNotes;
use crate::inject::sidecar::Sidecar;
use crate::lease::Leads;
use crate::metrics::Metrics;
use crate::topics::Clusters;

/// How often it is asked whether a store is filled.
const ASK_AGAIN: Duration = Duration::from_millis(100);

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
    /// Evictions.
    pub evictor: Evictor,
    /// The sidecar that the operator was installed with.
    pub installed: Sidecar,
    /// Whether this operator is the one that acts.
    pub leads: Leads,
    /// The Secrets that engines name.
    pub secrets: Secrets,
    /// The Secrets with their documents.
    pub documents: Documents,
    /// What is remembered of each engine.
    pub notes: Notes,
    /// Where its own certificates are, and the Service by which sidecars reach it.
    pub certs: certs::Config,
    /// Calls to sidecars.
    pub calls: Calls,
    /// What is remembered of each group.
    pub group_notes: GroupNotes,
    /// Engines whose group changed.
    pub engines_due: mpsc::Sender<EngineName>,
    /// The uid of the `kube-system` namespace, once it is known.
    pub cluster: OnceCell<String>,
}

/// What the watches have seen.
#[derive(Clone)]
pub struct Stores {
    /// Every engine.
    pub engines: Store<DecisionEngine>,
    /// Every group.
    pub groups: Store<ConsensusGroup>,
    /// Pods with the engine label.
    pub pods: Store<Pod>,
    /// Services, of those that are not Decree's where they lead.
    pub services: Store<Service>,
    /// PodDisruptionBudgets, of those that are not Decree's what they select.
    pub budgets: Store<PodDisruptionBudget>,
    /// NetworkPolicies, of those that are not Decree's what they select.
    pub policies: Store<NetworkPolicy>,
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

impl Stores {
    /// Waits until each watch has seen all that there is; false if one ended.
    pub async fn seen(&self) -> bool {
        let Self { engines, groups, pods, services, budgets, policies } = self;
        let kinds = futures::join!(seen(engines), seen(groups));
        let (pods, services, budgets, policies) =
            futures::join!(seen(pods), seen(services), seen(budgets), seen(policies));
        kinds == (true, true) && pods && services && budgets && policies
    }
}

/// Of several tasks that wait for a store kube wakes only the one that asked last: so each asks again.
async fn seen<K>(store: &Store<K>) -> bool
where
    K: Lookup + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    loop {
        if let Ok(ready) = tokio::time::timeout(ASK_AGAIN, store.wait_until_ready()).await {
            return ready.is_ok();
        }
    }
}

impl Context {
    /// Has an engine looked at. Where too many wait already, it is in its own time.
    pub fn nudge(&self, name: EngineName) {
        if self.engines_due.try_send(name).is_err() {
            tracing::debug!("many engines wait to be looked at");
        }
    }

    /// The engine was deleted: what is remembered of it goes, its topics stay.
    pub fn forget(&self, name: &EngineName) {
        self.notes.forget(name);
        self.documents.forget(name);
        self.heartbeats.forget(name);
    }
}
