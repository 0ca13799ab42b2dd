//! `GET /v1/decisions`: every entry from a position on, then live, as server-sent events or NDJSON.
//!
//! Each stream has a reader of its own and is pulled by its client: a slow client slows its own reader, nothing else.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::Response;
use bytes::Bytes;
use decree_wire::position::{Incarnation, Position};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::door::Door;
use super::event::line;
use crate::agent::{Agent, Engine};
use crate::log::{Log, Reader, Stored};
use crate::problem::Problem;
use crate::shutdown::Phase;

/// How often an idle stream says that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long the log may take to answer where it begins or ends.
const ASK_LIMIT: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
pub(super) struct From {
    from: Option<String>,
}

/// Where a client wants to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    Earliest,
    Now,
    At(Position),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Events,
    Lines,
}

/// Follows the log.
pub(super) async fn follow(
    State(door): State<Door>,
    Query(query): Query<From>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let engine = door.agent.engine_now()?;
    let begin = begin(query.from.as_deref(), &headers)?;
    let form = form(&headers);
    let slot = door.stream()?;
    let incarnation = engine.replica.progress().borrow().incarnation.clone();
    let Some(incarnation) = incarnation else {
        return Err(Problem::unavailable("this agent does not follow a log yet; try again"));
    };
    let (next, reader) = open(engine.log.as_ref(), begin).await?;
    let agent = door.agent.clone();
    let stream = Stream {
        agent,
        engine,
        incarnation,
        reader,
        next,
        form,
        ready: VecDeque::new(),
        ended: false,
        _slot: slot,
    };
    let body = Body::from_stream(futures::stream::unfold(stream, |mut stream| async {
        stream.next().await.map(|chunk| (chunk, stream))
    }));
    let mut response = Response::new(body);
    let content_type = match form {
        Form::Events => "text/event-stream",
        Form::Lines => "application/x-ndjson",
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// An `EventSource` that lost its connection says where it was.
fn begin(from: Option<&str>, headers: &HeaderMap) -> Result<Begin, Problem> {
    let last = headers.get("last-event-id").and_then(|v| v.to_str().ok()?.parse().ok());
    if let Some(last) = last {
        return Ok(Begin::At(Position(last).next()));
    }
    match from {
        None | Some("now") => Ok(Begin::Now),
        Some("earliest") => Ok(Begin::Earliest),
        Some(position) => position
            .parse()
            .map(|position| Begin::At(Position(position)))
            .map_err(|_| Problem::bad_request("from is a position, \"earliest\" or \"now\"")),
    }
}

fn form(headers: &HeaderMap) -> Form {
    let accepts = |media: &str| {
        headers.get_all(header::ACCEPT).iter().any(|value| value.to_str().is_ok_and(|v| v.contains(media)))
    };
    if accepts("application/x-ndjson") { Form::Lines } else { Form::Events }
}

async fn open(log: &dyn Log, begin: Begin) -> Result<(Position, Box<dyn Reader>), Problem> {
    let ask = async {
        let from = match begin {
            Begin::Earliest => log.earliest().await?,
            Begin::Now => log.head().await?,
            Begin::At(position) => {
                let (earliest, end) = (log.earliest().await?, log.head().await?);
                if position < earliest {
                    return Err(crate::log::Error::Trimmed { asked: position, earliest });
                }
                if position > end {
                    return Err(crate::log::Error::LostEnd { asked: position, end });
                }
                position
            }
        };
        Ok((from, log.read(from).await?))
    };
    match timeout(ASK_LIMIT, ask).await {
        Ok(reader) => Ok(reader?),
        Err(_) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "this agent can't do that now",
            "the log did not answer in time; try again",
        )),
    }
}

struct Stream {
    agent: Agent,
    engine: Arc<Engine>,
    incarnation: Incarnation,
    reader: Box<dyn Reader>,
    /// Where the reader goes on: an error may have ended it for good.
    next: Position,
    form: Form,
    ready: VecDeque<Stored>,
    ended: bool,
    _slot: OwnedSemaphorePermit,
}

impl Stream {
    /// The next chunk; none at shutdown, or behind an error that was told.
    async fn next(&mut self) -> Option<Result<Bytes, std::convert::Infallible>> {
        loop {
            if self.ended {
                return None;
            }
            if let Some(stored) = self.ready.pop_front() {
                return Some(Ok(self.chunk(&stored)));
            }
            let shutdown = self.agent.shutdown().clone();
            let read = tokio::select! {
                biased;
                () = shutdown.reached(Phase::Stopped) => return None,
                read = self.reader.next(KEEP_ALIVE) => read,
            };
            match read {
                Ok(batch) => {
                    self.next = batch.next;
                    let quiet = batch.entries.is_empty();
                    self.ready.extend(batch.entries);
                    if quiet && self.form == Form::Events {
                        return Some(Ok(Bytes::from_static(b": alive\n\n")));
                    }
                }
                // The log is away: the stream stands still, and goes on where it was with another reader.
                Err(error) if error.retryable() => {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    if let Ok(Ok(reader)) = timeout(ASK_LIMIT, self.engine.log.read(self.next)).await {
                        self.reader = reader;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "ended a stream of decisions");
                    self.ended = true;
                    if self.form == Form::Events {
                        let detail = error.to_string().replace(['\n', '\r'], " ");
                        return Some(Ok(Bytes::from(format!("event: error\ndata: {detail}\n\n"))));
                    }
                }
            }
        }
    }

    fn chunk(&self, stored: &Stored) -> Bytes {
        let line = line(&stored.entry, &self.engine.name, &self.incarnation);
        match self.form {
            Form::Lines => Bytes::from(format!("{line}\n")),
            Form::Events => Bytes::from(format!("id: {}\ndata: {line}\n\n", stored.entry.position)),
        }
    }
}
