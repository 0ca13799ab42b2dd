//! The agent as its doors see it: what belongs to the pod, the document, the shutdown, and, once there is one, the engine.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use decree_wire::document::{Class, Document};
use decree_wire::heartbeat::{CallsFor, Trouble};
use decree_wire::position::EngineName;
use http::HeaderMap;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::barrier;
use crate::config::Pod;
use crate::config::document::Documents;
use crate::log::Log;
use crate::log::refusals::Refusals;
use crate::member::Seat;
use crate::metrics::Metrics;
use crate::probe::Probe;
use crate::problem::Problem;
use crate::propose::{self, Proposer};
use crate::readiness::{self, Facts};
use crate::replica::{self, Application, Progress};
use crate::shutdown::{self, Door, Phase};

/// What there is once the document is known: the log that orders and the replica that applies.
#[derive(Debug)]
pub struct Engine {
    /// Whose log it is.
    pub name: EngineName,
    /// The application's port, as it was when the engine was opened.
    pub port: u16,
    /// What orders.
    pub log: Arc<dyn Log>,
    /// What applies.
    pub replica: replica::Handle,
    /// Takes proposals.
    pub proposer: Proposer,
    /// Takes barriers.
    pub barriers: barrier::Handle,
}

/// What every door shares. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Agent(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pod: Pod,
    documents: Documents,
    shutdown: shutdown::Handle,
    metrics: Metrics,
    probe: Probe,
    engine: watch::Sender<Option<Arc<Engine>>>,
    seat: OnceLock<Seat>,
    heartbeats: watch::Sender<Heartbeats>,
    was_ready: AtomicBool,
    given_up: CancellationToken,
    refusals: Refusals,
}

/// How publishing heartbeats goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Heartbeats {
    /// The last one that the orderer took; none before the first.
    pub sequence: Option<u64>,
    /// Why the last one was not taken.
    pub trouble: Option<String>,
}

impl Agent {
    /// An agent without an engine yet.
    #[must_use]
    pub fn new(pod: Pod, documents: Documents, metrics: Metrics) -> Self {
        Self(Arc::new(Inner {
            probe: Probe::new(pod.liveness.clone(), pod.ip.clone()),
            shutdown: shutdown::Handle::new(Duration::from_secs(pod.grace_seconds)),
            pod,
            documents,
            metrics,
            engine: watch::Sender::new(None),
            seat: OnceLock::new(),
            heartbeats: watch::Sender::default(),
            was_ready: AtomicBool::new(false),
            given_up: CancellationToken::new(),
            refusals: Refusals::default(),
        }))
    }

    /// What belongs to the pod.
    #[must_use]
    pub fn pod(&self) -> &Pod {
        &self.0.pod
    }

    /// The process's shutdown.
    #[must_use]
    pub fn shutdown(&self) -> &shutdown::Handle {
        &self.0.shutdown
    }

    /// The process's metrics.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The user's own liveness check.
    #[must_use]
    pub fn probe(&self) -> &Probe {
        &self.0.probe
    }

    /// Whether the application's container may live on; else why it is to be restarted.
    ///
    /// # Errors
    /// In words for the Event that the kubelet writes.
    pub fn application_alive(&self) -> Result<(), String> {
        let progress = self.progress();
        match progress.as_ref().map(|progress| (progress.calls_for, &progress.unknown)) {
            Some((Some(CallsFor::ContainerRestart), Some(unknown))) => Err(unknown.message.clone()),
            _ => self.0.probe.ask(Instant::now()),
        }
    }

    /// This agent's seat in the group that orders is there. It is opened once a process.
    pub fn set_seat(&self, seat: Seat) {
        let _ = self.0.seat.set(seat);
    }

    /// This agent's seat in the group that orders; none before it is opened, or where Kafka orders.
    #[must_use]
    pub fn seat(&self) -> Option<&Seat> {
        self.0.seat.get()
    }

    /// The engine is there.
    pub fn set_engine(&self, engine: Engine) {
        self.0.engine.send_replace(Some(Arc::new(engine)));
    }

    /// The engine, if it is there yet.
    #[must_use]
    pub fn engine(&self) -> Option<Arc<Engine>> {
        self.0.engine.borrow().clone()
    }

    /// The engine, or what to tell a client.
    ///
    /// # Errors
    /// With 503 and what is waited for.
    pub fn engine_now(&self) -> Result<Arc<Engine>, Problem> {
        self.engine().ok_or_else(|| match self.troubles().into_iter().next() {
            Some(trouble) => Problem::troubled(&trouble),
            None => Problem::unavailable("the replica is being opened; try again"),
        })
    }

    /// The newest good document.
    #[must_use]
    pub fn document(&self) -> Option<Arc<Document>> {
        self.0.documents.borrow().current.clone()
    }

