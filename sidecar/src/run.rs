//! The process on one page: its tasks, their owner, and the order in which it ends.
//!
//! ```text
//!  doors (api, socket, health, replicate) ─┐
//!  document ─▶ agent ◀─────────────────────┤   flushed: the engine ends, doors stay open for reads
//!  engine (log, replica, barriers) ────────┤   stopped: the doors close, the last heartbeat goes out
//!  heartbeats ─────────────────────────────┘
//! ```

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::serve::{Listener, ListenerExt};
use rustix::net::sockopt;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::config::document::Watch;
use crate::config::{Config, Places};
use crate::intake::Intake;
use crate::member::Seat;
use crate::metrics::Metrics;
use crate::serve::{Limits, serve};
use crate::shutdown::{Phase, Seen};
use crate::{api, descriptors, follow, health, heartbeat, memory, replicate};

/// How often the shutdown is looked at once it has begun.
const STEP: Duration = Duration::from_millis(50);
/// Everything that is still there after this is left behind.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// A client that has been silent for so long is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

const ENGINE: &str = "engine";

/// Why the process ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port is taken, or may not be used.
    #[error("listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The Unix socket can't be made.
    #[error("make the socket {path}: {source}")]
    Socket {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// Signals can't be waited for.
    #[error("wait for signals: {0}")]
    Signals(#[source] std::io::Error),
    /// The engine can't be followed.
    #[error(transparent)]
    Engine(#[from] follow::Error),
    /// A task that should not have ended.
    #[error("task {0} ended early")]
    Ended(&'static str),
    /// A task that panicked.
    #[error("task {task} broke: {detail}")]
    Broke {
        /// Which.
        task: &'static str,
        /// How.
        detail: String,
    },
}

/// Runs the sidecar until it is told to end.
///
/// # Errors
/// If it can't begin, or a task ended early: the kubelet starts the process again, and the journal knows where.
pub async fn run(config: Config) -> Result<(), Error> {
    descriptors::raise();
    let Config { pod, places } = config;
    let (watch, documents) = Watch::new(places.document.clone());
    let agent = Agent::new(pod, documents, Metrics::default());
    let (flushed, stopped) = (CancellationToken::new(), CancellationToken::new());
    let mut tasks = Tasks::default();

    tasks.add("document", watch.run(stopped.clone()));
    open_doors(&mut tasks, &agent, &places, &stopped).await?;
    let probing = agent.clone();
    let probe_stop = stopped.clone();
    tasks.add("probe", async move { probing.probe().run(probe_stop).await });
    tasks.add("memory", memory::run(stopped.clone()));
    let (publisher, published) = watch::channel(None);
    tasks.add("heartbeats", heartbeat::run(agent.clone(), published, stopped.clone()));
    let engine = follow::run(agent.clone(), places.clone(), publisher, flushed.clone());
    tasks.add_fallible(ENGINE, async { engine.await.map_err(Error::from) });

    let ended = watch_over(&mut tasks, &agent, &flushed).await;
    flushed.cancel();
    stopped.cancel();
    if timeout(CLOSE_LIMIT, tasks.all()).await.is_err() {
        tracing::warn!("left tasks behind that did not end in time");
    }
    // Not the socket of a sidecar that has not begun.
    let _ = std::fs::remove_file(places.socket());
    ended
}

async fn open_doors(
    tasks: &mut Tasks,
    agent: &Agent,
    places: &Places,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let intake = Intake::default();
    let (local, socket) = api::routers(agent.clone(), intake.clone());
    let health = health::router(agent.clone());
    let replicate = replicate::router(agent.clone(), intake);
    let (api_at, health_at, replicate_at) =
        (listen(places.api).await?, listen(places.health).await?, listen(places.replicate).await?);
    let socket_at = listen_unix(&places.socket())?;
    tasks.add("api", serve(api_at, local, Limits::of(api::CONNECTIONS), stop.clone()));
    tasks.add("socket", serve(socket_at, socket, Limits::of(api::CONNECTIONS), stop.clone()));
    tasks.add("health", serve(health_at, health, Limits::of(health::CONNECTIONS), stop.clone()));
    tasks.add("replicate", serve(replicate_at, replicate, Limits::of(replicate::CONNECTIONS), stop.clone()));
    Ok(())
}

/// Obeys signals and tasks until the doors may close.
async fn watch_over(tasks: &mut Tasks, agent: &Agent, flushed: &CancellationToken) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let mut ended = false;
    loop {
        let phase = agent.phase();
        tokio::select! {
            biased;
            (task, result) = tasks.next() => match result {
                Ok(()) if task == ENGINE && flushed.is_cancelled() => ended = true,
                Ok(()) => return Err(Error::Ended(task)),
                Err(error) => return Err(error),
            },
            _ = terminate.recv() => agent.shutdown().terminate(),
            _ = interrupt.recv() => agent.shutdown().terminate(),
            () = agent.shutdown().reached(Phase::Draining), if phase == Phase::Running => {}
            () = tokio::time::sleep(STEP), if phase != Phase::Running => {}
        }
        let quiet = agent.engine().is_none_or(|engine| engine.proposer.outstanding() == 0);
        agent.give_up_if_gone();
        let votes = agent.seat().is_some_and(Seat::votes);
        agent.shutdown().step(Seen { quiet, ended, votes });
        let now = agent.phase();
        if now != phase {
            tracing::info!(phase = ?now, "shutdown");
        }
        match now {
            Phase::Running | Phase::Draining => {}
            Phase::Flushed => flushed.cancel(),
            Phase::Stopped => return Ok(()),
        }
    }
}

async fn listen(address: SocketAddr) -> Result<impl Listener<Addr = SocketAddr>, Error> {
    let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
    Ok(listener.tap_io(|connection| {
        // A stream's small events and an answer's tail go out at once.
        let _ = connection.set_nodelay(true);
        // A client whose node is gone says nothing more, and a stream may have nothing to write to it for long.
        let _ = sockopt::set_socket_keepalive(&*connection, true);
        let _ = sockopt::set_tcp_keepidle(&*connection, KEEP_ALIVE);
        let _ = sockopt::set_tcp_keepintvl(&*connection, KEEP_ALIVE / 4);
    }))
}

/// What a killed sidecar left there is taken away. Every container of the pod may connect, whatever its user.
fn listen_unix(path: &Path) -> Result<UnixListener, Error> {
    let failed = |source| Error::Socket { path: path.to_owned(), source };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).map_err(failed)?;
    Ok(listener)
}

/// The tasks by name. Dropping it ends them all.
#[derive(Debug, Default)]
struct Tasks {
    set: JoinSet<Result<(), Error>>,
    names: HashMap<tokio::task::Id, &'static str>,
}

impl Tasks {
    fn add(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.add_fallible(name, async {
            task.await;
            Ok(())
        });
    }

    fn add_fallible(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Result<(), Error>> + Send + 'static,
    ) {
        let id = self.set.spawn(task).id();
        self.names.insert(id, name);
    }

    /// The next one that ends. Waits for ever when there is none.
    async fn next(&mut self) -> (&'static str, Result<(), Error>) {
        let Some(ended) = self.set.join_next_with_id().await else { return std::future::pending().await };
        let id = ended.as_ref().map_or_else(tokio::task::JoinError::id, |(id, _)| *id);
        let task = self.names.remove(&id).unwrap_or("unknown");
        match ended {
            Ok((_, result)) => (task, result),
            Err(error) => (task, Err(Error::Broke { task, detail: error.to_string() })),
        }
    }

    async fn all(&mut self) {
        while !self.set.is_empty() {
            if let (task, Err(error)) = self.next().await {
                tracing::warn!(task, %error, "a task ended badly");
            }
        }
    }
}
