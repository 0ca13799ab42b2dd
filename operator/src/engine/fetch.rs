//! Step 1: everything that the other steps need to know, from the API server, Kafka and the heartbeats.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use decree_crds::{DecisionEngine, labels};
use decree_kafka::Connection;
use decree_wire::document::file;
use decree_wire::position::EngineName;
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};

use super::context::Context;
use super::documents;
use super::ledger::{self, Ledger};
use super::notes::{Answer, Found, Notes, Read, Turn};
use crate::cluster;
use crate::credentials::{self, Credentials};
use crate::detector::suspect::View;
use crate::render;
use crate::topics::{self, Clusters, Scan, Topics};

/// Kafka's part of a reconcile.
const KAFKA_LIMIT: Duration = Duration::from_secs(20);
/// A topic that is remembered and not there is asked for so often before it counts as lost: brokers learn of a new one
/// at different times.
const ASK_AGAIN: u32 = 4;

/// What is known of an engine.
#[derive(Debug)]
pub struct Fetched {
    /// The resource itself, not older than our own last write.
    pub object: DecisionEngine,
    /// The uid of `kube-system`.
    pub cluster: String,
    /// Its pods.
    pub pods: Vec<Arc<Pod>>,
    /// The object that has the name of its Secret, whoever made it.
    pub secret: Option<Secret>,
    /// Services that Decree made for it, and those that have a name that it wants.
    pub services: Vec<Arc<Service>>,
    /// What the Secrets give that it names.
    pub credentials: Credentials,
    /// Its topics; none where Kafka has not been asked yet, because what needs no Kafka comes first.
    pub topics: Option<Answer>,
    /// Its group; none where Kafka orders.
    pub group: Option<Ledger>,
    /// What is heard of its agents.
    pub view: View,
    /// Why nothing can be heard.
    pub deaf: Option<String>,
    /// How far its log was read for settings entries.
    pub read: Option<Read>,
}

/// Why an engine could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not answer well.
    #[error("read {what} of {engine}")]
    Api {
        /// What.
        what: &'static str,
        /// Whose.
        engine: EngineName,
        /// Why not.
        source: kube::Error,
    },
    /// A watch ended.
    #[error("wait for the watches of engines, pods and Services")]
    Watch,
}

/// Everything; none if the engine is gone.
///
/// # Errors
/// If the API server can't be read. Kafka's errors are part of the answer.
pub async fn fetch(name: &EngineName, context: &Context) -> Result<Option<Fetched>, Error> {
    let api = |what, source| Error::Api { what, engine: name.clone(), source };
    if !context.stores.seen().await {
        return Err(Error::Watch);
    }
    let object = engine(name, context).await.map_err(|error| api("the engine", error))?;
    let Some(object) = object else { return Ok(None) };
    let cluster = cluster(context).await.map_err(|error| api("the namespace kube-system", error))?;
    let services = services(name, &object, context).await.map_err(|error| api("the Services", error))?;
    let now = Instant::now();
    let of = (object.uid().unwrap_or_default(), object.metadata.generation.unwrap_or_default());
    let first = context.notes.first_sight(name, &of);
    let pods = context.stores.pods.state_filter(|pod| is_of(pod, name));
    if first {
        context.documents.forget(name);
    }
    let secret = context.documents.of(&context.client, name, documents::is_needed(&pods), now);
    let secret = secret.await.map_err(|error| api("the Secret", error))?;
    let anew = first || context.notes.refused(name);
    let secrets =
        context.secrets.of(&context.client, &name.namespace, credentials::names(&object.spec), anew);
    let secrets = secrets.await.map_err(|error| api("a Secret that the spec names", error))?;
    let mut credentials = credentials::of(&object.spec, &secrets);
    let topics = match (first, &credentials.operator) {
        (true, _) | (_, None) => None,
        (false, Some(Err(problem))) => Some(Err(topics::Error::NoCredentials {
            reason: problem.reason,
            message: problem.message.clone(),
        })),
        (false, Some(Ok(connection))) => {
            Some(topics(name, &object, connection, &context.notes, context.clusters.as_ref(), now).await)
        }
    };
    let group = match &object.spec.consensus_group {
        None => None,
        Some(group) => {
            context.notes.rests(name, now);
            let issuer = ledger::issuer(context).await;
            let issuer = issuer.map_err(|error| api("the webhook's certificates", error))?;
            credentials.files.extend(issuer.map(|pem| (file::ISSUER.to_owned(), pem.into_bytes())));
            Some(ledger::ledger(name, &group.name, &pods, context))
        }
    };
    let view = context.heartbeats.view(name, Instant::now());
    let deaf = context.heartbeats.deaf(name, Instant::now());
    let read = match &topics {
        Some(Ok(Found { log: Some((log, _)), .. })) => context.notes.read(name, &log.id),
        _ => group.as_ref().and_then(|group| context.notes.read(name, &group.begun.as_ref()?.incarnation.0)),
    };
    Ok(Some(Fetched {
        object,
        cluster,
        pods,
        secret,
        services,
        credentials,
        topics,
        group,
        view,
        deaf,
        read,
    }))
}

