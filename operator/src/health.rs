//! `/livez`, `/readyz` and `/metrics`: what the kubelet and Prometheus ask.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// What has to be up before the operator is ready. Clones share the gates.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    gates: Arc<Mutex<Vec<Gate>>>,
}

/// One of the things that have to be up; closed at first.
#[derive(Clone, Debug)]
pub struct Gate {
    name: &'static str,
    open: Arc<AtomicBool>,
}

impl Readiness {
    /// A new gate; the operator isn't ready until it is opened.
    #[must_use]
    pub fn gate(&self, name: &'static str) -> Gate {
        let gate = Gate { name, open: Arc::default() };
        self.gates.lock().unwrap_or_else(PoisonError::into_inner).push(gate.clone());
        gate
    }

    /// The names of those that are closed.
    #[must_use]
    pub fn closed(&self) -> Vec<&'static str> {
        let gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.iter().filter(|gate| !gate.open.load(Ordering::Relaxed)).map(|gate| gate.name).collect()
    }
}

impl Gate {
    /// What it stands for is up.
    pub fn open(&self) {
        self.open.store(true, Ordering::Relaxed);
    }

    /// It is up no more.
    pub fn close(&self) {
        self.open.store(false, Ordering::Relaxed);
    }
}

/// Why nobody could be answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The port is taken, say.
    #[error("listen on {address} for probes and metrics")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The listener broke.
    #[error("answer probes and metrics")]
    Serve(#[source] std::io::Error),
}

/// Answers until `stop`.
///
/// # Errors
/// If the address can't be listened on.
pub async fn serve(
    address: SocketAddr,
    readiness: Readiness,
    metrics: Metrics,
    stop: CancellationToken,
) -> Result<(), Error> {
    let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
    axum::serve(listener, routes(readiness, metrics))
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
        .map_err(Error::Serve)
}

fn routes(readiness: Readiness, metrics: Metrics) -> Router {
    let readyz = get(|State(readiness): State<Readiness>| async move { ready(&readiness) });
    let text = get(|State(metrics): State<Metrics>| async move { exported(&metrics) });
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", readyz.with_state(readiness))
        .route("/metrics", text.with_state(metrics))
}

fn ready(readiness: &Readiness) -> Response {
    match readiness.closed().as_slice() {
        [] => "ok\n".into_response(),
        closed => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {}\n", closed.join(", "))).into_response()
        }
    }
}

fn exported(metrics: &Metrics) -> Response {
    const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_every_gate_is_open() {
        let readiness = Readiness::default();
        let (engines, webhook) = (readiness.gate("engines"), readiness.gate("webhook"));
        engines.open();
        assert_eq!(readiness.closed(), ["webhook"]);
        assert_eq!(ready(&readiness).status(), StatusCode::SERVICE_UNAVAILABLE);
        webhook.open();
        assert_eq!(ready(&readiness).status(), StatusCode::OK);
    }
}
