//! The peers' door: who may come in, how many at once, and what they may hold in memory meanwhile.
//!
//! ```text
//!   accept ─▶ handshake (few at a time, short; the oldest makes room) ─▶ who it is ─▶ connection (few a peer)
//!                └─ refused: counted, told                                   └─ requests: memory and time bounded
//! ```

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::caller::Caller;
use super::identity::Identities;
use super::refusal::{Reason, Refusal, Refusals};
use connection::Room;
use handshake::Shaken;

mod connection;
mod handshake;

/// So many may be in the handshake at once.
const HANDSHAKES: usize = 32;
/// So many connections may a caller have. It needs one, and one more while it goes over to another.
const EACH: usize = 4;
/// And so many may all peers have. The operator has its own beside them.
const CONNECTIONS: usize = 256;
/// Bodies that are being read or worked on: those of all peers, and those of the operator.
const MEMORY: (usize, usize) = (64 << 20, 2 << 20);
/// After an accept that failed (no descriptor left, say).
const PAUSE: Duration = Duration::from_millis(50);
/// What is still being answered when the door closes gets so long.
const CLOSING: Duration = Duration::from_millis(500);

/// Serves verified callers until `stop`: each request has its [`Caller`] as an extension, and its
/// [`Peer`](decree_wire::identity::Peer) if it is one.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    identities: Identities,
    refusals: Refusals,
    stop: CancellationToken,
) {
    let mut door = Door::new(router, identities, refusals, stop.clone());
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = door.connections.join_next_with_id() => door.ended(ended),
            Some(shaken) = door.handshakes.join_next_with_id() => door.shaken(shaken),
            accepted = listener.accept() => match accepted {
                Ok((stream, remote)) => door.knock(stream, remote),
                Err(error) => {
                    tracing::debug!(%error, "can't accept a peer");
                    sleep(PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    door.handshakes.abort_all();
    let connections = &mut door.connections;
    let _ = timeout(CLOSING, async { while connections.join_next().await.is_some() {} }).await;
}

struct Door {
    identities: Identities,
    refusals: Refusals,
    room: Room,
    handshakes: JoinSet<Shaken>,
    /// The oldest first.
    waiting: VecDeque<(SocketAddr, AbortHandle)>,
    connections: JoinSet<()>,
    open: HashMap<Id, (Caller, AbortHandle)>,
    /// The oldest first.
    order: VecDeque<Id>,
}

impl Door {
    fn new(router: Router, identities: Identities, refusals: Refusals, stop: CancellationToken) -> Self {
        let room = Room {
            router,
            memory: (Arc::new(Semaphore::new(MEMORY.0)), Arc::new(Semaphore::new(MEMORY.1))),
            identities: identities.clone(),
            refusals: refusals.clone(),
            stop,
        };
        Self {
            identities,
            refusals,
            room,
            handshakes: JoinSet::new(),
            waiting: VecDeque::new(),
            connections: JoinSet::new(),
            open: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    fn knock(&mut self, stream: TcpStream, remote: SocketAddr) {
        self.waiting.retain(|(_, handshake)| !handshake.is_finished());
        if self.waiting.len() >= HANDSHAKES
            && let Some((oldest, handshake)) = self.waiting.pop_front()
        {
            // One of good will is done within milliseconds: the oldest is most likely none.
            handshake.abort();
            let message = format!("{HANDSHAKES} others were in the handshake before it ended its own");
            self.refusals.note(oldest, &Refusal { reason: Reason::Crowded, claimed: None, message });
        }
        let identity = self.identities.borrow().clone();
        let Some(identity) = identity else {
            tracing::debug!(%remote, "closed a peer's connection: this agent has no certificate yet");
            return;
        };
        let handshake = self.handshakes.spawn(handshake::shake(stream, remote, identity));
        self.waiting.push_back((remote, handshake));
    }

    fn shaken(&mut self, ended: Result<(Id, Shaken), JoinError>) {
        match ended {
            Ok((_, Ok(arrived))) => self.admit(arrived),
            Ok((_, Err((remote, refusal)))) => self.refusals.note(remote, &refusal),
            Err(error) if error.is_panic() => tracing::error!(%error, "a handshake broke its task"),
            Err(_) => {}
        }
    }

    fn admit(&mut self, arrived: handshake::Arrived) {
        let of_caller = |(caller, _): &(Caller, AbortHandle)| *caller == arrived.caller;
        let is_peer = |(caller, _): &&(Caller, AbortHandle)| caller.peer().is_some();
        if self.open.values().filter(|open| of_caller(open)).count() >= EACH {
            // One that dials again has given up the others, or its end of them is gone.
            let oldest = self.order.iter().find(|id| self.open.get(id).is_some_and(of_caller));
            if let Some((_, task)) = oldest.and_then(|id| self.open.get(id)) {
                task.abort();
            }
        } else if arrived.caller.peer().is_some() && self.open.values().filter(is_peer).count() >= CONNECTIONS
        {
            let message = format!("there are {CONNECTIONS} connections already");
            let claimed = Some(arrived.caller.to_string());
            self.refusals.note(arrived.remote, &Refusal { reason: Reason::Crowded, claimed, message });
            return;
        }
        let caller = arrived.caller.clone();
        let task = self.connections.spawn(connection::keep(arrived, self.room.clone()));
        self.order.push_back(task.id());
        self.open.insert(task.id(), (caller, task));
    }

    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                if error.is_panic() {
                    tracing::error!(%error, "a peer's request broke its connection's task");
                }
                error.id()
            }
        };
        self.open.remove(&id);
        self.order.retain(|other| *other != id);
    }
}
