//! The group that orders for an engine, as it is known now: bound to it or not, begun or not, and who leads it.

use std::sync::Arc;

use decree_crds::group::status::ConsensusGroupStatus;
use decree_crds::{ConsensusGroup, ConsensusGroupSpec};
use decree_wire::document::group::Group;
use decree_wire::group::Genesis;
use decree_wire::member::Scanned;
use decree_wire::position::EngineName;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use super::context::Context;
use crate::certs::secret;
use crate::group::call::Agent;
use crate::group::fetch;
use crate::group::genesis;
use crate::render;
use crate::topics::Scan;

/// What is known of it.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// The resource; none where there is none of that name.
    pub object: Option<Arc<ConsensusGroup>>,
    /// How it began; none before it has a member: until then that may still change.
    pub begun: Option<Genesis>,
    /// Who leads it.
    pub leader: Option<Agent>,
    /// What its log begins with, as far as it was read.
    pub first: Option<Scan>,
    /// Where sidecars get their certificates.
    pub issuer: String,
}

impl Ledger {
    /// What the sidecars are told of it.
    #[must_use]
    pub fn document(&self, name: &str) -> Group {
        let none = ConsensusGroupSpec::default();
        let spec = self.object.as_ref().map_or(&none, |object| &object.spec);
        render::group::group(name, spec, self.begun.clone(), &self.issuer)
    }
}

/// Everything that is known of the group of that name.
pub fn ledger(engine: &EngineName, group: &str, pods: &[Arc<Pod>], context: &Context) -> Ledger {
    let object = context.stores.groups.get(&ObjectRef::new(group).within(&engine.namespace));
    let none = ConsensusGroupStatus::default();
    let status = object.as_ref().and_then(|object| object.status.as_ref()).unwrap_or(&none);
    let begun = status.genesis.as_ref().filter(|_| !status.members.is_empty());
    let begun = begun.and_then(|begun| genesis::read(begun).ok());
    let leads = |pod: &&Arc<Pod>| Some(pod.name_any()) == status.leader;
    let leader = pods.iter().find(leads).and_then(|pod| fetch::agent(pod, &engine.name));
    let first = begun.as_ref().and_then(|begun| context.notes.first(engine, &begun.incarnation.0));
    Ledger { begun, leader, first, issuer: context.certs.address(), object }
}

/// The authorities that vouch for this operator, as PEM; none before it has a certificate.
///
/// # Errors
/// If the API server does not say.
pub async fn issuer(context: &Context) -> Result<Option<String>, kube::Error> {
    let (namespace, name) = (&context.certs.operator_namespace, &context.certs.webhook_secret);
    let secrets = context.secrets.of(&context.client, namespace, [name.clone()].into(), false).await?;
    let data = secrets.get(name).cloned().flatten().unwrap_or_default();
    let data = data.into_iter().map(|(key, bytes)| (key, k8s_openapi::ByteString(bytes))).collect();
    Ok(secret::read(&Secret { data: Some(data), ..Secret::default() }).map(|material| material.trusted()))
}

/// What a member says of its log, as Kafka says it of a topic.
#[must_use]
pub fn scan(scanned: Scanned) -> Scan {
    match scanned {
        Scanned::Settings { position, settings } => Scan::Settings { position: position.0, settings },
        Scanned::Unreadable { why } => Scan::Unreadable(why),
        Scanned::Nothing { next } => Scan::None { next: next.0 },
        Scanned::Unfinished { next, end } => Scan::Unfinished { next: next.0, end: end.0 },
    }
}
