//! The one kept connection to a peer: dialled when it is wanted, again after a pause, and anew with another identity.
//!
//! ```text
//!   Idle ─ wanted ─▶ Dialling ─▶ Up ─ lost ─▶ Idle        Up ─ other identity, or old ─▶ Dialling
//!                        └─ failed ─▶ Down ─ pause ─▶ Idle
//! ```

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::heard::Heard;
use super::identity::{Identities, Identity};
use super::refusal::{Reason, Refusal, Refusals};
use super::tasks::{Owner, Tasks};
use super::{Target, told};

/// So many calls to one peer may be under way.
const CALLS: usize = 256;
/// A dial takes at most so long: a lost packet of a handshake is sent again only after a second.
const DIAL_LIMIT: Duration = Duration::from_secs(1);
/// The pause after the first dial that failed, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// While something is under way and nothing is heard for so long, the peer is asked whether it lives.
const ASK_AFTER: Duration = Duration::from_millis(500);
/// And without an answer for so long the connection is lost.
const ASK_LIMIT: Duration = Duration::from_secs(1);
/// A connection is exchanged after so long: certificates are checked when it begins.
const LIFE: Duration = Duration::from_secs(3600);
/// What the peer may send unread, in one answer and in all.
const WINDOW: (u32, u32) = (1 << 20, 4 << 20);
const FRAME: u32 = 256 << 10;
/// The name in the handshake, which no one looks at: pods have none.
const NAME: &str = "peer.decree.invalid";

pub(super) type Sender = SendRequest<Full<Bytes>>;

#[derive(Clone, Debug)]
enum State {
    Idle,
    Dialling,
    Up(Sender),
    Down(String),
}

/// A kept connection. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Link {
    /// A place for each call.
    pub(super) calls: Semaphore,
    state: watch::Receiver<State>,
    wanted: Arc<Notify>,
    used: Mutex<Instant>,
    _task: AbortOnDropHandle<()>,
}

impl Link {
    pub(super) fn new(target: Target, identities: Identities, refusals: Refusals) -> Self {
        let (sender, state) = watch::channel(State::Idle);
        let wanted = Arc::new(Notify::new());
        let keeper = Keeper {
            target,
            identities,
            refusals,
            state: sender,
            wanted: wanted.clone(),
            drivers: JoinSet::new(),
            old: None,
        };
        let task = AbortOnDropHandle::new(tokio::spawn(keeper.run()));
        Self { calls: Semaphore::new(CALLS), state, wanted, used: Mutex::new(Instant::now()), _task: task }
    }

    /// Since when nobody has called.
    pub(super) fn used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection, once it is there; else why there is none.
    pub(super) async fn sender(&self) -> Result<Sender, String> {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let mut state = self.state.clone();
        loop {
            match &*state.borrow_and_update() {
                State::Up(sender) if !sender.is_closed() => return Ok(sender.clone()),
                State::Down(why) => return Err(why.clone()),
                State::Idle => self.wanted.notify_one(),
                State::Up(_) | State::Dialling => {}
            }
            state.changed().await.map_err(|_| "it is not called any more".to_owned())?;
        }
    }
}

/// The task behind a link.
struct Keeper {
    target: Target,
    identities: Identities,
    refusals: Refusals,
    state: watch::Sender<State>,
    wanted: Arc<Notify>,
    drivers: JoinSet<()>,
    /// The connection of before, which ends when nothing is under way on it.
    old: Option<AbortHandle>,
}