/// From the watch, unless that is behind our own last write: at rest nobody is asked.
async fn engine(name: &EngineName, context: &Context) -> Result<Option<DecisionEngine>, kube::Error> {
    let seen = context.stores.engines.get(&ObjectRef::new(&name.name).within(&name.namespace));
    let current = |engine: &Arc<DecisionEngine>| {
        context.notes.is_current(name, engine.resource_version().as_deref().unwrap_or_default())
    };
    if let Some(engine) = seen.filter(current) {
        return Ok(Some(engine.as_ref().clone()));
    }
    let engines = Api::<DecisionEngine>::namespaced(context.client.clone(), &name.namespace);
    engines.get_opt(&name.name).await
}

async fn cluster(context: &Context) -> Result<String, kube::Error> {
    context.cluster.get_or_try_init(|| cluster::uid(&context.client)).await.cloned()
}

fn is_of(pod: &Pod, name: &EngineName) -> bool {
    pod.metadata.namespace.as_deref() == Some(&name.namespace)
        && pod.labels().get(labels::ENGINE) == Some(&name.name)
}

async fn services(
    name: &EngineName,
    object: &DecisionEngine,
    context: &Context,
) -> Result<Vec<Arc<Service>>, kube::Error> {
    let mut services = context.stores.services.state_filter(|service| {
        service.metadata.namespace.as_deref() == Some(&name.namespace)
            && render::is_of(&service.metadata, &name.name)
    });
    let seen: BTreeSet<String> = services.iter().map(|service| service.name_any()).collect();
    let wanted = object.spec.agents.iter().filter_map(|agent| agent.replicate.as_ref()?.service.as_ref());
    let api = Api::<Service>::namespaced(context.client.clone(), &name.namespace);
    for wanted in wanted.filter(|wanted| !seen.contains(&wanted.name)) {
        services.extend(api.get_opt(&wanted.name).await?.map(Arc::new));
    }
    Ok(services)
}

async fn topics(
    name: &EngineName,
    object: &DecisionEngine,
    connection: &Connection,
    notes: &Notes,
    clusters: &dyn Clusters,
    now: Instant,
) -> Answer {
    notes.connects(name, connection);
    if let Some(answer) = notes.fresh(name, now) {
        return answer;
    }
    let _turn = match notes.turn(name, now) {
        Turn::Ask(turn) => turn,
        Turn::Later(answer) => return answer,
    };
    let (cluster, answer) = match clusters.at(connection) {
        Err(error) => (None, Err(error)),
        Ok(cluster) => {
            let looked = tokio::time::timeout(KAFKA_LIMIT, look(name, object, notes, cluster.as_ref())).await;
            let late = || topics::Error::Unreachable(format!("look at topics: no end in {KAFKA_LIMIT:?}"));
            (Some(cluster), looked.unwrap_or_else(|_| Err(late())))
        }
    };
    let now = Instant::now();
    notes.answered(name, cluster, answer.clone(), now);
    notes.fresh(name, now).unwrap_or(answer)
}

