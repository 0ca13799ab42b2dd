//! The heartbeats that came to this member: the leader of a group is told by all of them, and the operator asks it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::routing::post;
use axum::{Extension, Router};
use bytes::Bytes;
use decree_wire::heartbeat::{Heartbeat, Told};
use decree_wire::identity::Peer;
use http::StatusCode;
use tokio::time::Instant;

/// Where members tell theirs.
pub const PATH: &str = "/v1/heartbeat";
/// More pods than this has no engine.
const MOST: usize = 4096;

/// The newest one of each pod. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Heard(Arc<Mutex<BTreeMap<String, (Heartbeat, Instant)>>>);

impl Heard {
    /// One came.
    pub fn take(&self, heartbeat: Heartbeat) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = heard.iter().min_by_key(|(_, (_, at))| *at).map(|(pod, _)| pod.clone());
        if let Some(oldest) = oldest.filter(|_| heard.len() >= MOST && !heard.contains_key(&heartbeat.pod)) {
            heard.remove(&oldest);
        }
        heard.insert(heartbeat.pod.clone(), (heartbeat, Instant::now()));
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Told> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = |(heartbeat, at): &(Heartbeat, Instant)| Told {
            heartbeat: heartbeat.clone(),
            age_ms: u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        heard.values().map(told).collect()
    }
}

/// The door for them.
pub fn router(heard: Heard) -> Router {
    Router::new().route(PATH, post(take)).with_state(heard)
}

async fn take(
    State(heard): State<Heard>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Result<(), (StatusCode, String)> {
    let refused = |why: String| (StatusCode::BAD_REQUEST, why);
    let heartbeat = Heartbeat::read(&body).map_err(|error| refused(format!("read a heartbeat: {error}")))?;
    if heartbeat.pod != peer.pod {
        return Err(refused(format!("pod {} does not speak for pod {}", peer.pod, heartbeat.pod)));
    }
    heard.take(heartbeat);
    Ok(())
}
