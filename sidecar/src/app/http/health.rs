//! Whether the application says that it is well: a path that answers, or a port that accepts.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::{HOST, HeaderValue};
use http_body_util::Full;
use tokio::time::timeout;

use super::connection::{Connection, Failure};
use super::settings::Settings;
use crate::app::Unwell;

/// A health check that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(2);

/// Asks once, over a connection of its own.
pub(super) async fn check(settings: &Settings) -> Result<(), Unwell> {
    let port = settings.port;
    let mut connection =
        Connection::open(port).await.map_err(|detail| Unwell::Unreachable { port, detail })?;
    let Some(path) = &settings.health_path else { return Ok(()) };
    let unhealthy = |detail| Unwell::Unhealthy { detail };
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.uri_mut() = path.parse().map_err(|_| unhealthy(format!("{path:?} is no path")))?;
    let host = HeaderValue::from_str(&format!("127.0.0.1:{port}"));
    request.headers_mut().insert(HOST, host.map_err(|e| unhealthy(e.to_string()))?);
    let answer = match timeout(LIMIT, connection.send(request)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(Failure::Unsent(detail) | Failure::Sent(detail))) => {
            return Err(unhealthy(format!("GET {path}: {detail}")));
        }
        Err(_) => return Err(unhealthy(format!("GET {path} was not answered within {LIMIT:?}"))),
    };
    let status = answer.status();
    if status.is_success() || status.is_redirection() {
        Ok(())
    } else {
        Err(unhealthy(format!("GET {path} answered {status}")))
    }
}
