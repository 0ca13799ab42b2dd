//! The one table from errors to HTTP: problem details (RFC 9457), each with what to do.

use axum::response::{IntoResponse, Response};
use decree_wire::attributes::header as names;
use decree_wire::heartbeat::Trouble;
use decree_wire::position::Position;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::answer::encode_id;
use crate::{barrier, log, propose};

/// What stands before a problem's name in its `type`.
const TYPE: &str = "urn:decree:problem:";

/// A problem as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(Box<Members>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Members {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    #[serde(serialize_with = "number")]
    status: StatusCode,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<Position>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip)]
    retry_after: Option<u32>,
}

fn number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    /// A problem of that name.
    #[must_use]
    pub fn new(status: StatusCode, name: &str, title: &'static str, detail: impl Into<String>) -> Self {
        let (kind, detail) = (format!("{TYPE}{name}"), detail.into());
        Self(Box::new(Members {
            kind,
            title,
            status,
            detail,
            id: None,
            position: None,
            reason: None,
            retry_after: None,
        }))
    }

    /// Not now, perhaps soon: 503.
    #[must_use]
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "this agent can't do that now", detail)
            .retry_after(1)
    }

    /// Not now, for a trouble that this agent has: 503.
    #[must_use]
    pub fn troubled(trouble: &Trouble) -> Self {
        Self::unavailable(trouble.message.clone()).because(&trouble.reason).retry_after(5)
    }

    /// Too much at once: 429.
    #[must_use]
    pub fn over_quota(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "over-quota", "too much at once", detail).retry_after(1)
    }

    /// A body beyond the limit: 413.
    #[must_use]
    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the command is too large", detail)
    }

    /// Nothing is here: 404.
    #[must_use]
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "nothing is here", detail)
    }

    /// The request can't be understood: 400.
    #[must_use]
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "the request can't be understood", detail)
    }

    fn retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    fn about(mut self, id: Option<String>, position: Option<Position>) -> Self {
        self.0.id = id;
        self.0.position = position;
        self
    }

    fn because(mut self, reason: &str) -> Self {
        self.0.reason = Some(reason.to_owned());
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let members = *self.0;
        // A struct of strings and numbers always has a JSON form.
        let body = serde_json::to_vec(&members).unwrap_or_default();
        let mut response = (members.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = members.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(position) = members.position {
            headers.insert(names::POSITION, HeaderValue::from(position.0));
        }
        if let Some(id) = members.id.as_deref().and_then(encode_id) {
            headers.insert(names::ID, id);
        }
        response
    }
}

impl From<decree_wire::proposal::Error> for Problem {
    fn from(error: decree_wire::proposal::Error) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<propose::Error> for Problem {
    fn from(error: propose::Error) -> Self {
        use propose::Error as E;
        let detail = error.to_string();
        match error {
            E::Busy { .. } => Self::over_quota(detail),
            E::TooLarge(_) => Self::too_large(detail),
            E::Draining => Self::unavailable(detail),
            E::NotFollowing(trouble) => Self::troubled(&trouble),
            E::Reused { id, of } => {
                Self::new(StatusCode::CONFLICT, "id-reused", "another command has this id", detail)
                    .about(Some(id), Some(of))
            }
            E::Gone { id, of } => {
                Self::new(StatusCode::GONE, "outcome-gone", "the outcome is no longer kept", detail)
                    .about(Some(id), Some(of))
            }
            E::Void { id, position, .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "void", "the command is void here", detail)
                    .about(Some(id), Some(position))
            }
            E::NotOrdered { id, .. } => {
                Self::new(StatusCode::GATEWAY_TIMEOUT, "not-ordered-in-time", "not ordered in time", detail)
                    .about(Some(id), None)
            }
            E::NotApplied { id, position, .. } => {
                Self::new(StatusCode::GATEWAY_TIMEOUT, "not-applied-in-time", "not applied in time", detail)
                    .about(Some(id), Some(position))
            }
            E::Log { source, .. } => Self::unavailable(detail).because(source.reason()),
            E::Replica(_) => Self::unavailable(detail),
        }
    }
}

impl From<barrier::Error> for Problem {
    fn from(error: barrier::Error) -> Self {
        use barrier::Error as E;
        let detail = error.to_string();
        match error {
            E::Busy => Self::over_quota(detail),
            E::Late => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "not-applied-in-time",
                "the barrier was not passed in time",
                detail,
            ),
            E::Halted(trouble) => Self::troubled(&trouble),
            E::Ended => Self::unavailable(detail),
            E::Log(source) => Self::unavailable(detail).because(source.reason()),
        }
    }
}

/// Reading the log for a client.
impl From<log::Error> for Problem {
    fn from(error: log::Error) -> Self {
        let detail = error.to_string();
        let problem = match &error {
            log::Error::Trimmed { .. } => Self::new(
                StatusCode::GONE,
                "trimmed",
                "the log begins later",
                format!("{detail}; use from=earliest"),
            ),
            log::Error::LostEnd { .. } => Self::new(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "behind-the-end",
                "the log is not that long",
                format!("{detail}; use from=now"),
            ),
            log::Error::TooLarge(_) => Self::too_large(detail),
            log::Error::Full => Self::over_quota(detail),
            log::Error::Unreachable(_)
            | log::Error::Unknown(_)
            | log::Error::Replaced(_)
            | log::Error::Missing(_)
            | log::Error::Invalid(_) => Self::unavailable(detail),
        };
        problem.because(error.reason())
    }
}
