//! `POST /v1/barrier`: 204 once this agent has applied all that was ordered before the request.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use decree_wire::attributes::header as names;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::door::Door;
use super::prefer;
use crate::problem::Problem;
use crate::propose::Wait;

/// Passes a barrier.
pub(super) async fn pass(State(door): State<Door>, headers: HeaderMap) -> Result<Response, Problem> {
    let engine = door.agent.engine_now()?;
    let (Wait::Applied(limit) | Wait::Ordered(limit)) = prefer::wait(&headers);
    let position = engine.barriers.pass(limit).await?;
    Ok((StatusCode::NO_CONTENT, [(names::POSITION, HeaderValue::from(position.0))]).into_response())
}
