//! Engines that are not reconciled: those that are being deleted, and those that a person has paused.

use std::time::{Duration, Instant};

use decree_crds::engine::kafka::DeletionPolicy;
use decree_crds::engine::status::DecisionEngineStatus;
use decree_crds::{DecisionEngine, labels};
use decree_wire::position::EngineName;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::{Resource, ResourceExt};

use super::context::Context;
use super::{apply, explain};
use crate::care::groups;
use crate::credentials;
use crate::events::Note;
use crate::topics;

/// Topics that can't be deleted within this stay: a namespace always terminates.
const DEADLINE: SignedDuration = SignedDuration::from_secs(120);
/// Between two tries.
const AGAIN: Duration = Duration::from_secs(5);
/// One try.
const LIMIT: Duration = Duration::from_secs(30);

/// What becomes of an engine's finalizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is as it should be.
    Stay,
    /// The engine's topics are to go with it: it must not go before them.
    Hold,
    /// Nothing is to be done before the engine may go.
    LetGo,
    /// The topics go first.
    DeleteTopics {
        /// The log.
        topic: String,
        /// This incarnation and no other.
        id: String,
    },
    /// They can't be deleted, and the engine goes without.
    GiveUp,
}

/// Whether a person wants the engine left as it is.
#[must_use]
pub fn is_paused(object: &DecisionEngine) -> bool {
    object.annotations().get(labels::PAUSED).is_some_and(|value| value == "true")
}

/// Decides.
#[must_use]
pub fn step(object: &DecisionEngine, now: Timestamp) -> Step {
    let held = object.finalizers().iter().any(|finalizer| finalizer == labels::FINALIZER);
    let kafka = object.spec.kafka.as_ref();
    let delete = kafka.is_some_and(|kafka| kafka.deletion_policy == DeletionPolicy::Delete);
    let Some(since) = &object.metadata.deletion_timestamp else {
        return match (delete, held) {
            (true, false) => Step::Hold,
            (false, true) => Step::LetGo,
            (true, true) | (false, false) => Step::Stay,
        };
    };
    let made = object.status.as_ref().and_then(|status| status.topic.clone()).filter(|topic| topic.created);
    match made {
        _ if !held => Step::Stay,
        Some(topic) if delete && now.duration_since(since.0) < DEADLINE => {
            Step::DeleteTopics { topic: topic.name, id: topic.id }
        }
        Some(_) if delete => Step::GiveUp,
        Some(_) | None => Step::LetGo,
    }
}

/// Sees to it that the finalizer of an engine that is not being deleted is there, or not, as its policy says.
///
/// # Errors
/// If the API server does not take it.
pub async fn hold(name: &EngineName, object: &DecisionEngine, context: &Context) -> Result<(), apply::Error> {
    match step(object, Timestamp::now()) {
        Step::Hold => apply::finalizer(name, object, true, context).await,
        Step::LetGo => apply::finalizer(name, object, false, context).await,
        Step::Stay | Step::DeleteTopics { .. } | Step::GiveUp => Ok(()),
    }
}

/// Deletes what goes with an engine that is being deleted, and lets it go. When to come back, if there is more to do.
///
/// # Errors
/// If the API server does not take it.
pub async fn leave(
    name: &EngineName,
    object: &DecisionEngine,
    context: &Context,
) -> Result<Option<Duration>, apply::Error> {
    let told = match step(object, Timestamp::now()) {
        Step::Stay | Step::Hold => return Ok(None),
        Step::LetGo => None,
        Step::GiveUp => Some(Note {
            about: object.object_ref(&()),
            warning: true,
            reason: "TopicsLeft".into(),
            message: format!(
                "the topics of this engine could not be deleted within {} s and stay; delete them with Kafka's own tools",
                DEADLINE.as_secs()
            ),
        }),
        Step::DeleteTopics { topic, id } => {
            let deleted = tokio::time::timeout(LIMIT, delete(name, object, &topic, &id, context)).await;
            let deleted = deleted.unwrap_or_else(|_| {
                Err(topics::Error::Unreachable(format!("delete topic {topic}: no end within {LIMIT:?}")))
            });
            // Somebody made another of that name: it is not this engine's, nor is what stands beside it.
            let replaced = matches!(deleted, Err(topics::Error::Replaced(_)));
            if let Err(error) = deleted
                && !replaced
            {
                let message = format!(
                    "the topics are to be deleted first: {error}; it is tried for {} s",
                    DEADLINE.as_secs()
                );
                mark(name, object, "Deleting", message, context).await?;
                return Ok(Some(AGAIN));
            }
            Some(Note {
                about: object.object_ref(&()),
                warning: false,
                reason: "TopicDeleted".into(),
                message: match replaced {
                    true => {
                        format!("topic {topic} with id {id} is gone already, and another of that name stays")
                    }
                    false => format!("deleted topic {topic} with id {id}"),
                },
            })
        }
    };
    apply::finalizer(name, object, false, context).await?;
    context.events.tell(told.into_iter().collect()).await;
    Ok(None)
}

/// The log, its heartbeats, and the groups in which agents committed.
async fn delete(
    name: &EngineName,
    object: &DecisionEngine,
    topic: &str,
    id: &str,
    context: &Context,
) -> Result<(), topics::Error> {
    let names = credentials::names(&object.spec);
    let secrets = context.secrets.of(&context.client, &name.namespace, names, false).await;
    let secrets = secrets.map_err(|error| topics::Error::Failed(format!("read its Secrets: {error}")))?;
    let Some(connection) = credentials::of(&object.spec, &secrets).operator else { return Ok(()) };
    let connection = connection.map_err(|problem| topics::Error::NoCredentials {
        reason: problem.reason,
        message: problem.message,
    })?;
    let cluster = context.clusters.at(&connection)?;
    cluster.delete(topic, Some(id)).await?;
    cluster.delete(&labels::heartbeats_topic(topic), None).await?;
    let groups = cluster.groups(&groups::prefix(name)).await?;
    cluster.delete_groups(&groups).await
}

