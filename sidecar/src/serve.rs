//! Serves a router on a listener: connections, their buffers and their patience bounded, ended gracefully and in time.
//!
//! ```text
//!   accept ─▶ full? ─ the one idle for longest goes ─▶ connection ─▶ front (what no door takes) ─▶ router
//!                 └─ none idle: 503                        │
//!             every second: those that are late end ◀── Pace (idle, head, busy, stalled)
//! ```

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use axum::serve::Listener;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::observed::Observed;

mod front;
mod pace;
mod paced;
mod refuse;

use pace::Pace;
pub use pace::Patience;
use paced::{Answering, Reading};

/// A request's head, and the trailers behind its body, are at most this; hyper answers 431 beyond it. More than the
/// 8 to 16 KiB that most servers take, and little enough for a door full of clients that dribble.
pub const HEAD_BYTES: usize = 32 << 10;
/// So many headers has a request at most, or hyper answers 431.
pub const HEADERS: usize = 100;
/// How often connections are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// What is still being answered when a door closes gets so long.
const CLOSING: Duration = Duration::from_millis(500);

/// What a door puts up with.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// So many connections at once.
    pub connections: usize,
    /// How long they may take for what.
    pub patience: Patience,
}

impl Limits {
    /// So many connections with the patience that all doors have.
    #[must_use]
    pub const fn of(connections: usize) -> Self {
        Self { connections, patience: Patience::USUAL }
    }
}

/// Serves until `stop`.
pub async fn serve<L: Listener>(mut listener: L, router: Router, limits: Limits, stop: CancellationToken) {
    let mut door = Door::new(router, limits);
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = door.tasks.join_next_with_id(), if !door.tasks.is_empty() => door.ended(ended),
            _ = look.tick(), if !door.open.is_empty() => door.look(Instant::now()),
            (io, _) = listener.accept() => door.admit(io),
        }
    }
    drop(listener);
    door.close().await;
}

/// The connections of one door. Each has a task, and a place in `open` as long as it counts.
struct Door {
    router: Router,
    limits: Limits,
    builder: http1::Builder,
    graceful: GracefulShutdown,
    tasks: JoinSet<()>,
    open: HashMap<Id, (Arc<Pace>, AbortHandle)>,
    refusals: JoinSet<()>,
}

impl Door {
    fn new(router: Router, limits: Limits) -> Self {
        let mut builder = http1::Builder::new();
        builder
            .max_headers(HEADERS)
            .max_header_size(HEAD_BYTES)
            .max_buf_size(HEAD_BYTES)
            // Waits are counted here, where idle clients and slow ones are told apart.
            .header_read_timeout(None)
            .half_close(false);
        let (graceful, open) = (GracefulShutdown::new(), HashMap::new());
        Self { router, limits, builder, graceful, tasks: JoinSet::new(), open, refusals: JoinSet::new() }
    }

    fn admit<I: AsyncRead + AsyncWrite + Unpin + Send + 'static>(&mut self, io: I) {
        while self.refusals.try_join_next().is_some() {}
        if self.open.len() >= self.limits.connections && !self.make_room() {
            refuse::refuse(&mut self.refusals, io);
            return;
        }
        let pace = Arc::new(Pace::new(Instant::now()));
        let (router, own) = (self.router.clone(), Arc::clone(&pace));
        let pause = self.limits.patience.pause;
        let service = service_fn(move |request| answer(router.clone(), Arc::clone(&own), pause, request));
        let io = TokioIo::new(Observed::new(io, Arc::clone(&pace)));
        let connection = self.graceful.watch(self.builder.serve_connection(io, service));
        let task = self.tasks.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a client's connection ended");
            }
        });
        self.open.insert(task.id(), (pace, task));
    }

    /// Ends the connection that has been idle for longest; whether there was one.
    fn make_room(&mut self) -> bool {
        let idle = self.open.iter().filter_map(|(id, (pace, _))| Some((pace.idle_since()?, *id)));
        let Some((_, id)) = idle.min() else { return false };
        self.end(id, "made room for another");
        true
    }

    fn look(&mut self, now: Instant) {
        let patience = self.limits.patience;
        let late = self.open.iter().filter_map(|(id, (pace, _))| Some((*id, pace.late(now, patience)?)));
        for (id, why) in late.collect::<Vec<_>>() {
            self.end(id, why);
        }
    }

    fn end(&mut self, id: Id, why: &'static str) {
        if let Some((_, task)) = self.open.remove(&id) {
            tracing::debug!(why, "ended a client's connection");
            task.abort();
        }
    }

    fn ended(&mut self, ended: Result<(Id, ()), tokio::task::JoinError>) {
        match ended {
            Ok((id, ())) => drop(self.open.remove(&id)),
            Err(error) => {
                self.open.remove(&error.id());
                if error.is_panic() {
                    tracing::error!(%error, "a request broke its connection's task");
                }
            }
        }
    }

    async fn close(mut self) {
        if tokio::time::timeout(CLOSING, self.graceful.shutdown()).await.is_err() {
            tracing::info!("closed connections that were still being answered");
        }
        self.tasks.shutdown().await;
        self.refusals.shutdown().await;
    }
}

async fn answer(
    router: Router,
    pace: Arc<Pace>,
    pause: Duration,
    request: Request<Incoming>,
) -> Result<Response<Answering>, Infallible> {
    let busy = Pace::busy(&pace);
    let response = match front::checked(request) {
        // A router never fails.
        Ok(request) => router.oneshot(request.map(|body| Body::new(Reading::new(body, pause)))).await?,
        Err(problem) => problem.into_response(),
    };
    Ok(response.map(|body| Answering::new(body, busy)))
}
