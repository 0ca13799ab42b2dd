//! The drain that the container's `preStop` asks for, over the Unix socket: both ends of it.

use std::path::Path;
use std::time::Duration;

use axum::extract::State;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::door::Door;
use crate::problem::Problem;
use crate::shutdown::{DRAIN_LIMIT, Phase};

pub(super) const PATH: &str = "/v1/drain";
/// The machine's own limit, and a little.
const LIMIT: Duration = DRAIN_LIMIT.saturating_add(Duration::from_secs(2));

/// Begins the drain and waits until all is flushed.
pub(super) async fn drain(State(door): State<Door>) -> Result<StatusCode, Problem> {
    let shutdown = door.agent.shutdown();
    shutdown.begin();
    match timeout(LIMIT, shutdown.reached(Phase::Flushed)).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(_) => Err(Problem::unavailable("the drain takes longer than its limit")),
    }
}

/// Why the sidecar could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens: it has ended already.
    #[error("connect to the sidecar's socket: {0}")]
    Connect(#[source] std::io::Error),
    /// It broke off.
    #[error("ask the sidecar to drain: {0}")]
    Ask(#[from] hyper::Error),
    /// It says no.
    #[error("the sidecar answered {0}")]
    Refused(StatusCode),
    /// Not in time.
    #[error("the sidecar did not drain in time")]
    Late,
}

/// Asks the sidecar behind `socket` to drain, and waits for it.
///
/// # Errors
/// If it can't be asked or takes too long; the pod's end goes on either way.
pub async fn ask(socket: &Path) -> Result<(), Error> {
    timeout(LIMIT + Duration::from_secs(1), exchange(socket)).await.unwrap_or(Err(Error::Late))
}

async fn exchange(socket: &Path) -> Result<(), Error> {
    let stream = tokio::net::UnixStream::connect(socket).await.map_err(Error::Connect)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = http::Uri::from_static(PATH);
    request.headers_mut().insert(http::header::HOST, http::HeaderValue::from_static("decree"));
    let answer = async {
        let response = sender.send_request(request).await?;
        if response.status().is_success() { Ok(()) } else { Err(Error::Refused(response.status())) }
    };
    tokio::select! {
        answer = answer => answer,
        ended = connection => ended.map_err(Error::from).and(Err(Error::Late)),
    }
}
