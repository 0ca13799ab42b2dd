//! Requests that go straight to the application: streamed there and back, nothing kept.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use decree_wire::attributes::header::READ;
use http::request::Parts;
use http::{Request, Response, StatusCode, Uri, Version, header};
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::hop;
use crate::intake;
use crate::problem::Problem;
use crate::serve::HEAD_BYTES;

/// How many may be under way.
const UNDER_WAY: usize = 512;
/// What is read ahead of an answer: as much as the doors read of a request.
const BUFFER: usize = HEAD_BYTES;
/// An answer with more headers is one that the application's clients could hardly read.
const MAX_HEADERS: usize = 256;
/// A connection to localhost stands at once or not at all.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// An idle connection is not used again after this: servers close idle ones just as a request is sent.
const IDLE_LIMIT: Duration = Duration::from_secs(1);
/// Until the answer's head; its body may stream for as long as both ends want.
const ANSWER_LIMIT: Duration = Duration::from_secs(600);

/// Sends requests to the application beside this sidecar.
#[derive(Clone)]
pub(super) struct Forward {
    client: Client<HttpConnector, Body>,
    under_way: Arc<Semaphore>,
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward").finish_non_exhaustive()
    }
}

impl Default for Forward {
    fn default() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_LIMIT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_LIMIT)
            .pool_max_idle_per_host(16)
            .http1_max_buf_size(BUFFER)
            .http1_max_headers(MAX_HEADERS)
            .build(connector);
        Self { client, under_way: Arc::new(Semaphore::new(UNDER_WAY)) }
    }
}

impl Forward {
    /// Sends a request and returns the answer as it streams in.
    pub(super) async fn send(&self, port: u16, parts: Parts, body: Body) -> Result<Response<Body>, Problem> {
        let slot = Arc::clone(&self.under_way).try_acquire_owned().map_err(|_| {
            Problem::over_quota(format!("{UNDER_WAY} requests are under way at this agent already"))
        })?;
        let request = request(port, parts, body)?;
        let mut response = match timeout(ANSWER_LIMIT, self.client.request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if error.is_connect() => {
                return Err(Problem::unavailable(format!(
                    "port {port} of the application accepts no connection"
                )));
            }
            Ok(Err(error)) if of_the_body(&error) => return Err(intake::late()),
            Ok(Err(error)) => return Err(failed(&error)),
            Err(_) => {
                return Err(Problem::new(
                    StatusCode::GATEWAY_TIMEOUT,
                    "application-late",
                    "the application did not answer in time",
                    format!("no answer within {} s", ANSWER_LIMIT.as_secs()),
                ));
            }
        };
        hop::strip(response.headers_mut());
        // The slot is held for as long as the body streams.
        Ok(response.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let _held = &slot;
                frame
            }))
        }))
    }
}

fn request(port: u16, mut parts: Parts, body: Body) -> Result<Request<Body>, Problem> {
    let target = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    parts.uri = format!("http://127.0.0.1:{port}{target}")
        .parse::<Uri>()
        .map_err(|_| Problem::bad_request("the request's target is no path and query"))?;
    parts.version = Version::HTTP_11;
    hop::strip(&mut parts.headers);
    // The sidecar has answered it already; the application would wait for a body that is on its way.
    parts.headers.remove(header::EXPECT);
    parts.headers.remove(READ);
    parts.extensions.clear();
    Ok(Request::from_parts(parts, body))
}

/// Whether the client's body ended too early or too late: that is not the application's failure.
fn of_the_body(error: &hyper_util::client::legacy::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<hyper::Error>());
    source.is_some_and(hyper::Error::is_user)
}

fn failed(error: &hyper_util::client::legacy::Error) -> Problem {
    let detail = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    Problem::new(
        StatusCode::BAD_GATEWAY,
        "application-broke-off",
        "the application broke off",
        format!("the connection to the application was lost before it answered: {detail}"),
    )
}
