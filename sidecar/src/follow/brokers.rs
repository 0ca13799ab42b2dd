//! The connection to the brokers that the document names, exchanged when it names others or other credentials.

use std::sync::Arc;
use std::time::Duration;

use decree_kafka::Connection;
use decree_wire::document::Kafka;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::config::document::State;
use crate::heartbeat::Publish;
use crate::heartbeat::kafka::Topic;
use crate::log::kafka::{KafkaLog, Settings};
use crate::log::refusals::{Refusals, Way};
use crate::log::switch::Switch;
use crate::log::{self, Log};

use super::ordered::Ordered;

/// How often a connection that can't be had is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Opens the log, and the topic of heartbeats over the same producer. Succeeds with brokers away.
fn connect(
    connection: Connection,
    kafka: &Kafka,
    refusals: &Refusals,
) -> Result<(KafkaLog, Topic), log::Error> {
    let group = connection.client_id.clone();
    let log = KafkaLog::new(Settings {
        connection,
        topic: kafka.topic.clone(),
        group,
        refusals: refusals.clone(),
    })?;
    let topic = Topic::new(log.producer(), kafka.heartbeats.clone(), refusals.clone());
    Ok((log, topic))
}

/// The way to the brokers that the documents now name.
fn wanted(agent: &Agent, state: &State) -> Option<(Kafka, Connection)> {
    let document = state.current.as_ref()?;
    let kafka = document.kafka.clone()?;
    let name = format!("decree.{}.{}.{}", document.engine.namespace, document.engine.name, agent.pod().name);
    let connection = state.credentials.connection(&kafka, name);
    Some((kafka, connection))
}

/// Connects, and keeps connected. None where nobody waits for it any more.
pub(super) async fn open(
    agent: &Agent,
    publisher: watch::Sender<Option<Arc<dyn Publish>>>,
    stop: CancellationToken,
) -> Option<Ordered> {
    let (log, topic, connected) = first(agent, &stop).await?;
    let log = Arc::new(Switch::new(Arc::new(log)));
    publisher.send_replace(Some(Arc::new(topic)));
    let (agent, switch) = (agent.clone(), log.clone());
    let keep = Box::pin(async move {
        keep(&agent, connected, &switch, &publisher, stop).await;
        Ok(())
    });
    Some(Ordered { log, keep })
}

/// The first connection that can be had: what a document names may be unusable (a certificate that is none), and that
/// is mended by another document, not by another process. None where nobody waits for it any more.
async fn first(agent: &Agent, stop: &CancellationToken) -> Option<(KafkaLog, Topic, Connection)> {
    let mut documents = agent.documents();
    loop {
        let state = documents.borrow_and_update().clone();
        if let Some((kafka, connection)) = wanted(agent, &state) {
            let connected = connect(connection.clone(), &kafka, agent.refusals());
            agent.refusals().note(Way::Connect, connected.as_ref().err().map(ToString::to_string));
            match connected {
                Ok((log, topic)) => return Some((log, topic, connection)),
                Err(why) => tracing::warn!(%why, "can't connect to the brokers"),
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            changed = documents.changed() => changed.ok()?,
        }
    }
}

/// Goes over to other brokers or credentials when the document names them, until `stop`.
async fn keep(
    agent: &Agent,
    mut current: Connection,
    switch: &Switch,
    publisher: &watch::Sender<Option<Arc<dyn Publish>>>,
    stop: CancellationToken,
) {
    let mut documents = agent.documents();
    loop {
        let state = documents.borrow_and_update().clone();
        let others = wanted(agent, &state).filter(|(_, connection)| *connection != current);
        let waiting = others.is_some();
        if let Some((kafka, connection)) = others {
            let exchanged = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                exchanged = exchange(agent, connection.clone(), &kafka, switch, publisher) => exchanged,
            };
            agent.refusals().note(Way::Connect, exchanged.as_ref().err().map(ToString::to_string));
            match exchanged {
                Ok(()) => {
                    agent.refusals().clear();
                    tracing::info!(brokers = connection.brokers(), "went over to another connection");
                    current = connection;
                    continue;
                }
                Err(why) => tracing::warn!(%why, "stayed with the connection of before"),
            }
        } else {
            agent.refusals().note(Way::Connect, None);
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = documents.changed() => if changed.is_err() { return stop.cancelled().await },
            () = tokio::time::sleep(AGAIN), if waiting => {}
        }
    }
}

/// Where the topic's id is known, the new brokers must show it first: the same name on another cluster is another log,
/// and what the brokers refuse is no better than what is there.
async fn exchange(
    agent: &Agent,
    connection: Connection,
    kafka: &Kafka,
    switch: &Switch,
    publisher: &watch::Sender<Option<Arc<dyn Publish>>>,
) -> Result<(), log::Error> {
    let (log, topic) = connect(connection, kafka, agent.refusals())?;
    if let Some(expected) = &kafka.topic_id {
        let found = log.incarnation().await?;
        if found.0 != *expected {
            return Err(log::Error::Replaced(format!(
                "topic {} has the id {found} on {}, not {expected}",
                kafka.topic,
                kafka.bootstrap_servers.join(",")
            )));
        }
    }
    switch.to(Arc::new(log));
    publisher.send_replace(Some(Arc::new(topic)));
    Ok(())
}
