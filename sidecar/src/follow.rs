//! Opens the engine that the document names, and keeps what may change live: application settings, topic id, brokers.

use std::sync::Arc;
use std::time::Duration;

use decree_wire::document::group::Group;
use decree_wire::document::{Class, Document, Mode, Order};
use decree_wire::position::Incarnation;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, Engine};
use crate::app::App;
use crate::app::http::{HttpApp, Settings, Target};
use crate::barrier::Barriers;
use crate::config::Places;
use crate::config::document::Documents;
use crate::heartbeat::Publish;
use crate::life::Life;
use crate::life::system::System;
use crate::log::Log;
use crate::member::Seat;
use crate::metrics::timed::Timed;
use crate::propose::Proposer;
use crate::replica::{self, Replica};

mod brokers;
mod certificates;
mod decided;
mod fixed;
mod forming;
mod group;
mod ordered;
mod standing;

use ordered::Ordered;

/// Why an engine can't be followed; the process ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What orders can't be opened, or can't go on.
    #[error(transparent)]
    Order(#[from] ordered::Error),
    /// The replica's store failed: nothing can be promised any more.
    #[error("follow the engine's log: {0}")]
    Replica(#[from] replica::Error),
}

/// Where heartbeats go, once that is known.
pub type Publisher = watch::Sender<Option<Arc<dyn Publish>>>;

/// Waits for the document, and follows its engine until `stop`; then ends behind the delivery in flight.
///
/// # Errors
/// If the state folder can't be used, or fails.
pub async fn run(
    agent: Agent,
    places: Places,
    publisher: Publisher,
    stop: CancellationToken,
) -> Result<(), Error> {
    let found = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(()),
        found = found(&agent) => found,
    };
    let Some((document, class)) = found else { return Ok(()) };
    tracing::info!(engine = %document.engine, class = class.name, order = ?document.order().map(|order| order.name()), "following the engine");

    let opened = match document.order() {
        Some(Order::Kafka(_)) | None => brokers::open(&agent, publisher, stop.clone()).await,
        Some(Order::Group(_)) => group::open(&agent, &places, publisher, stop.clone()).await?,
    };
    let Some(Ordered { log, keep: order }) = opened else { return Ok(()) };
    let app = Arc::new(HttpApp::new(app_settings(&agent, &class)));
    let ports = Ports { log, app: app.clone(), life: Arc::new(System::new(class.port)) };
    // A disk knows of which group it is before the document says so.
    let own = agent.seat().and_then(Seat::genesis).map(|genesis| genesis.incarnation.clone());
    let (expected, expecting) = watch::channel(incarnation(&document).or(own));
    let (replica, barriers) = open(&agent, &places, (&document, &class), ports, expecting)?;

    // They end together: with the replica stopped, nothing passes a barrier any more. A replica that failed ends all
    // at once, and the process with it: an agent that stands still must not look well.
    let replica = async { Box::pin(replica.run(stop.clone())).await.map_err(Error::from) };
    let live = keep(agent.documents(), &agent, (&app, app_settings(&agent, &class)), &expected, stop.clone());
    let beside = async {
        let ((), (), order) = tokio::join!(barriers.run(stop.clone()), live, order);
        order.map_err(Error::from)
    };
    tokio::try_join!(replica, beside)?;
    Ok(())
}

/// What an engine is made of.
#[derive(Clone, Debug)]
pub struct Ports {
    /// What orders.
    pub log: Arc<dyn Log>,
    /// The application.
    pub app: Arc<dyn App>,
    /// Which life of it.
    pub life: Arc<dyn Life>,
}

/// Opens the replica and gives the agent its engine. What is returned is still to be run.
///
/// # Errors
/// If the state folder can't be used.
pub fn open(
    agent: &Agent,
    places: &Places,
    (document, class): (&Document, &Class),
    Ports { log, app, life }: Ports,
    expected: watch::Receiver<Option<Incarnation>>,
) -> Result<(Replica, Barriers), Error> {
    let timed = Arc::new(Timed::new(app, agent.metrics().clone()));
    let settings = replica_config(agent, document, class, places, expected);
    let (replica, handle) = Replica::open(settings, log.clone(), timed, life)?;
    let (barriers, barrier) = Barriers::new(agent.pod().name.clone(), log.clone(), handle.clone());
    let (name, version) = (document.engine.clone(), agent.pod().version);
    agent.set_engine(Engine {
        proposer: Proposer::new(
            name.clone(),
            version,
            log.clone(),
            handle.clone(),
            agent.metrics().clone(),
            agent.given_up().clone(),
        ),
        name,
        port: class.port,
        log,
        replica: handle,
        barriers: barrier,
    });
    Ok((replica, barriers))
}

/// The first document that has this pod's class in it; none when nobody writes documents any more.
async fn found(agent: &Agent) -> Option<(Arc<Document>, Class)> {
    let mut documents = agent.documents();
    loop {
        documents.borrow_and_update();
        match (agent.document(), agent.class()) {
            (Some(document), Ok(class)) => return Some((document, class)),
            (Some(_), Err(why)) => tracing::warn!("{why}"),
            (None, _) => {}
        }
        documents.changed().await.ok()?;
    }
}

/// The log's life that the document names; none until it is known.
fn incarnation(document: &Document) -> Option<Incarnation> {
    match document.order()? {
        Order::Kafka(kafka) => kafka.topic_id.clone().map(Incarnation),
        Order::Group(Group { genesis, fixed, .. }) => {
            let decided = genesis.as_ref().map(|genesis| &genesis.incarnation);
            decided.or(fixed.as_ref().map(|fixed| &fixed.incarnation)).cloned()
        }
    }
}

/// Hands on what changes live. The application's port and how commands reach it do not: a document comes to each pod at
/// its own time, and two pods that deliver one position differently have diverged. The next pod has them.
async fn keep(
    mut documents: Documents,
    agent: &Agent,
    (app, opened): (&HttpApp, Settings),
    expected: &watch::Sender<Option<Incarnation>>,
    stop: CancellationToken,
) {
    loop {
        let document = documents.borrow_and_update().current.clone();
        let named = document.and_then(|document| incarnation(&document));
        expected.send_if_modified(|known| {
            let news = named.is_some() && *known != named;
            if news {
                known.clone_from(&named);
            }
            news
        });
        if let Ok(class) = agent.class() {
            let Settings { port, target, .. } = opened.clone();
            app.configure(Settings { port, target, ..app_settings(agent, &class) });
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = documents.changed() => if changed.is_err() { return stop.cancelled().await },
        }
    }
}

fn replica_config(
    agent: &Agent,
    document: &Document,
    class: &Class,
    places: &Places,
    expected: watch::Receiver<Option<Incarnation>>,
) -> replica::Config {
    replica::Config {
        engine: document.engine.clone(),
        cluster: document.cluster.clone(),
        class: class.name.clone(),
        replicates: matches!(class.mode, Mode::Replicate { .. }),
        restart: agent.pod().restart,
        state: places.state.clone(),
        expected,
    }
}

fn app_settings(agent: &Agent, class: &Class) -> Settings {
    let target = match &class.mode {
        Mode::Apply { path } => Target::Apply { path: path.clone() },
        Mode::Replicate { .. } => Target::Replicate,
    };
    Settings {
        port: class.port,
        target,
        health_path: class.health_path.clone(),
        overdue_after: Duration::from_millis(class.overdue_after_ms),
        deliver_headers: agent.deliver_headers(&class.name),
    }
}
