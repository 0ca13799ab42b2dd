//! Who calls at the peers' port: another agent of the engine, or the operator; and which of them a path is for.

use std::fmt;
use std::net::SocketAddr;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use decree_wire::identity::{Operator, Peer};
use http::StatusCode;

use super::refusal::{Reason, Refusal, Refusals};

/// One whose certificate is good, and for here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// An agent of the engine.
    Peer(Peer),
    /// The operator of the cluster.
    Operator(Operator),
}

impl Caller {
    /// The agent; none if it is the operator.
    #[must_use]
    pub fn peer(&self) -> Option<&Peer> {
        match self {
            Self::Peer(peer) => Some(peer),
            Self::Operator(_) => None,
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(peer) => peer.fmt(f),
            Self::Operator(operator) => operator.fmt(f),
        }
    }
}

/// From where a caller calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remote(pub(super) SocketAddr);

/// Routes for agents, and routes for the operator: who takes the other's is refused, and counted.
pub fn routes(peers: Router, operator: Router, refusals: &Refusals) -> Router {
    let for_peers = from_fn_with_state((refusals.clone(), false), admit);
    let for_operator = from_fn_with_state((refusals.clone(), true), admit);
    peers.route_layer(for_peers).merge(operator.route_layer(for_operator))
}

async fn admit(
    State((refusals, operator)): State<(Refusals, bool)>,
    Extension(caller): Extension<Caller>,
    Extension(Remote(remote)): Extension<Remote>,
    request: Request,
    next: Next,
) -> Response {
    if matches!(caller, Caller::Operator(_)) == operator {
        return next.run(request).await;
    }
    let whose = if operator { "the operator" } else { "agents" };
    let message = format!("{} is for {whose} alone", request.uri().path());
    let claimed = Some(caller.to_string());
    refusals.note(remote, &Refusal { reason: Reason::Forbidden, claimed, message: message.clone() });
    (StatusCode::FORBIDDEN, message).into_response()
}
