//! What the operator is answered where its wish is not done: a status that says what may come of it, and words.

use axum::response::{IntoResponse, Response};
use decree_wire::group::MemberId;
use http::StatusCode;

use crate::log;
use crate::log::raft::membership;

/// Not done, or nobody knows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused(pub(super) StatusCode, pub(super) String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

impl Refused {
    /// It makes no sense, or not any more; nothing was done.
    pub(super) fn conflict(why: impl Into<String>) -> Self {
        Self(StatusCode::CONFLICT, why.into())
    }

    /// Not now; nothing was done.
    pub(super) fn unavailable(why: impl Into<String>) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, why.into())
    }

    /// Somebody else is to be asked.
    pub(super) fn not_leader(leader: Option<u64>) -> Self {
        let who =
            leader.map_or_else(|| "nobody that is known".into(), |id| format!("member {}", MemberId(id)));
        Self(StatusCode::MISDIRECTED_REQUEST, format!("this member does not lead the group; {who} does"))
    }
}

impl From<membership::Error> for Refused {
    fn from(error: membership::Error) -> Self {
        match error {
            membership::Error::NotLeader(leader) => Self::not_leader(leader),
            membership::Error::Refused(why) => Self::conflict(why),
            membership::Error::Unknown(_) => Self(StatusCode::GATEWAY_TIMEOUT, error.to_string()),
        }
    }
}

impl From<log::Error> for Refused {
    fn from(error: log::Error) -> Self {
        let status = match &error {
            log::Error::Unreachable(_) | log::Error::Full => StatusCode::SERVICE_UNAVAILABLE,
            log::Error::Unknown(_) => StatusCode::GATEWAY_TIMEOUT,
            log::Error::Replaced(_)
            | log::Error::Trimmed { .. }
            | log::Error::LostEnd { .. }
            | log::Error::Missing(_) => StatusCode::CONFLICT,
            log::Error::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            log::Error::Invalid(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error.to_string())
    }
}