    /// Follows the document.
    #[must_use]
    pub fn documents(&self) -> Documents {
        self.0.documents.clone()
    }

    /// What every delivery to the application of this class gets.
    #[must_use]
    pub fn deliver_headers(&self, class: &str) -> HeaderMap {
        let headers = &self.0.documents.borrow().credentials;
        headers.deliver_headers.get(class).cloned().unwrap_or_default()
    }

    /// This agent's class in the newest good document, or why there is none.
    ///
    /// # Errors
    /// In words for a person.
    pub fn class(&self) -> Result<Class, String> {
        class(&self.0.documents.borrow(), self.0.pod.class.as_deref())
    }

    /// Whether a proposal at that door is taken now.
    ///
    /// # Errors
    /// When the agent is ending.
    pub fn accepts(&self, door: Door) -> Result<(), propose::Error> {
        let shutdown = self.0.shutdown.now();
        let application = shutdown.phase == Phase::Running || !self.application_gone();
        let accepts = shutdown.accepts(door, application, Instant::now());
        if accepts { Ok(()) } else { Err(propose::Error::Draining) }
    }

    /// What ends the waits for outcomes that can't come any more.
    #[must_use]
    pub fn given_up(&self) -> &CancellationToken {
        &self.0.given_up
    }

    /// Ends those waits, if the agent is ending and its application has gone before it. The commands are ordered, and
    /// their proposers can have the outcome from another agent.
    pub fn give_up_if_gone(&self) {
        if self.phase() >= Phase::Flushed || (self.phase() == Phase::Draining && self.application_gone()) {
            self.0.given_up.cancel();
        }
    }

    /// Nobody listens any more, or it says that it is not well.
    fn application_gone(&self) -> bool {
        self.engine().is_none_or(|engine| {
            let unwell = matches!(engine.replica.progress().borrow().application, Application::Unwell(_));
            unwell || engine.replica.application_known().is_err()
        })
    }

    /// Why it is not ready; empty when it is.
    #[must_use]
    pub fn unready(&self) -> Vec<Trouble> {
        let troubles = self.with_facts(|facts, _| readiness::unready(facts));
        let ready = troubles.is_empty();
        if self.0.was_ready.swap(ready, Ordering::Relaxed) != ready {
            tracing::info!(ready, why = ?troubles.iter().map(|t| &t.message).collect::<Vec<_>>(), "readiness changed");
        }
        troubles
    }

    /// All that a person should know; empty when all is well.
    #[must_use]
    pub fn troubles(&self) -> Vec<Trouble> {
        let mut troubles = self.with_facts(readiness::troubles);
        troubles.extend(self.0.refusals.troubles());
        troubles
    }

    /// What the brokers refuse.
    #[must_use]
    pub fn refusals(&self) -> &Refusals {
        &self.0.refusals
    }

    /// Where the shutdown is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.0.shutdown.now().phase
    }

    /// Where the replica is; none before there is one.
    #[must_use]
    pub fn progress(&self) -> Option<Progress> {
        self.engine().map(|engine| engine.replica.progress().borrow().clone())
    }

    /// How publishing heartbeats goes.
    #[must_use]
    pub fn heartbeats(&self) -> Heartbeats {
        self.0.heartbeats.borrow().clone()
    }

    /// A heartbeat was taken, or not.
    pub fn heartbeat_ended(&self, sequence: u64, result: Result<(), String>) {
        self.0.heartbeats.send_modify(|state| match result {
            Ok(()) => *state = Heartbeats { sequence: Some(sequence), trouble: None },
            Err(trouble) => state.trouble = Some(trouble),
        });
    }

    fn with_facts<T>(&self, judge: impl FnOnce(Facts<'_>, Option<&str>) -> T) -> T {
        let documents = self.0.documents.borrow().clone();
        let class = class(&documents, self.0.pod.class.as_deref());
        let progress = self.progress();
        let group = self.seat().and_then(Seat::waits);
        let facts = Facts {
            phase: self.phase(),
            document: class.as_ref().map(drop).map_err(String::as_str),
            group: group.as_ref(),
            progress: progress.as_ref(),
        };
        judge(facts, documents.trouble.as_deref())
    }
}

fn class(state: &crate::config::document::State, name: Option<&str>) -> Result<Class, String> {
    let Some(document) = &state.current else {
        return Err(state.trouble.clone().unwrap_or_else(|| "there is no document yet".into()));
    };
    document.class(name).cloned().ok_or_else(|| {
        let classes: Vec<_> = document.classes.iter().map(|class| class.name.as_str()).collect();
        format!(
            "engine {} has no class {:?}, only {}; correct the pod's label decree.dev/class",
            document.engine,
            name.unwrap_or_default(),
            classes.join(", ")
        )
    })
}
