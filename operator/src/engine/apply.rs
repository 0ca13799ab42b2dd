//! Step 4: carries out the plan, each action by itself, and says what came of it. Also writes the status.

use std::time::{Duration, Instant};

use decree_crds::engine::status::{DecisionEngineStatus, TopicStatus};
use decree_crds::{DecisionEngine, labels};
use decree_kafka::Connection;
use decree_wire::member::{self, Ordered, Scanned, path};
use decree_wire::position::{EngineName, Position};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::context::Context;
use super::fetch::Fetched;
use super::ledger;
use super::plan::{Action, Plan, agents};
use super::problem::Problem;
use crate::detector::suspect::Expected;
use crate::finalizers;
use crate::group::call::{self, Agent};
use crate::spec::{Engine, Kafka, Order};
use crate::topics;

/// One request to the API server: the client itself would try for an hour.
const REQUEST_LIMIT: Duration = Duration::from_secs(15);

/// What came of a plan.
#[derive(Debug, Default)]
pub struct Applied {
    /// What went wrong.
    pub problems: Vec<Problem>,
    /// The log that was made just now.
    pub made: Option<TopicStatus>,
    /// Topics were changed: look at them again.
    pub look_again: bool,
    /// What a person should know: reason and message.
    pub told: Vec<(&'static str, String)>,
}

/// Carries out the plan. An action that fails hinders only those that need the same thing.
pub async fn apply(engine: &Engine, plan: &Plan, fetched: &Fetched, context: &Context) -> Applied {
    if let Some(followed) = &plan.follow {
        let expected = agents(&fetched.pods).map(|pod| expected(engine, pod)).collect();
        context.heartbeats.follow(&engine.name, followed.clone(), expected, Instant::now());
    }
    let mut applied = Applied::default();
    let (mut kafka, mut leader) = (Ok(()), Ok(()));
    for action in &plan.actions {
        match action {
            Action::ApplySecret(secret) => {
                context.documents.forget(&engine.name);
                written(&mut applied, put(&engine.name, secret.as_ref(), context).await);
            }
            Action::ApplyService(service) => {
                written(&mut applied, put(&engine.name, service.as_ref(), context).await);
            }
            Action::DeleteService { name, uid } => {
                written(&mut applied, delete::<Service>(&engine.name, name, uid, context).await);
            }
            action => match &engine.order {
                Order::Kafka(of) if kafka.is_ok() => {
                    kafka =
                        topic((engine, of), plan.connection.as_ref(), action, context, &mut applied).await;
                }
                Order::Group(name) if leader.is_ok() => {
                    leader = log((engine, name), plan.leader.as_ref(), action, context, &mut applied).await;
                }
                Order::Kafka(_) | Order::Group(_) => {} // it failed a moment ago
            },
        }
    }
    applied.problems.extend(leader.err().as_ref().map(asked));
    if let (Err(error), Some(of)) = (kafka, engine.kafka()) {
        applied.problems.push(Problem::kafka(&error, &of.servers));
        context.notes.answered(&engine.name, None, Err(error), Instant::now());
    } else if applied.look_again {
        context.notes.changed(&engine.name);
    }
    applied
}

fn written(applied: &mut Applied, result: Result<(), String>) {
    if let Err(message) = result {
        applied.problems.push(Problem::time("ApplyFailed", message));
    }
}

async fn topic(
    (engine, kafka): (&Engine, &Kafka),
    connection: Option<&Connection>,
    action: &Action,
    context: &Context,
    applied: &mut Applied,
) -> Result<(), topics::Error> {
    let Some(connection) = connection else { return Ok(()) }; // then nothing was found, and nothing planned
    let cluster = context.clusters.at(connection)?;
    let log = &kafka.topic;
    // A reverted setting is looked at with the next resync: a broker that spells a value in its own way would otherwise
    // be asked for ever.
    applied.look_again = !matches!(action, Action::SetConfig(..));
    match action {
        Action::CreateLog(new) => {
            let made = cluster.create(log, new).await?;
            applied.told.push(("TopicCreated", format!("made topic {log} with id {}", made.id)));
            applied.made =
                Some(TopicStatus { name: log.clone(), id: made.id, created: true, settings: None });
        }
        Action::CreateTopic(name, new) => {
            cluster.create(name, new).await?;
        }
        Action::SetConfig(name, entries) => {
            cluster.set_config(name, entries).await?;
            let entries: Vec<String> = entries.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let message = format!("put back {} of topic {name}", entries.join(", "));
            applied.told.push(("TopicConfigReverted", message));
        }
        Action::AppendSettings(settings) => {
            // Also where nobody knows whether it arrived: then it is looked for.
            context.notes.appended(&engine.name);
            cluster.append_settings(log, settings).await?;
            applied.told.push(("SettingsAppended", format!("appended a settings entry to topic {log}")));
        }
        Action::ReadSettings { id, from } => {
            let found = cluster.scan(log, id, Some(*from)).await?;
            context.notes.has_read(&engine.name, id, found);
        }
        Action::ApplySecret(_)
        | Action::ApplyService(_)
        | Action::DeleteService { .. }
        | Action::FindSettings { .. } => {}
    }
    Ok(())
}

/// The same of a group's log, which its leader reads and appends to.
async fn log(
    (engine, group): (&Engine, &str),
    leader: Option<&Agent>,
    action: &Action,
    context: &Context,
    applied: &mut Applied,
) -> Result<(), call::Error> {
    let Some(leader) = leader else { return Ok(()) }; // then nothing was planned
    let scan = async |from: Option<u64>| {
        let asked = member::Scan { from: from.map(Position) };
        context.calls.post::<_, Scanned>(leader, path::SCAN, &asked).await.map(ledger::scan)
    };
    match action {
        Action::FindSettings { id, from } => {
            context.notes.has_first(&engine.name, id, scan(*from).await?);
        }
        Action::ReadSettings { id, from } => {
            context.notes.has_read(&engine.name, id, scan(Some(*from)).await?);
        }
        Action::AppendSettings(settings) => {
            // Also where nobody knows whether it arrived: then it is looked for.
            context.notes.appended(&engine.name);
            let Ordered { position } = context.calls.post(leader, path::SETTINGS, settings.as_ref()).await?;
            let told =
                format!("appended a settings entry to the log of group {group}, at position {position}");
            applied.told.push(("SettingsAppended", told));
        }
        _ => return Ok(()), // Kafka's
    }
    applied.look_again = true;
    Ok(())
}

fn asked(error: &call::Error) -> Problem {
    Problem::time(
        "LeaderUnreachable",
        format!(
            "the group's leader did not do what it was asked ({error}); it is asked again, or another one is"
        ),
    )
}

/// Writes an object.
///
/// # Errors
/// If the API server does not take it.
pub(super) async fn put<K>(engine: &EngineName, object: &K, context: &Context) -> Result<(), String>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Serialize,
{
    let api = Api::<K>::namespaced(context.client.clone(), &engine.namespace);
    let name = object.name_any();
    let request = async {
        api.patch(&name, &PatchParams::apply(labels::FIELD_MANAGER).force(), &Patch::Apply(object)).await
    };
    limited(request).await.map_err(|error| format!("write {} {name}: {error}", K::kind(&())))
}

/// Deletes this object and no other of its name. One that is gone is no error.
///
/// # Errors
/// If the API server does not do it.
pub(super) async fn delete<K>(
    engine: &EngineName,
    name: &str,
    uid: &str,
    context: &Context,
) -> Result<(), String>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let api = Api::<K>::namespaced(context.client.clone(), &engine.namespace);
    let only = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    let parameters = DeleteParams { preconditions: Some(only), ..DeleteParams::default() };
    match limited(async { api.delete(name, &parameters).await }).await {
        Err(error) if !error.is_gone() => Err(format!("delete {} {name}: {error}", K::kind(&()))),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server said no, or nothing.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// It took too long.
    #[error("no answer from the API server within {REQUEST_LIMIT:?}")]
    Late,
}

impl Error {
    fn is_gone(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if matches!(status.code, 404 | 409))
    }
}