impl Keeper {
    async fn run(mut self) {
        let mut pause = PAUSE.0;
        let mut anew = false;
        loop {
            if !anew {
                self.state.send_replace(State::Idle);
                self.wanted.notified().await;
            }
            self.state.send_replace(State::Dialling);
            let identity = self.identities.borrow_and_update().clone();
            let dialled = match identity {
                Some(identity) => timeout(DIAL_LIMIT, self.dial(&identity))
                    .await
                    .unwrap_or_else(|_| Err(format!("no connection within {DIAL_LIMIT:?}"))),
                None => Err("this agent has no certificate yet".into()),
            };
            anew = match dialled {
                Ok((sender, driver)) => {
                    pause = PAUSE.0;
                    self.keep(sender, driver).await
                }
                Err(why) => {
                    tracing::debug!(target = %self.target, why, "can't reach a peer");
                    self.state.send_replace(State::Down(why));
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE.1);
                    false
                }
            };
        }
    }

    /// Until it is lost (no), or to be exchanged (yes).
    async fn keep(&mut self, sender: Sender, driver: impl Future<Output = ()> + Send + 'static) -> bool {
        let current = self.drivers.spawn(driver);
        self.state.send_replace(State::Up(sender));
        let life = sleep(LIFE);
        tokio::pin!(life);
        let mut exchanged = true;
        loop {
            tokio::select! {
                Some(ended) = self.drivers.join_next_with_id() => {
                    let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
                    if id == current.id() {
                        return false;
                    }
                }
                changed = self.identities.changed(), if exchanged => {
                    if changed.is_ok() {
                        break;
                    }
                    // Nobody exchanges identities any more, and what there is goes on.
                    exchanged = false;
                }
                () = &mut life => break,
            }
        }
        if let Some(old) = self.old.replace(current) {
            old.abort();
        }
        true
    }

    /// What drives the connection is returned beside it.
    async fn dial(
        &self,
        identity: &Identity,
    ) -> Result<(Sender, impl Future<Output = ()> + Send + 'static), String> {
        let stream = TcpStream::connect(&self.target.address).await.map_err(|error| error.to_string())?;
        let remote = stream.peer_addr().map_err(|error| error.to_string())?;
        // Calls are small and wait for each other's answers.
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let (config, verifier) = identity.client().map_err(|error| told(&error))?;
        let name = ServerName::try_from(NAME).map_err(|error| error.to_string())?;
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        if let Some(Err(refusal)) = verifier.found() {
            return Err(self.refused(remote, &refusal));
        }
        let stream = connected.map_err(|error| told(&error))?;
        if let Some(Ok(found)) = verifier.found()
            && found.peer().is_none_or(|peer| peer.pod != self.target.pod)
        {
            let message = format!("another pod answers at {}", self.target.address);
            let refusal = Refusal { reason: Reason::Pod, claimed: Some(found.to_string()), message };
            return Err(self.refused(remote, &refusal));
        }
        let (stream, heard) = Heard::new(stream);
        let tasks = Tasks::default();
        let owner = Owner(tasks.clone());
        let (sender, connection) = http2::Builder::new(tasks)
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW.0)
            .initial_connection_window_size(WINDOW.1)
            .max_frame_size(FRAME)
            .keep_alive_interval(ASK_AFTER)
            .keep_alive_timeout(ASK_LIMIT)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| told(&error))?;
        let mut connection = Box::pin(connection);
        tokio::select! {
            biased;
            // The peer answers: it has seen this agent's certificate and taken it.
            Ok(()) = heard => {}
            ended = &mut connection => {
                return Err(ended.map_or_else(|error| told(&error), |()| "it closed the connection".into()));
            }
        }
        let target = self.target.clone();
        let driver = async move {
            let _owner = owner;
            if let Err(error) = connection.await {
                tracing::debug!(%target, error = told(&error), "lost the connection to a peer");
            }
        };
        Ok((sender, driver))
    }

    fn refused(&self, remote: SocketAddr, refusal: &Refusal) -> String {
        self.refusals.note(remote, refusal);
        refusal.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::pin::pin;

    use futures::FutureExt;
    use hyper_util::rt::TokioExecutor;

    use super::*;
    use crate::metrics::Metrics;

    #[tokio::test(start_paused = true)]
    async fn a_connection_rests_when_nobody_exchanges_identities_any_more() {
        let (stream, _peer) = tokio::io::duplex(64 << 10);
        let (sender, driver) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("nothing is awaited");
        let (exchange, identities) = watch::channel(None);
        let mut keeper = Keeper {
            target: Target { pod: "a-1".into(), address: "a-1:7073".into() },
            identities,
            refusals: Refusals::new(Metrics::default()),
            state: watch::Sender::new(State::Idle),
            wanted: Arc::default(),
            drivers: JoinSet::new(),
            old: None,
        };
        drop(exchange);
        let mut polls = 0;
        let mut keeping = pin!(keeper.keep(sender, pending()));
        let counted = std::future::poll_fn(|context| {
            polls += 1;
            assert!(polls < 10, "it is never at rest");
            keeping.poll_unpin(context)
        });
        assert!(counted.await, "it is exchanged when it is old");
        drop(driver);
    }
}
