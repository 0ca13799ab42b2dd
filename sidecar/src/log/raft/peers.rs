//! Members ask each other over the peers' transport: a letter is a call, in a compact form whose version is in the path.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::IntoResponse;
use axum::routing::post;
use axum::{Extension, Router};
use bytes::Bytes;
use decree_wire::identity::Peer;
use http::StatusCode;

use super::ask::{Answer, Ask, Error, Letter};
use super::types::Member;
use crate::peers::client::Peers;
use crate::peers::{self, Target};

/// A change of any type that travels is another version: the form has no names in it.
const VERSION: &str = "/raft/v1";

/// Asks over kept connections.
#[derive(Clone, Debug)]
pub struct OverPeers(Peers);

impl OverPeers {
    /// Over these.
    #[must_use]
    pub fn new(peers: Peers) -> Self {
        Self(peers)
    }
}

#[async_trait]
impl Ask for OverPeers {
    async fn ask(&self, to: &Member, letter: Letter, limit: Duration) -> Result<Answer, Error> {
        let path = format!("{VERSION}/{}", letter.question.kind());
        let body = postcard::to_stdvec(&letter).map_err(|error| Error::NotSent(error.to_string()))?;
        let target = Target { pod: to.agent.clone(), address: to.address.clone() };
        let answer = self.0.call(&target, &path, body.into(), limit).await.map_err(error)?;
        postcard::from_bytes(&answer).map_err(|error| Error::NoAnswer(format!("it can't be read: {error}")))
    }
}

fn error(error: peers::Error) -> Error {
    let text = error.to_string();
    match error {
        peers::Error::NotSent { .. } => Error::NotSent(text),
        peers::Error::NoAnswer { .. } => Error::NoAnswer(text),
        // What fails at the other end may have failed half-way.
        peers::Error::Refused { status, .. } if status >= 500 => Error::NoAnswer(text),
        peers::Error::Refused { .. } => Error::Refused(text),
    }
}

/// Answers letters.
#[async_trait]
pub trait Answers: Send + Sync {
    /// Answers one, of the agent of this pod; [`Error::Refused`] where nothing was done, and won't be.
    async fn answer(&self, pod: &str, letter: Letter) -> Result<Answer, Error>;
}

/// The door for letters.
pub fn router(answers: Arc<dyn Answers>) -> Router {
    Router::new()
        .route(&format!("{VERSION}/{{kind}}"), post(take))
        // The transport has its own.
        .layer(DefaultBodyLimit::disable())
        .with_state(answers)
}

async fn take(
    State(answers): State<Arc<dyn Answers>>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Result<Vec<u8>, impl IntoResponse> {
    let refused = |text: String| (StatusCode::BAD_REQUEST, text);
    let letter = postcard::from_bytes(&body).map_err(|error| refused(format!("read a letter: {error}")))?;
    match answers.answer(&peer.pod, letter).await {
        Ok(answer) => postcard::to_stdvec(&answer)
            .map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, format!("write an answer: {error}"))),
        Err(Error::Refused(why)) => Err((StatusCode::CONFLICT, why)),
        Err(error @ (Error::NotSent(_) | Error::NoAnswer(_))) => {
            Err((StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
        }
    }
}
