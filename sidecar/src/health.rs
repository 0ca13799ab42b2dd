//! The pod's health (port 7071): `/livez`, `/readyz`, `/metrics`, `/status`, and whether the
//! application may live on. Needs nothing but the process.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{StatusCode, header};
use serde::Serialize;

use decree_wire::heartbeat::Trouble;

use crate::agent::Agent;
use crate::member::Seat;
use crate::problem::Problem;
use crate::status::{self, Status};

/// How many may ask at once.
pub const CONNECTIONS: usize = 64;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The routes.
pub fn router(agent: Agent) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route(decree_wire::probe::PATH, get(application))
        .route("/metrics", get(metrics))
        .route("/status", get(show))
        .fallback(|| async { Problem::not_found("there are /livez, /readyz, /metrics and /status") })
        .with_state(agent)
}

/// What the kubelet asks of the application's container.
async fn application(State(agent): State<Agent>) -> Response {
    match agent.application_alive() {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why + "\n").into_response(),
    }
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    reasons: Vec<Trouble>,
}

async fn readyz(State(agent): State<Agent>) -> Response {
    let reasons = agent.unready();
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, reasons })).into_response()
}

async fn metrics(State(agent): State<Agent>) -> impl IntoResponse {
    let engine = agent.document().map(|document| document.engine.to_string()).unwrap_or_default();
    let class = agent.class().map(|class| class.name).unwrap_or_default();
    let group = agent.seat().and_then(Seat::log).map(|log| log.view());
    let text = agent.metrics().encode(&engine, &class, agent.progress().as_ref(), group.as_ref());
    ([(header::CONTENT_TYPE, OPENMETRICS)], text)
}

async fn show(State(agent): State<Agent>) -> Json<Status> {
    Json(status::status(&agent))
}
