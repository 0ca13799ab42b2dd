//! Serves a router on a listener: connections and their buffers bounded, ended gracefully and within a limit.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// A request's head is at most this; hyper answers 431 beyond it.
const HEAD_BYTES: usize = 64 << 10;
/// Longer than the idle limits of clients' pools, so that it is the client who closes an idle connection.
const HEAD_LIMIT: Duration = Duration::from_secs(120);
/// What is still being answered when a door closes gets so long.
const CLOSING: Duration = Duration::from_millis(500);

/// Serves until `stop`, at most `connections` at once; more wait in the kernel's backlog.
pub async fn serve<L: Listener>(
    mut listener: L,
    router: Router,
    connections: usize,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(connections));
    let graceful = GracefulShutdown::new();
    let mut open = JoinSet::new();
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(HEAD_BYTES)
        .half_close(false);
    loop {
        while open.try_join_next().is_some() {}
        let accepted = async {
            // The semaphore is never closed.
            let slot = Arc::clone(&slots).acquire_owned().await.ok();
            (slot, listener.accept().await.0)
        };
        let (slot, io) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = accepted => accepted,
        };
        let service = router
            .clone()
            .map_request(|request: http::Request<hyper::body::Incoming>| request.map(Body::new));
        let connection = builder.serve_connection(TokioIo::new(io), TowerToHyperService::new(service));
        let connection = graceful.watch(connection);
        open.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a client's connection ended");
            }
            drop(slot);
        });
    }
    drop(listener);
    if tokio::time::timeout(CLOSING, graceful.shutdown()).await.is_err() {
        tracing::info!("closed connections that were still being answered");
    }
    open.shutdown().await;
}
