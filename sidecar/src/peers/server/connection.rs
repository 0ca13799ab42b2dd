//! One caller's connection: its requests, within memory and time, as long as its certificate is good.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::UnixTime;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::handshake::Arrived;
use crate::peers::BODY_BYTES;
use crate::peers::caller::{Caller, Remote};
use crate::peers::identity::Identities;
use crate::peers::refusal::Refusals;
use crate::peers::tasks::{Owner, Tasks};
use crate::peers::told;
use crate::peers::trust::End;

/// Requests of one connection under way.
const STREAMS: u32 = 256;
/// What a peer may have sent unread, in one request and in all of a connection.
const WINDOW: (u32, u32) = (1 << 20, 4 << 20);
const FRAME: u32 = 256 << 10;
/// Names and values of a request's headers.
const HEAD_BYTES: u32 = 8 << 10;
/// What the operator sends is small.
const OPERATOR_BYTES: usize = 1 << 20;
/// A request is read and answered within this.
const LIMIT: Duration = Duration::from_secs(30);
/// How often it is checked that the certificate is still good.
const CHECK: Duration = Duration::from_secs(60);
/// A silent peer is asked whether it lives, and must answer.
const ASK: Duration = Duration::from_secs(5);

/// What all connections share.
#[derive(Clone, Debug)]
pub(super) struct Room {
    pub(super) router: Router,
    /// Of the peers, and of the operator: neither keeps the other out.
    pub(super) memory: (Arc<Semaphore>, Arc<Semaphore>),
    pub(super) identities: Identities,
    pub(super) refusals: Refusals,
    pub(super) stop: CancellationToken,
}

/// Until the caller goes, its certificate is no good any more, or the door closes.
pub(super) async fn keep(arrived: Arrived, mut room: Room) {
    let Arrived { stream, remote, caller, chain } = arrived;
    let tasks = Tasks::default();
    let _owner = Owner(tasks.clone());
    let (peers, operator) = room.memory.clone();
    let (router, known) = (room.router.clone(), caller.clone());
    let (memory, most) = match &caller {
        Caller::Peer(_) => (peers, BODY_BYTES),
        Caller::Operator(_) => (operator, OPERATOR_BYTES),
    };
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Remote(remote));
        answer(router.clone(), (memory.clone(), most), known.clone(), request)
    });
    let connection = http2::Builder::new(tasks)
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(WINDOW.0)
        .initial_connection_window_size(WINDOW.1)
        .max_frame_size(FRAME)
        .max_header_list_size(HEAD_BYTES)
        .keep_alive_interval(ASK)
        .keep_alive_timeout(ASK)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let mut check = interval(CHECK);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut closing = false;
    loop {
        tokio::select! {
            biased;
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%caller, error = told(&error), "a caller's connection ended");
                }
                return;
            }
            () = room.stop.cancelled(), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            Ok(()) = room.identities.changed() => {}
            _ = check.tick() => {}
        }
        let identity = room.identities.borrow_and_update().clone();
        if let (Some(identity), Some((own, between))) = (identity, chain.split_first())
            && let Err((refusal, _)) = identity.trust().check(End::Client, own, between, UnixTime::now())
            && !closing
        {
            room.refusals.note(remote, &refusal);
            return;
        }
    }
}

async fn answer(
    router: Router,
    (memory, most): (Arc<Semaphore>, usize),
    caller: Caller,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let answered = timeout(LIMIT, async {
        let (mut head, body) = request.into_parts();
        let length = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
        let length = length.or((head.method == Method::GET).then_some(0));
        let Some(length) = length.filter(|length| *length <= most) else {
            return refused(StatusCode::PAYLOAD_TOO_LARGE, format!("a body has a length, of {most} at most"));
        };
        // A place for the whole of it before any of it is read: what waits here stays within the window.
        let Ok(_room) = memory.acquire_many(u32::try_from(length).unwrap_or(u32::MAX)).await else {
            return refused(StatusCode::SERVICE_UNAVAILABLE, "this agent is ending".into());
        };
        let body = match Limited::new(body, length).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return refused(StatusCode::BAD_REQUEST, told(&*error)),
        };
        if let Caller::Peer(peer) = &caller {
            head.extensions.insert(peer.clone());
        }
        head.extensions.insert(caller);
        // A router never fails.
        router
            .oneshot(Request::from_parts(head, Body::from(body)))
            .await
            .unwrap_or_else(|never| match never {})
    });
    let late = |_| refused(StatusCode::GATEWAY_TIMEOUT, format!("no answer within {LIMIT:?}"));
    Ok(answered.await.unwrap_or_else(late))
}

fn refused(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
}
