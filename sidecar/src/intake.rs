//! Reads bodies whole: each within a limit, all together within another, so that no client can fill the memory.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::problem::Problem;
use crate::propose::MAX_PAYLOAD;

/// All bodies that are held at once.
const TOTAL_BYTES: usize = 16 << 20;
/// A body that is not there by then was given up by its sender.
const LIMIT: Duration = Duration::from_secs(30);

/// Room for bodies, shared by all doors.
#[derive(Clone, Debug)]
pub struct Intake(Arc<Semaphore>);

/// A body, and the room that it takes; to be held until it is answered.
#[derive(Debug)]
pub struct Taken {
    /// The body.
    pub bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl Default for Intake {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(TOTAL_BYTES)))
    }
}

impl Intake {
    /// Reads a command's body.
    ///
    /// # Errors
    /// 413, 429, 408, or 400 if the client broke off.
    pub async fn read(&self, headers: &HeaderMap, mut body: Body) -> Result<Taken, Problem> {
        let announced =
            headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > MAX_PAYLOAD as u64) {
            return Err(too_large());
        }
        let deadline = Instant::now() + LIMIT;
        let mut bytes = BytesMut::new();
        let mut room: Option<OwnedSemaphorePermit> = None;
        while let Some(frame) = timeout_at(deadline, body.frame()).await.map_err(|_| late())? {
            let frame =
                frame.map_err(|error| Problem::bad_request(format!("the body broke off: {error}")))?;
            let Ok(data) = frame.into_data() else { continue }; // trailers belong to the connection
            if bytes.len() + data.len() > MAX_PAYLOAD {
                return Err(too_large());
            }
            let more = self.room(data.len())?;
            match &mut room {
                Some(room) => room.merge(more),
                None => room = Some(more),
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Taken { bytes: bytes.freeze(), _room: room })
    }

    fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let bytes = u32::try_from(bytes).map_err(|_| too_large())?;
        Arc::clone(&self.0).try_acquire_many_owned(bytes).map_err(|_| {
            Problem::over_quota("as many bytes of commands as may be are outstanding; try again in a moment")
        })
    }
}

fn too_large() -> Problem {
    Problem::too_large(format!(
        "a command's body may have {MAX_PAYLOAD} bytes; send less, or a reference to the data"
    ))
}

fn late() -> Problem {
    Problem::new(
        StatusCode::REQUEST_TIMEOUT,
        "body-late",
        "the body did not come in time",
        "send the whole body within 30 seconds",
    )
}
