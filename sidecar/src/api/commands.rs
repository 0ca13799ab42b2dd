//! `POST /v1/commands` and `GET /v1/commands/{id}`.

use axum::Json;
use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use decree_wire::position::Position;
use decree_wire::proposal;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::door::Door;
use super::{event, prefer};
use crate::agent::Engine;
use crate::answer::respond;
use crate::problem::Problem;
use crate::propose::{self, Whereabouts};
use crate::replica::Resolution;
use crate::shutdown;

/// Proposes the body, and waits for what the client prefers.
pub(super) async fn propose(State(door): State<Door>, request: Request) -> Result<Response, Problem> {
    door.agent.accepts(shutdown::Door::Local)?;
    let engine = door.agent.engine_now()?;
    let (parts, body) = request.into_parts();
    let wait = prefer::wait(&parts.headers);
    let taken = door.intake.read(&parts.headers, body).await?;
    let command = proposal::from_http(&parts.headers, taken.bytes.clone())?;
    let answer = engine.proposer.propose(command, wait).await?;
    door.intake.hold(respond(answer))
}

#[derive(Deserialize)]
pub(super) struct Which {
    source: Option<String>,
}

/// Where a command is.
#[derive(Serialize)]
pub(super) struct Where {
    id: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<Position>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Map<String, Value>>,
}

/// Where the command of that id is, as far as this agent knows.
pub(super) async fn whereabouts(
    State(door): State<Door>,
    Path(id): Path<String>,
    Query(which): Query<Which>,
) -> Result<Response, Problem> {
    let engine = door.agent.engine_now()?;
    let found = engine.proposer.whereabouts(id.clone(), which.source)?;
    let found = match found {
        Whereabouts::Unknown => Where { id, state: "unknown", position: None, outcome: None },
        Whereabouts::Ordered(position) => {
            let passed = engine.replica.progress().borrow().next > position;
            // What is void has no identity in the dedup window; what became of its position is known.
            let void = passed && matches!(resolved(&engine, position).await?, Resolution::Void(_));
            Where {
                id,
                state: if void { "void" } else { "ordered" },
                position: Some(position),
                outcome: None,
            }
        }
        Whereabouts::Applied(known) => Where {
            id,
            state: "applied",
            position: Some(known.position),
            outcome: known.outcome.as_ref().map(event::outcome),
        },
    };
    door.intake.hold(Json(found).into_response())
}

/// What became of a position that was passed: at once.
async fn resolved(engine: &Engine, position: Position) -> Result<Resolution, Problem> {
    Ok(engine.replica.resolved(position).await.map_err(propose::Error::from)?)
}
