//! The connection to the brokers that the document names, exchanged when it names others.

use std::sync::Arc;
use std::time::Duration;

use decree_kafka::Connection;
use decree_wire::document::Document;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::config::Pod;
use crate::heartbeat::Publish;
use crate::heartbeat::kafka::Topic;
use crate::log::kafka::{KafkaLog, Settings};
use crate::log::switch::Switch;
use crate::log::{self, Log};

/// How often new brokers are asked again that don't answer.
const AGAIN: Duration = Duration::from_secs(5);

/// Opens the log, and the topic of heartbeats over the same producer. Succeeds with brokers away.
pub(super) fn connect(pod: &Pod, document: &Document) -> Result<(KafkaLog, Topic), log::Error> {
    let name = format!("decree.{}.{}.{}", document.engine.namespace, document.engine.name, pod.name);
    let log = KafkaLog::new(Settings {
        connection: Connection::plain(document.kafka.bootstrap_servers.clone(), name.clone()),
        topic: document.kafka.topic.clone(),
        group: name,
    })?;
    let topic = Topic::new(log.producer(), document.kafka.heartbeats.clone());
    Ok((log, topic))
}

/// Goes over to other brokers when the document names them, until `stop`.
pub(super) async fn keep(
    agent: &Agent,
    opened: &Document,
    switch: &Switch,
    publisher: &watch::Sender<Option<Arc<dyn Publish>>>,
    stop: CancellationToken,
) {
    let mut documents = agent.documents();
    let mut current = opened.kafka.bootstrap_servers.clone();
    loop {
        let document = documents.borrow_and_update().current.clone();
        let others = document.filter(|document| document.kafka.bootstrap_servers != current);
        let waiting = others.is_some();
        if let Some(document) = others {
            let exchanged = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                exchanged = exchange(agent.pod(), &document, switch, publisher) => exchanged,
            };
            match exchanged {
                Ok(()) => {
                    current.clone_from(&document.kafka.bootstrap_servers);
                    tracing::info!(brokers = current.join(","), "went over to other brokers");
                    continue;
                }
                Err(why) => tracing::warn!(%why, "stayed with the brokers of before"),
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = documents.changed() => if changed.is_err() { return stop.cancelled().await },
            () = tokio::time::sleep(AGAIN), if waiting => {}
        }
    }
}

/// Where the topic's id is known, the new brokers must show it first: the same name on another cluster is another log.
async fn exchange(
    pod: &Pod,
    document: &Document,
    switch: &Switch,
    publisher: &watch::Sender<Option<Arc<dyn Publish>>>,
) -> Result<(), log::Error> {
    let (log, topic) = connect(pod, document)?;
    if let Some(expected) = &document.kafka.topic_id {
        let found = log.incarnation().await?;
        if found.0 != *expected {
            return Err(log::Error::Replaced(format!(
                "topic {} has the id {found} on {}, not {expected}",
                document.kafka.topic,
                document.kafka.bootstrap_servers.join(",")
            )));
        }
    }
    switch.to(Arc::new(log));
    publisher.send_replace(Some(Arc::new(topic)));
    Ok(())
}
