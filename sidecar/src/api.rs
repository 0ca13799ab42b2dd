//! The application's local API (port 7070, and a Unix socket): commands, decisions, barrier, status.

use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;

use crate::agent::Agent;
use crate::problem::Problem;
use crate::{intake::Intake, status};

mod barrier;
mod commands;
mod decisions;
mod door;
mod drain;
mod event;
mod prefer;

use door::Door;

pub use drain::{Error as DrainError, ask as ask_to_drain};

/// How many connections an application may have, over TCP and over the socket each.
pub const CONNECTIONS: usize = 256;

/// The routes on localhost; and those on the Unix socket: the same, and the drain that the container's `preStop` asks
/// for. That is not on TCP, where a browser or a careless proxy in the pod could reach it.
pub fn routers(agent: Agent, intake: Intake) -> (Router, Router) {
    let door = Door::new(agent, intake);
    let socket = routes().route(drain::PATH, post(drain::drain)).with_state(door.clone());
    (routes().with_state(door), socket)
}

fn routes() -> Router<Door> {
    Router::new()
        .route("/v1/commands", post(commands::propose))
        .route("/v1/commands/{*id}", get(commands::whereabouts))
        .route("/v1/decisions", get(decisions::follow))
        .route("/v1/barrier", post(barrier::pass))
        .route(
            "/v1/status",
            get(|door: axum::extract::State<Door>| async move { Json(status::status(&door.agent)) }),
        )
        .method_not_allowed_fallback(|| async {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "not with this method",
                "see the header allow",
            )
        })
        .fallback(|| async {
            Problem::not_found(
                "there are /v1/commands, /v1/commands/{id}, /v1/decisions, /v1/barrier and /v1/status",
            )
        })
}
