//! What members whose group is written down tell each other before there is a group: their ids, and whether they hold a log.

use std::time::Duration;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::fixed::Known;
use crate::member::Seat;
use crate::peers::Target;
use crate::peers::client::Peers;

const PATH: &str = "/v1/standing";
const LIMIT: Duration = Duration::from_secs(1);

#[derive(Debug, Serialize, Deserialize)]
struct Standing {
    id: u64,
    begun: bool,
}

/// Asks a member; none if it does not answer.
pub(super) async fn ask(peers: &Peers, target: &Target) -> Option<Known> {
    let answer = peers.call(target, PATH, Bytes::new(), LIMIT).await.ok()?;
    let Standing { id, begun } = serde_json::from_slice(&answer).ok()?;
    Some(Known { id, begun })
}

/// This member's own.
pub(super) fn own(seat: &Seat) -> Known {
    Known { id: seat.disk().id(), begun: seat.disk().begun() }
}

/// The door for those who ask.
pub(super) fn router(seat: Seat) -> Router {
    let tell = |State(seat): State<Seat>| async move {
        let Known { id, begun } = own(&seat);
        Json(Standing { id, begun })
    };
    Router::new().route(PATH, post(tell)).with_state(seat)
}