/// Says that the engine is paused, and leaves all else as it is.
///
/// # Errors
/// If the API server does not take the status.
pub async fn pause(
    name: &EngineName,
    object: &DecisionEngine,
    context: &Context,
) -> Result<(), apply::Error> {
    let message = format!(
        "the annotation {} is set: nothing of this engine is written, created, deleted or evicted, and its other conditions \
         are those of before; remove the annotation to go on",
        labels::PAUSED
    );
    mark(name, object, "Paused", message, context).await
}

/// Adds a condition to those that are there.
async fn mark(
    name: &EngineName,
    object: &DecisionEngine,
    type_: &str,
    message: String,
    context: &Context,
) -> Result<(), apply::Error> {
    let previous = object.status.clone().unwrap_or_default();
    let status = with(&previous, type_, message, object.metadata.generation, Timestamp::now());
    if status == previous {
        return Ok(());
    }
    apply::status(name, &status, context).await?;
    context.events.tell(explain::changes(object, Some(&previous), &status)).await;
    Ok(())
}

fn with(
    previous: &DecisionEngineStatus,
    type_: &str,
    message: String,
    generation: Option<i64>,
    now: Timestamp,
) -> DecisionEngineStatus {
    let mut status = previous.clone();
    let before = status.conditions.iter().position(|condition| condition.type_ == type_);
    let before = before.map(|at| status.conditions.remove(at));
    status.conditions.push(Condition {
        type_: type_.into(),
        status: "True".into(),
        reason: type_.into(),
        message,
        observed_generation: generation,
        last_transition_time: before.map_or(Time(now), |before| before.last_transition_time),
    });
    status.conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    status
}

/// Looks at an engine that is set aside; none if it is gone.
///
/// # Errors
/// If the API server can't be asked, or does not take what is written.
pub async fn look(name: &EngineName, context: &Context) -> Result<Option<Duration>, apply::Error> {
    let Some(object) = apply::object(name, context).await? else {
        context.forget(name);
        return Ok(None);
    };
    if object.metadata.deletion_timestamp.is_some() {
        context.heartbeats.forget(name);
        return leave(name, &object, context).await;
    }
    // What Kafka said before, and what the Secret was, is old when this ends.
    context.documents.forget(name);
    context.notes.unsettled(name, Instant::now());
    pause(name, &object, context).await.map(|()| None)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn engine(policy: &str, held: bool, created: Option<bool>, deleted: Option<i64>) -> DecisionEngine {
        let finalizers =
            if held { vec!["other/finalizer", labels::FINALIZER] } else { vec!["other/finalizer"] };
        let mut object: DecisionEngine = serde_json::from_value(json!({
            "apiVersion": "decree.dev/v1alpha1", "kind": "DecisionEngine",
            "metadata": {"name": "policy", "namespace": "shop", "finalizers": finalizers},
            "spec": {"kafka": {"bootstrapServers": ["a:1"], "deletionPolicy": policy}, "agents": []},
            "status": {"topic": created.map(|created| json!({"name": "t", "id": "one", "created": created}))},
        }))
        .unwrap();
        object.metadata.deletion_timestamp = deleted.map(|at| Time(Timestamp::from_second(at).unwrap()));
        object
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_finalizer_follows_the_policy() {
        assert_eq!(step(&engine("Retain", false, Some(true), None), at(0)), Step::Stay);
        assert_eq!(step(&engine("Delete", false, None, None), at(0)), Step::Hold);
        assert_eq!(step(&engine("Delete", true, Some(true), None), at(0)), Step::Stay);
        assert_eq!(step(&engine("Retain", true, Some(true), None), at(0)), Step::LetGo);
    }

    #[test]
    fn only_what_this_engine_made_is_deleted_and_not_for_ever() {
        let made = engine("Delete", true, Some(true), Some(0));
        let delete = Step::DeleteTopics { topic: "t".into(), id: "one".into() };
        assert_eq!(step(&made, at(119)), delete);
        assert_eq!(step(&made, at(120)), Step::GiveUp);
        assert_eq!(step(&engine("Delete", true, Some(false), Some(0)), at(1)), Step::LetGo);
        assert_eq!(step(&engine("Delete", true, None, Some(0)), at(1)), Step::LetGo);
        assert_eq!(step(&engine("Retain", true, Some(true), Some(0)), at(1)), Step::LetGo);
        assert_eq!(
            step(&engine("Delete", false, Some(true), Some(0)), at(1)),
            Step::Stay,
            "it may go already"
        );
    }

    #[test]
    fn a_pause_is_said_beside_what_was_true_before() {
        let mut previous = DecisionEngineStatus::default();
        previous.conditions.push(Condition {
            type_: "Ready".into(),
            status: "True".into(),
            reason: "Provisioned".into(),
            message: String::new(),
            observed_generation: Some(1),
            last_transition_time: Time(at(0)),
        });
        let paused = with(&previous, "Paused", "p".into(), Some(2), at(5));
        assert_eq!(paused.conditions.len(), 2);
        assert!(paused.conditions.contains(&previous.conditions[0]));
        assert_eq!(paused.observed_generation, previous.observed_generation, "nobody has looked at the spec");
        assert_eq!(with(&paused, "Paused", "p".into(), Some(2), at(9)), paused);
    }
}
