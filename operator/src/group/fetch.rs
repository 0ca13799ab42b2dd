//! Step 1: the group, the engines that name it, the pods of the one that it orders for, and what their sidecars say.

use std::sync::Arc;
use std::time::Duration;

use decree_crds::group::status::EngineStatus;
use decree_crds::{ConsensusGroup, DecisionEngine, labels};
use decree_wire::member::{Member, path};
use decree_wire::pod::{CONTAINER, port};
use decree_wire::position::Incarnation;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};
use tokio::time::timeout;

use super::bond;
use super::call::{Agent, Calls};
use super::notes::GroupName;
use crate::care::pods;
use crate::engine::context::Context;

/// For one request to the API server.
const LIMIT: Duration = Duration::from_secs(15);
/// For what one sidecar says of its member: one that hangs must not hold up what is done about it.
const SAYS: Duration = Duration::from_millis(1500);
/// So many sidecars are asked at once.
const ASKED: usize = 32;

/// What is known of a group.
#[derive(Debug)]
pub struct Fetched {
    /// The resource itself, not older than our own last write.
    pub object: ConsensusGroup,
    /// The engine that it orders for.
    pub engine: Option<EngineStatus>,
    /// That engine's pods that have a sidecar and have not ended.
    pub pods: Vec<Asked>,
    /// What a new group would be called.
    pub fresh: Incarnation,
}

/// A pod, and what its sidecar says.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Where its sidecar is asked; none before the pod has an address.
    pub agent: Option<Agent>,
    /// What it says; none where it could not be asked.
    pub answer: Option<Member>,
}

/// Why nothing is known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server can't be read.
    #[error("read group {0}")]
    Api(GroupName, #[source] kube::Error),
    /// The API server says nothing.
    #[error("read group {0}: no answer from the API server within {LIMIT:?}")]
    Late(GroupName),
    /// A watch ended.
    #[error("wait for the watches of groups, engines and pods")]
    Watch,
}

/// Everything; none if the group is gone, or going.
///
/// # Errors
/// If the API server can't be read. What sidecars don't say is part of the answer.
pub async fn fetch(name: &GroupName, context: &Context) -> Result<Option<Fetched>, Error> {
    if !context.stores.seen().await {
        return Err(Error::Watch);
    }
    let object = group(name, context).await?;
    let Some(object) = object.filter(|object| object.metadata.deletion_timestamp.is_none()) else {
        return Ok(None);
    };
    let naming = naming(name, context);
    let bound = object.status.as_ref().and_then(|status| status.engine.as_ref());
    let engine = bond::bond(bound, &naming);
    let pods = match &engine {
        Some(engine) => asked(name, engine, context).await,
        None => vec![],
    };
    let fresh = Incarnation(uuid::Uuid::new_v4().to_string());
    Ok(Some(Fetched { object, engine, pods, fresh }))
}

/// From the watch, unless that is behind our own last write: at rest nobody is asked.
async fn group(name: &GroupName, context: &Context) -> Result<Option<ConsensusGroup>, Error> {
    let seen = context.stores.groups.get(&ObjectRef::new(&name.name).within(&name.namespace));
    let current = |group: &Arc<ConsensusGroup>| {
        context.group_notes.is_current(name, group.resource_version().as_deref().unwrap_or_default())
    };
    if let Some(group) = seen.filter(current) {
        return Ok(Some(group.as_ref().clone()));
    }
    now(name, context).await
}

/// As it is now.
///
/// # Errors
/// If the API server can't be read.
pub async fn now(name: &GroupName, context: &Context) -> Result<Option<ConsensusGroup>, Error> {
    let groups = Api::<ConsensusGroup>::namespaced(context.client.clone(), &name.namespace);
    let found = timeout(LIMIT, groups.get_opt(&name.name)).await;
    found.map_err(|_| Error::Late(name.clone()))?.map_err(|error| Error::Api(name.clone(), error))
}

fn naming(name: &GroupName, context: &Context) -> Vec<Arc<DecisionEngine>> {
    context.stores.engines.state_filter(|engine| {
        engine.metadata.namespace.as_deref() == Some(&name.namespace)
            && bond::group_of(engine) == Some(&name.name)
    })
}

async fn asked(name: &GroupName, engine: &EngineStatus, context: &Context) -> Vec<Asked> {
    let pods = context.stores.pods.state_filter(|pod| {
        pod.metadata.namespace.as_deref() == Some(&name.namespace)
            && pod.labels().get(labels::ENGINE) == Some(&engine.name)
            && pods::is_injected(pod)
            && !pods::has_ended(pod)
    });
    let questions = pods.into_iter().map(|pod| async move {
        let agent = agent(&pod, &engine.name);
        let answer = match &agent {
            Some(agent) if has_begun(&pod) => answer(agent, &context.calls).await,
            Some(_) | None => None,
        };
        Asked { pod, agent, answer }
    });
    let mut asked: Vec<Asked> = futures::stream::iter(questions).buffer_unordered(ASKED).collect().await;
    asked.sort_by_key(|asked| asked.pod.name_any());
    asked
}

async fn answer(agent: &Agent, calls: &Calls) -> Option<Member> {
    match timeout(SAYS, calls.get::<Member>(agent, path::MEMBER)).await {
        Ok(Ok(member)) => Some(member),
        Ok(Err(error)) if error.is_unreachable() => {
            tracing::debug!(%error, "a sidecar does not say how its member does");
            None
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "a sidecar does not say how its member does");
            None
        }
        Err(_) => {
            calls.forget(agent);
            tracing::debug!(%agent, "a sidecar does not say how its member does");
            None
        }
    }
}

/// Where a pod's sidecar is asked.
#[must_use]
pub fn agent(pod: &Pod, engine: &str) -> Option<Agent> {
    let ip = pod.status.as_ref()?.pod_ip.as_ref()?;
    let address = match ip.contains(':') {
        true => format!("[{ip}]:{}", port::PEERS),
        false => format!("{ip}:{}", port::PEERS),
    };
    Some(Agent {
        namespace: pod.namespace()?,
        engine: engine.to_owned(),
        pod: pod.name_any(),
        uid: pod.uid()?,
        address,
    })
}

/// Whether its sidecar has run, so that there may be something on its disk.
#[must_use]
pub fn has_begun(pod: &Pod) -> bool {
    let containers = pod.status.as_ref().and_then(|status| status.init_container_statuses.as_deref());
    let sidecar = containers.unwrap_or_default().iter().find(|container| container.name == CONTAINER);
    sidecar.is_some_and(|sidecar| {
        let runs = |state: &k8s_openapi::api::core::v1::ContainerState| {
            state.running.is_some() || state.terminated.is_some()
        };
        sidecar.restart_count > 0
            || sidecar.state.as_ref().is_some_and(runs)
            || sidecar.last_state.as_ref().is_some_and(runs)
    })
}
