//! Bodies in memory: requests' read whole, answers' held for slow readers, each within a limit, all together within another.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use crate::problem::Problem;
use crate::propose::MAX_PAYLOAD;

/// All bodies of requests that are held at once.
const TOTAL_BYTES: usize = 12 << 20;
/// All bodies of answers that are held at once. The largest outcome that is kept, 8 MiB, fits in.
const ANSWER_BYTES: usize = 12 << 20;
/// Smaller answers are not counted: the number of connections bounds them.
const SMALL: u64 = 16 << 10;
/// A body that is not there by then was given up by its sender.
const LIMIT: Duration = Duration::from_secs(30);
/// Of a body that is too large so much is read and thrown away, for so long: most clients look for an answer only once
/// they have sent all, and a connection that is closed under them takes the answer back.
const DISCARDED_BYTES: usize = 16 << 20;
const DISCARD_LIMIT: Duration = Duration::from_secs(2);

/// Room for bodies, shared by all doors.
#[derive(Clone, Debug)]
pub struct Intake {
    requests: Arc<Semaphore>,
    answers: Arc<Semaphore>,
}

/// A body, and the room that it takes; to be held until it is answered.
#[derive(Debug)]
pub struct Taken {
    /// The body.
    pub bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl Default for Intake {
    fn default() -> Self {
        let room = |bytes| Arc::new(Semaphore::new(bytes));
        Self { requests: room(TOTAL_BYTES), answers: room(ANSWER_BYTES) }
    }
}

impl Intake {
    /// Reads a command's body.
    ///
    /// # Errors
    /// 413, 429, 408, or 400 if the client broke off.
    pub async fn read(&self, headers: &HeaderMap, mut body: Body) -> Result<Taken, Problem> {
        let announced = body.size_hint().exact().unwrap_or_default();
        if announced > MAX_PAYLOAD as u64 {
            // Who asks first sends nothing after this answer.
            if !headers.contains_key(header::EXPECT) {
                discard(body).await;
            }
            return Err(too_large());
        }
        let deadline = Instant::now() + LIMIT;
        // All at once: a buffer that grows by doubling takes up to twice the room that is counted.
        let mut bytes = BytesMut::with_capacity(usize::try_from(announced).unwrap_or_default());
        let mut room: Option<OwnedSemaphorePermit> = None;
        while let Some(frame) = timeout_at(deadline, body.frame()).await.map_err(|_| late())? {
            let frame =
                frame.map_err(|error| Problem::bad_request(format!("the body broke off: {error}")))?;
            let Ok(data) = frame.into_data() else { continue }; // trailers belong to the connection
            if bytes.len() + data.len() > MAX_PAYLOAD {
                drop((bytes, room));
                discard(body).await;
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

    /// Holds an answer until its client has taken it.
    ///
    /// # Errors
    /// 429 while too many answers are waiting for slow clients.
    pub fn hold(&self, response: Response) -> Result<Response, Problem> {
        let Some(bytes) = response.body().size_hint().exact().filter(|bytes| *bytes > SMALL) else {
            return Ok(response);
        };
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.answers).try_acquire_many_owned(permits) else {
            return Err(Problem::over_quota(
                "as many bytes of answers as may be are waiting for clients that read slowly; ask again in a moment \
                 (under the same id: what was ordered stands)",
            ));
        };
        let (mut parts, body) = response.into_parts();
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
        let body = body.map_frame(move |frame| {
            let _held = &room;
            frame
        });
        Ok(Response::from_parts(parts, Body::new(body)))
    }

    fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let bytes = u32::try_from(bytes).map_err(|_| too_large())?;
        Arc::clone(&self.requests).try_acquire_many_owned(bytes).map_err(|_| {
            Problem::over_quota("as many bytes of commands as may be are outstanding; try again in a moment")
        })
    }
}

/// Reads what still comes of a body, within bounds.
async fn discard(mut body: Body) {
    let mut left = DISCARDED_BYTES;
    let rest = async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    // Late or not, it is answered now.
    let _ = timeout(DISCARD_LIMIT, rest).await;
}

fn too_large() -> Problem {
    Problem::too_large(format!(
        "a command's body may have {MAX_PAYLOAD} bytes; send less, or a reference to the data"
    ))
}

/// The client sends too slowly: 408.
#[must_use]
pub fn late() -> Problem {
    Problem::new(
        StatusCode::REQUEST_TIMEOUT,
        "body-late",
        "the body did not come in time",
        format!("send the whole body within {} seconds", LIMIT.as_secs()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(bytes: usize) -> Response {
        Response::new(Body::from(vec![b'x'; bytes]))
    }

    #[tokio::test]
    async fn large_answers_take_room_until_they_are_read() {
        let intake = Intake::default();
        let first = intake.hold(answer(8 << 20)).unwrap();
        assert_eq!(first.headers()[header::CONTENT_LENGTH], (8 << 20).to_string());
        assert!(intake.hold(answer(8 << 20)).is_err(), "two are more than may wait");
        assert!(intake.hold(answer(4 << 20)).is_ok());
        for _ in 0..1000 {
            intake.hold(answer(16 << 10)).unwrap();
        }
        assert_eq!(first.into_body().collect().await.unwrap().to_bytes().len(), 8 << 20);
        assert!(intake.hold(answer(8 << 20)).is_ok());
    }

    #[tokio::test]
    async fn bodies_together_have_a_limit_and_make_room_again() {
        let intake = Intake::default();
        let body = || Body::from(vec![b'x'; MAX_PAYLOAD]);
        let mut taken = Vec::new();
        while taken.len() * MAX_PAYLOAD <= TOTAL_BYTES - MAX_PAYLOAD {
            taken.push(intake.read(&HeaderMap::new(), body()).await.unwrap());
        }
        assert!(intake.read(&HeaderMap::new(), body()).await.is_err());
        taken.pop();
        assert!(intake.read(&HeaderMap::new(), body()).await.is_ok());
        let large = Body::from(vec![b'x'; MAX_PAYLOAD + 1]);
        assert!(intake.read(&HeaderMap::new(), large).await.is_err());
    }
}
