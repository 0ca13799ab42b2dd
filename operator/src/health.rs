//! `/livez`, `/readyz` and `/metrics`: what the kubelet and Prometheus ask.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio_util::sync::CancellationToken;

use crate::crowd::{self, Crowd};
use crate::metrics::Metrics;

/// The kubelet's probe and a few that scrape; of a crowd, those that are silent make room for them.
const CONNECTIONS: usize = 64;

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
    let listener = TcpListener::bind(address).map_err(|source| Error::Listen { address, source })?;
    answer(listener, routes(readiness, metrics), stop).await
}

async fn answer(listener: TcpListener, routes: Router, stop: CancellationToken) -> Result<(), Error> {
    let server = axum_server::from_tcp(listener).map_err(Error::Serve)?.acceptor(Crowd::of(CONNECTIONS));
    tokio::select! {
        ended = crowd::bound(server).serve(routes.into_make_service()) => ended.map_err(Error::Serve),
        () = stop.cancelled() => Ok(()),
    }
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
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn garbage_is_refused_and_a_crowd_leaves_room_for_the_kubelet() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let served =
            tokio::spawn(answer(listener, routes(Readiness::default(), Metrics::new()), stop.clone()));
        let mut crowd = Vec::new();
        for _ in 0..3 * CONNECTIONS {
            crowd.push(tokio::net::TcpStream::connect(address).await.unwrap());
        }
        let ask = async |request: &[u8]| {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let (mut read, mut write) = stream.split();
            write.write_all(request).await.unwrap();
            let mut answer = Vec::new();
            let _ =
                tokio::time::timeout(Duration::from_secs(30), read.read_to_end(&mut answer)).await.unwrap();
            String::from_utf8_lossy(&answer).into_owned()
        };
        let livez = b"GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        assert!(ask(livez).await.ends_with("ok\n"), "with {} connections open", crowd.len());
        assert!(ask(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03").await.starts_with("HTTP/1.1 400"));
        let large = format!("GET /livez HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(40 << 10));
        assert!(ask(large.as_bytes()).await.starts_with("HTTP/1.1 431"));
        assert!(ask(livez).await.ends_with("ok\n"));
        stop.cancel();
        served.await.unwrap().unwrap();
    }

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
