//! What this sidecar says of itself once a second, and the task that publishes it. Never in anybody's way.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use decree_wire::heartbeat::{Heartbeat, State};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::shutdown::Phase;

pub mod heard;
pub mod kafka;
pub mod leader;

/// The last heartbeat gets so long, at most.
const LAST_LIMIT: Duration = Duration::from_millis(500);

/// Where heartbeats go.
///
/// A call MUST end within a few seconds, and MUST NOT wait for what was published before.
#[async_trait]
pub trait Publish: Send + Sync + fmt::Debug {
    /// Publishes one; an error is words for a person.
    async fn publish(&self, heartbeat: &Heartbeat) -> Result<(), String>;
}

/// What is known of this agent now.
#[must_use]
pub fn heartbeat(agent: &Agent, sequence: u64) -> Heartbeat {
    let progress = agent.progress();
    let known = progress.as_ref();
    let state = match (agent.phase(), known) {
        (Phase::Running, Some(progress)) => progress.state,
        (Phase::Running, None) => State::Waiting,
        (Phase::Draining | Phase::Flushed | Phase::Stopped, _) => State::Draining,
    };
    Heartbeat {
        level: decree_wire::PROTOCOL_LEVEL,
        pod: agent.pod().name.clone(),
        uid: agent.pod().uid.clone(),
        class: agent.class().map(|class| class.name).unwrap_or_default(),
        sequence,
        incarnation: known.and_then(|progress| progress.incarnation.clone()),
        position: known.and_then(|progress| progress.position),
        head: known.and_then(|progress| progress.end),
        lag: known.and_then(|progress| progress.lag),
        lag_ms: known.and_then(|progress| progress.lag_ms),
        digest: known.and_then(|progress| progress.reported_digest(sequence).cloned()),
        version: agent.pod().version,
        state,
        ready: agent.unready().is_empty(),
        troubles: agent.troubles(),
        calls_for: known.and_then(|progress| progress.calls_for),
        in_doubt: known.and_then(|progress| progress.in_doubt),
        rebuild: known.and_then(|progress| progress.rebuild),
        build: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Publishes at the document's pace until `stop`, and then once more. The publisher changes with its connection.
pub async fn run(
    agent: Agent,
    mut publisher: watch::Receiver<Option<std::sync::Arc<dyn Publish>>>,
    stop: CancellationToken,
) {
    let mut sequence = 0;
    loop {
        let current = publisher.borrow_and_update().clone();
        let every = Duration::from_millis(agent.document().map_or(1000, |document| document.heartbeat_ms));
        if let Some(current) = current {
            let told = heartbeat(&agent, sequence);
            let publishing = timeout(every.max(Duration::from_secs(3)), current.publish(&told));
            let result = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                result = publishing => result.unwrap_or_else(|_| Err("nobody took it in time".into())),
            };
            agent.heartbeat_ended(sequence, result);
            sequence += 1;
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = tokio::time::sleep(every) => {}
        }
    }
    let current = publisher.borrow().clone();
    if let Some(current) = current {
        // The operator then need not suspect a pod that ended as it should.
        let _ = timeout(LAST_LIMIT, current.publish(&heartbeat(&agent, sequence))).await;
    }
}
