//! Step 4: carries out the plan, and says what came of it. Also writes the status.

mod order;

use std::time::Duration;

use decree_crds::group::status::{ConsensusGroupStatus, EngineStatus, GenesisStatus};
use decree_crds::{ConsensusGroup, labels};
use decree_wire::group::Genesis;
use decree_wire::member::{Initialize, Join, Place, path};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::call::{self, Agent};
use super::fetch::{self, Fetched};
use super::genesis;
use super::notes::GroupName;
use super::step::{Plan, Step};
use crate::engine::context::Context;
use crate::engine::problem::{Alert, Problem};

/// One request to the API server: the client itself would try for an hour.
const LIMIT: Duration = Duration::from_secs(15);

/// What came of a plan.
#[derive(Debug, Default)]
pub struct Applied {
    /// What went wrong with the API server.
    pub problems: Vec<Problem>,
    /// What a sidecar does not do.
    pub alerts: Vec<Alert>,
    /// Something was done, or somebody else did something: all is looked at anew.
    pub look_again: bool,
    /// What a person should know: reason and message.
    pub told: Vec<(&'static str, String)>,
}

/// Why a request to the API server failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server said no.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// It took too long.
    #[error("no answer from the API server within {LIMIT:?}")]
    Late,
    /// It could not be looked at before.
    #[error(transparent)]
    Fetch(#[from] fetch::Error),
}

impl Error {
    fn is_gone(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if matches!(status.code, 404 | 409))
    }
}