async fn look(name: &EngineName, object: &DecisionEngine, notes: &Notes, cluster: &dyn Topics) -> Answer {
    let topic = object.spec.kafka.as_ref().and_then(|kafka| kafka.topic.name.clone());
    let topic = topic.unwrap_or_else(|| labels::default_topic(&name.namespace, &name.name));
    let remembered = object.status.as_ref().is_some_and(|status| status.topic.is_some());
    let brokers = cluster.brokers().await?;
    let mut log = cluster.topic(&topic).await?;
    for _ in 0..ASK_AGAIN {
        if log.is_none() && remembered {
            tokio::time::sleep(Duration::from_millis(500)).await;
            log = cluster.topic(&topic).await?;
        }
    }
    let mut start = 0;
    let log = match log {
        None => None,
        Some(log) => {
            let scan = match notes.scanned(name, &log.id) {
                Some(scan @ (Scan::Settings { .. } | Scan::Unreadable(_))) => scan,
                Some(Scan::Unfinished { next, .. }) => cluster.scan(&topic, &log.id, Some(next)).await?,
                // A log with several partitions has no order: nothing in it is looked at.
                None | Some(Scan::None { .. }) if log.partitions != 1 => Scan::None { next: 1 },
                None | Some(Scan::None { .. }) => cluster.scan(&topic, &log.id, None).await?,
            };
            // A scan begins at the start, and says nothing of what was dropped.
            if log.partitions == 1 {
                start = cluster.start(&topic).await?;
            }
            Some((log, scan))
        }
    };
    let heartbeats = cluster.topic(&labels::heartbeats_topic(&topic)).await?;
    Ok(Found { brokers, start, log, heartbeats })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use decree_wire::settings::Settings;
    use futures::StreamExt;

    use super::*;
    use crate::topics::memory::MemoryTopics;
    use crate::topics::{Error, NewTopic, Topic};

    /// Never answers: what a network that swallows packets does, and a real broker can't be made to.
    #[derive(Debug)]
    struct Hanging;

    #[async_trait::async_trait]
    impl Topics for Hanging {
        async fn brokers(&self) -> Result<usize, Error> {
            std::future::pending().await
        }
        async fn topic(&self, _: &str) -> Result<Option<Topic>, Error> {
            std::future::pending().await
        }
        async fn create(&self, _: &str, _: &NewTopic) -> Result<Topic, Error> {
            std::future::pending().await
        }
        async fn set_config(&self, _: &str, _: &BTreeMap<String, String>) -> Result<(), Error> {
            std::future::pending().await
        }
        async fn start(&self, _: &str) -> Result<u64, Error> {
            std::future::pending().await
        }
        async fn delete(&self, _: &str, _: Option<&str>) -> Result<(), Error> {
            std::future::pending().await
        }
        async fn scan(&self, _: &str, _: &str, _: Option<u64>) -> Result<Scan, Error> {
            std::future::pending().await
        }
        async fn append_settings(&self, _: &str, _: &Settings) -> Result<(), Error> {
            std::future::pending().await
        }
        async fn groups(&self, _: &str) -> Result<Vec<String>, Error> {
            std::future::pending().await
        }
        async fn delete_groups(&self, _: &[String]) -> Result<(), Error> {
            std::future::pending().await
        }
    }

    #[derive(Debug)]
    struct HangingButOne;

    impl Clusters for HangingButOne {
        fn at(&self, connection: &Connection) -> Result<Arc<dyn Topics>, Error> {
            match connection.bootstrap_servers.as_slice() {
                [server] if server == "good:1" => Ok(Arc::new(MemoryTopics::default())),
                _ => Ok(Arc::new(Hanging)),
            }
        }
    }

    fn engine(name: &str, server: &str) -> (EngineName, DecisionEngine) {
        let object = serde_json::json!({
            "apiVersion": "decree.dev/v1alpha1", "kind": "DecisionEngine", "metadata": {"name": name, "namespace": "a"},
            "spec": {"kafka": {"bootstrapServers": [server]}, "agents": []},
        });
        (EngineName { namespace: "a".into(), name: name.into() }, serde_json::from_value(object).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn engines_whose_kafka_hangs_do_not_hold_the_workers_that_others_need() {
        const WORKERS: usize = 64;
        let (notes, clusters) = (Notes::default(), HangingButOne);
        let mut engines: Vec<_> = (0..200).map(|n| engine(&format!("bad-{n}"), "bad:1")).collect();
        let silent = || Err(Error::Unreachable("away".into()));
        let long_ago = Instant::now() - Duration::from_secs(3600);
        for (name, _) in &engines {
            notes.answered(name, None, silent(), long_ago);
        }
        engines.push(engine("good", "good:1"));
        let asked = engines.iter().map(async |(name, object)| {
            let connection = Connection::plain(object.spec.kafka.clone().unwrap().bootstrap_servers, "test");
            (name, topics(name, object, &connection, &notes, &clusters, Instant::now()).await)
        });
        let start = tokio::time::Instant::now();
        let mut answers = futures::stream::iter(asked).buffer_unordered(WORKERS);
        while let Some((name, answer)) = answers.next().await {
            if name.name == "good" {
                assert!(answer.is_ok(), "{answer:?}");
                assert!(start.elapsed() < Duration::from_secs(1), "it waited {:?}", start.elapsed());
                return;
            }
        }
        panic!("the good one was never asked");
    }
}