async fn limited<T>(request: impl Future<Output = kube::Result<T>>) -> Result<(), Error> {
    let answer = tokio::time::timeout(REQUEST_LIMIT, request).await.map_err(|_| Error::Late)?;
    answer.map(drop).map_err(Error::from)
}

/// The engine as it is now; none if it is gone.
///
/// # Errors
/// If the API server can't be asked.
pub(super) async fn object(engine: &EngineName, context: &Context) -> Result<Option<DecisionEngine>, Error> {
    let api = Api::<DecisionEngine>::namespaced(context.client.clone(), &engine.namespace);
    let answer = tokio::time::timeout(REQUEST_LIMIT, api.get_opt(&engine.name)).await;
    answer.map_err(|_| Error::Late)?.map_err(Error::from)
}

/// Adds or removes the engine's finalizer. An engine that is gone is no error.
///
/// # Errors
/// If the API server does not take it.
pub(super) async fn finalizer(
    name: &EngineName,
    object: &DecisionEngine,
    add: bool,
    context: &Context,
) -> Result<(), Error> {
    let Some(patch) = finalizers::patch(object, add) else { return Ok(()) };
    let api = Api::<DecisionEngine>::namespaced(context.client.clone(), &name.namespace);
    let parameters = PatchParams::default();
    let request = async {
        let written = api.patch(&name.name, &parameters, &Patch::Json::<()>(patch)).await?;
        context.notes.wrote(name, written.resource_version().as_deref().unwrap_or_default());
        Ok(())
    };
    match limited(request).await {
        Err(error) if error.is_gone() => Ok(()),
        result => result,
    }
}

/// Writes the status.
///
/// # Errors
/// If the API server does not take it. An engine that is gone is no error.
pub async fn status(
    engine: &EngineName,
    status: &DecisionEngineStatus,
    context: &Context,
) -> Result<(), Error> {
    let api = Api::<DecisionEngine>::namespaced(context.client.clone(), &engine.namespace);
    let object = json!({
        "apiVersion": DecisionEngine::api_version(&()),
        "kind": DecisionEngine::kind(&()),
        "metadata": {"name": engine.name},
        "status": status,
    });
    let parameters = PatchParams::apply(labels::FIELD_MANAGER).force();
    let request = async {
        let written = api.patch_status(&engine.name, &parameters, &Patch::Apply(object)).await?;
        context.notes.wrote(engine, written.resource_version().as_deref().unwrap_or_default());
        Ok(())
    };
    match limited(request).await {
        Err(error) if error.is_gone() => Ok(()),
        result => result,
    }
}

fn expected(engine: &Engine, pod: &Pod) -> Expected {
    let only = engine.classes.first().filter(|_| engine.classes.len() == 1);
    let class = pod.labels().get(labels::CLASS).or(only.map(|class| &class.name));
    let containers = pod.status.as_ref().and_then(|status| status.init_container_statuses.as_deref());
    let sidecar = containers.unwrap_or_default().iter().find(|c| c.name == decree_wire::pod::CONTAINER);
    Expected {
        uid: pod.uid().unwrap_or_default(),
        pod: pod.name_any(),
        class: class.cloned().unwrap_or_default(),
        runs: sidecar.is_some_and(|sidecar| sidecar.started == Some(true)),
    }
}