/// Carries out the plan: what changes no membership, and the one step; neither waits for the other.
pub async fn apply(
    name: &GroupName,
    plan: &Plan,
    costs: &[(String, &'static str)],
    fetched: &Fetched,
    context: &Context,
) -> Applied {
    let beside = Box::pin(beside(name, plan, costs, fetched, context));
    let step = Box::pin(step(name, plan.step.as_ref(), fetched, context));
    let (mut beside, mut step) = futures::future::join(beside, step).await;
    step.problems.append(&mut beside.problems);
    step.alerts.append(&mut beside.alerts);
    Applied { look_again: step.look_again || beside.look_again, ..step }
}

async fn beside(
    name: &GroupName,
    plan: &Plan,
    costs: &[(String, &'static str)],
    fetched: &Fetched,
    context: &Context,
) -> Applied {
    let mut applied = Applied::default();
    for pod in &plan.opens {
        let opened = open(name, pod, fetched, context).await;
        noted(opened, &format!("open the readiness gate of pod {pod}"), &mut applied);
    }
    for (pod, cost) in costs {
        let marked = mark(name, pod, cost, context).await;
        noted(marked, &format!("say what the deletion of pod {pod} costs"), &mut applied);
    }
    join(plan, fetched, context, &mut applied).await;
    applied
}

async fn step(name: &GroupName, step: Option<&Step>, fetched: &Fetched, context: &Context) -> Applied {
    let mut applied = Applied::default();
    match step {
        None => {}
        Some(Step::Remember(genesis)) => remember(name, genesis, fetched, context, &mut applied).await,
        Some(Step::Initialize { pod, genesis, place }) => {
            initialize(name, pod, genesis, place, fetched, context, &mut applied).await;
        }
        Some(Step::Lead { pod, order }) => {
            let Some(agent) = agent(pod, fetched) else { return applied };
            match order::ask(agent, order, &context.calls).await {
                Ok(()) => {
                    applied.told.push(order::told(order, fetched));
                    applied.look_again = true;
                }
                Err(error) => failed(&error, &mut applied),
            }
        }
    }
    applied
}

fn agent<'a>(pod: &str, fetched: &'a Fetched) -> Option<&'a Agent> {
    fetched.pods.iter().find(|asked| asked.pod.name_any() == pod)?.agent.as_ref()
}

fn noted(result: Result<(), Error>, what: &str, applied: &mut Applied) {
    match result {
        // The pod went meanwhile, or somebody else wrote: the next look shows it.
        Err(error) if !error.is_gone() => {
            applied.problems.push(Problem::time("ApplyFailed", format!("{what}: {error}")));
        }
        Ok(()) | Err(_) => {}
    }
}

/// A step that had no effect, or perhaps one: the next look shows it. What a sidecar refuses for good is told.
fn failed(error: &call::Error, applied: &mut Applied) {
    tracing::info!(%error, "a step of a group's membership");
    match error {
        // Somebody was faster.
        call::Error::Refused { status: 409, .. } => applied.look_again = true,
        error if error.retryable() => {}
        error => applied.alerts.push(Alert {
            reason: "StepRefused",
            message: format!("{error}; see the sidecar's log, and whether it is older than the operator"),
        }),
    }
}

async fn join(plan: &Plan, fetched: &Fetched, context: &Context, applied: &mut Applied) {
    let status = fetched.object.status.as_ref().and_then(|status| status.genesis.as_ref());
    let Some(Ok(genesis)) = status.map(genesis::read) else { return };
    let agents = plan.joins.iter().filter_map(|pod| agent(pod, fetched));
    let body = Join { genesis };
    let asked = agents.map(|agent| context.calls.post::<_, IgnoredAny>(agent, path::JOIN, &body));
    for answer in futures::future::join_all(asked).await {
        match answer {
            Ok(_) => applied.look_again = true,
            Err(error) => failed(&error, applied),
        }
    }
}

/// Writes the genesis, where still nothing stands that may have begun.
async fn remember(
    name: &GroupName,
    new: &Genesis,
    fetched: &Fetched,
    context: &Context,
    applied: &mut Applied,
) {
    let written = async {
        let Some(fresh) = unchanged(name, fetched, context).await? else { return Ok(None) };
        swap(name, &fresh, json!({"genesis": genesis::written(new)}), context).await
    };
    match written.await {
        Ok(written) => {
            applied.look_again = true;
            if written.is_some() {
                let message =
                    format!("the group is incarnation {}, begun by member {}", new.incarnation, new.first);
                applied.told.push(("GenesisDecided", message));
            }
        }
        Err(error) => noted(Err(error), "write status.genesis", applied),
    }
}

/// Counts it, then asks the first member to begin.
async fn initialize(
    name: &GroupName,
    pod: &str,
    genesis: &Genesis,
    place: &Place,
    fetched: &Fetched,
    context: &Context,
    applied: &mut Applied,
) {
    let Some(agent) = agent(pod, fetched) else { return };
    let before = asked(&fetched.object);
    let counted = async {
        let Some(fresh) = unchanged(name, fetched, context).await? else { return Ok(None) };
        swap(name, &fresh, json!({"genesis": {"asked": before + 1}}), context).await
    };
    let counted = match counted.await {
        Ok(Some(counted)) => counted,
        Ok(None) => {
            applied.look_again = true;
            return;
        }
        Err(error) => return noted(Err(error), "write status.genesis.asked", applied),
    };
    let body = Initialize { genesis: genesis.clone(), place: place.clone() };
    match context.calls.post::<_, IgnoredAny>(agent, path::INITIALIZE, &body).await {
        Ok(_) => {
            applied.look_again = true;
            applied
                .told
                .push(("GroupBegun", format!("member {} in pod {pod} began the group", genesis.first)));
        }
        Err(error) => {
            if before == 0 && error.is_unsent() {
                // Nobody was asked: not by us, and who else wants to ask counts first, so that this write fails.
                let taken_back = swap(name, &counted, json!({"genesis": {"asked": 0}}), context).await;
                noted(taken_back.map(drop), "write status.genesis.asked", applied);
            }
            failed(&error, applied);
        }
    }
}

fn asked(group: &ConsensusGroup) -> i64 {
    decided(group).map_or(0, |genesis| genesis.asked)
}

fn decided(group: &ConsensusGroup) -> Option<&GenesisStatus> {
    group.status.as_ref()?.genesis.as_ref()
}

/// The group as it is now, if its genesis is still the one that the plan was made with.
async fn unchanged(
    name: &GroupName,
    fetched: &Fetched,
    context: &Context,
) -> Result<Option<ConsensusGroup>, Error> {
    let fresh = fetch::now(name, context).await?;
    Ok(fresh
        .filter(|fresh| fresh.uid() == fetched.object.uid() && decided(fresh) == decided(&fetched.object)))
}

/// Writes part of the status, unless somebody has written anything since `seen` was read; the group as it is then.
async fn swap(
    name: &GroupName,
    seen: &ConsensusGroup,
    part: Value,
    context: &Context,
) -> Result<Option<ConsensusGroup>, Error> {
    let api = Api::<ConsensusGroup>::namespaced(context.client.clone(), &name.namespace);
    let patch = json!({
        "metadata": {"uid": seen.uid(), "resourceVersion": seen.resource_version()},
        "status": part,
    });
    let parameters = PatchParams {
        field_manager: Some(labels::GENESIS_FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let written = timeout(LIMIT, api.patch_status(&name.name, &parameters, &Patch::Merge(patch))).await;
    match written.map_err(|_| Error::Late)?.map_err(Error::from) {
        Ok(group) => {
            context.group_notes.wrote(name, group.resource_version().as_deref().unwrap_or_default());
            Ok(Some(group))
        }
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Binds the group to an engine, unless somebody else was faster.
///
/// # Errors
/// If the API server does not take it.
pub async fn bind(
    name: &GroupName,
    engine: &EngineStatus,
    fetched: &Fetched,
    context: &Context,
) -> Result<(), Error> {
    let bound = |group: &ConsensusGroup| group.status.as_ref().and_then(|status| status.engine.clone());
    let fresh = fetch::now(name, context).await?;
    let Some(fresh) = fresh.filter(|fresh| bound(fresh) == bound(&fetched.object)) else { return Ok(()) };
    swap(name, &fresh, json!({"engine": engine}), context).await.map(drop)
}

/// Opens a pod's readiness gate.
async fn open(name: &GroupName, pod: &str, fetched: &Fetched, context: &Context) -> Result<(), Error> {
    let uid = agent(pod, fetched).map(|agent| agent.uid.clone());
    let patch = json!({
        "apiVersion": Pod::api_version(&()), "kind": Pod::kind(&()), "metadata": {"name": pod, "uid": uid},
        "status": {"conditions": [{
            "type": labels::MEMBER_GATE, "status": "True", "reason": "CaughtUp",
            "message": "its member has the group's log, and no promotion is outstanding",
            "lastTransitionTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }]},
    });
    let api = Api::<Pod>::namespaced(context.client.clone(), &name.namespace);
    let parameters = PatchParams::apply(labels::FIELD_MANAGER).force();
    let written = timeout(LIMIT, api.patch_status(pod, &parameters, &Patch::Apply(patch))).await;
    Ok(written.map_err(|_| Error::Late)?.map(drop)?)
}

/// Says what a pod's deletion costs. An annotation of the status' door: the right to patch pods whole is the right to run
/// anything in them.
async fn mark(name: &GroupName, pod: &str, cost: &str, context: &Context) -> Result<(), Error> {
    let patch = json!({"metadata": {"annotations": {labels::POD_DELETION_COST: cost}}});
    let api = Api::<Pod>::namespaced(context.client.clone(), &name.namespace);
    let parameters =
        PatchParams { field_manager: Some(labels::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let written = timeout(LIMIT, api.patch_status(pod, &parameters, &Patch::Merge(patch))).await;
    Ok(written.map_err(|_| Error::Late)?.map(drop)?)
}

/// Writes the status, but what it holds once and for all. A group that is gone is no error.
///
/// # Errors
/// If the API server does not take it.
pub async fn status(name: &GroupName, status: &ConsensusGroupStatus, context: &Context) -> Result<(), Error> {
    let status = ConsensusGroupStatus { genesis: None, engine: None, ..status.clone() };
    let api = Api::<ConsensusGroup>::namespaced(context.client.clone(), &name.namespace);
    let object = json!({
        "apiVersion": ConsensusGroup::api_version(&()),
        "kind": ConsensusGroup::kind(&()),
        "metadata": {"name": name.name},
        "status": status,
    });
    let parameters = PatchParams::apply(labels::FIELD_MANAGER).force();
    let written = timeout(LIMIT, api.patch_status(&name.name, &parameters, &Patch::Apply(object))).await;
    match written.map_err(|_| Error::Late)?.map_err(Error::from) {
        Ok(group) => {
            context.group_notes.wrote(name, group.resource_version().as_deref().unwrap_or_default());
            Ok(())
        }
        Err(error) if error.is_gone() => Ok(()),
        Err(error) => Err(error),
    }
}
