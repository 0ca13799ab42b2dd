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
use decree_wire::identity::Peer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::identity::Identities;
use super::refusal::{Reason, Refusal, Refusals};
use connection::Room;
use handshake::Shaken;

mod connection;
mod handshake;

/// So many may be in the handshake at once.
const HANDSHAKES: usize = 32;
/// So many connections may a peer have. It needs one, and one more while it goes over to another.
const EACH: usize = 4;
/// And so many may be there at all.
const CONNECTIONS: usize = 256;
/// Bodies that are being read or worked on, in all.
const MEMORY: usize = 64 << 20;
/// After an accept that failed (no descriptor left, say).
const PAUSE: Duration = Duration::from_millis(50);
/// What is still being answered when the door closes gets so long.
const CLOSING: Duration = Duration::from_millis(500);

/// Serves verified peers until `stop`: each request has its [`Peer`] as an extension.
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
    waiting: VecDeque<AbortHandle>,
    connections: JoinSet<()>,
    open: HashMap<Id, (Peer, AbortHandle)>,
    /// The oldest first.
    order: VecDeque<Id>,
}

impl Door {
    fn new(router: Router, identities: Identities, refusals: Refusals, stop: CancellationToken) -> Self {
        let room = Room {
            router,
            memory: Arc::new(Semaphore::new(MEMORY)),
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
        self.waiting.retain(|handshake| !handshake.is_finished());
        if self.waiting.len() >= HANDSHAKES
            && let Some(oldest) = self.waiting.pop_front()
        {
            // One of good will is done within milliseconds: the oldest is most likely none.
            oldest.abort();
        }
        let identity = self.identities.borrow().clone();
        let Some(identity) = identity else {
            tracing::debug!(%remote, "closed a peer's connection: this agent has no certificate yet");
            return;
        };
        self.waiting.push_back(self.handshakes.spawn(handshake::shake(stream, remote, identity)));
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
        let of_peer = |(peer, _): &(Peer, AbortHandle)| *peer == arrived.peer;
        if self.open.values().filter(|open| of_peer(open)).count() >= EACH {
            // A peer that dials again has given up the others, or its end of them is gone.
            let oldest = self.order.iter().find(|id| self.open.get(id).is_some_and(of_peer));
            if let Some((_, task)) = oldest.and_then(|id| self.open.get(id)) {
                task.abort();
            }
        } else if self.open.len() >= CONNECTIONS {
            let message = format!("there are {CONNECTIONS} connections already");
            let claimed = Some(arrived.peer.to_string());
            self.refusals.note(arrived.remote, &Refusal { reason: Reason::Crowded, claimed, message });
            return;
        }
        let peer = arrived.peer.clone();
        let task = self.connections.spawn(connection::keep(arrived, self.room.clone()));
        self.order.push_back(task.id());
        self.open.insert(task.id(), (peer, task));
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
