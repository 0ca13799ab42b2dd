//! Read barriers: one place in the log for all who ask at the same time, and a wait until this replica has passed it.
//!
//! ```text
//!   callers ──▶ queue ──▶ [gather all that wait] ─▶ place ─▶ wait until passed ─▶ answer all ─▶ (next)
//! ```
//!
//! The place is the log's end, where the log can say that for certain; else it is that of an entry of our own. Who
//! arrives while one is in flight shares the next: the one in flight may lie before what the newcomer has to see.

use std::sync::Arc;
use std::time::Duration;

use decree_wire::control::{Barrier, Control};
use decree_wire::heartbeat::{State, Trouble};
use decree_wire::position::Position;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::log::{self, Log, NewEntry};
use crate::replica::{self, Resolution};

/// How many may wait for the next barrier.
const QUEUE: usize = 1024;
/// How long one barrier may take from its append on.
const LIMIT: Duration = Duration::from_secs(30);

/// Why a barrier was not passed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The queue is full.
    #[error("too many wait for a barrier at this agent; try again in a moment")]
    Busy,
    /// Not in time.
    #[error("this agent has not applied in time what was ordered before; try again, or read locally")]
    Late,
    /// This agent can't apply.
    #[error("this agent has stopped applying: {}", .0.message)]
    Halted(Trouble),
    /// This agent is ending.
    #[error("this agent is ending; ask another one")]
    Ended,
    /// Finding its place.
    #[error("ordering a barrier: {0}; try again, or read locally")]
    Log(#[from] log::Error),
}

type Waiter = oneshot::Sender<Result<Position, Error>>;

/// Asks for barriers.
#[derive(Clone, Debug)]
pub struct Handle(mpsc::Sender<Waiter>);

impl Handle {
    /// Waits until this agent has applied all that was ordered before the call.
    ///
    /// # Errors
    /// As [`Error`] lists; a read may then be stale.
    pub async fn pass(&self, limit: Duration) -> Result<Position, Error> {
        let (waiter, answer) = oneshot::channel();
        self.0.try_send(waiter).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Busy,
            mpsc::error::TrySendError::Closed(_) => Error::Ended,
        })?;
        match timeout(limit, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::Ended),
            Err(_) => Err(Error::Late),
        }
    }
}

/// Orders the barriers, one at a time.
#[derive(Debug)]
pub struct Barriers {
    agent: String,
    log: Arc<dyn Log>,
    replica: replica::Handle,
    queue: mpsc::Receiver<Waiter>,
}

impl Barriers {
    /// `agent`: the pod's name, for people who read the log.
    #[must_use]
    pub fn new(agent: String, log: Arc<dyn Log>, replica: replica::Handle) -> (Self, Handle) {
        let (sender, queue) = mpsc::channel(QUEUE);
        (Self { agent, log, replica, queue }, Handle(sender))
    }

    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut waiters = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                count = self.queue.recv_many(&mut waiters, QUEUE) => if count == 0 { return },
            }
            waiters.retain(|waiter| !waiter.is_closed());
            if waiters.is_empty() {
                continue;
            }
            let result = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                result = timeout(LIMIT, self.one()) => result.unwrap_or(Err(Error::Late)),
            };
            for waiter in waiters.drain(..) {
                // One that gave up has dropped its end.
                let _ = waiter.send(result.clone());
            }
        }
    }

    async fn one(&self) -> Result<Position, Error> {
        let dealt = {
            let progress = self.replica.progress();
            let progress = progress.borrow();
            // It would never be passed, and the log may be somebody else's by now.
            if let (State::Halted, Some(trouble)) = (progress.state, &progress.trouble) {
                return Err(Error::Halted(trouble.clone()));
            }
            progress.next
        };
        let replaced = |what: String| Error::Log(log::Error::Replaced(what));
        let position = match self.log.barrier().await? {
            Some(head) if head < dealt => {
                return Err(replaced(format!("it ends at {head}, after {dealt} was dealt with")));
            }
            Some(Position(head)) => match head.checked_sub(1) {
                Some(last) => Position(last),
                None => return Ok(Position(0)),
            },
            None => {
                let entry = NewEntry::Control(Control::Barrier(Barrier { agent: self.agent.clone() }));
                let position = self.log.append(&entry).await?;
                if position < dealt {
                    let why = format!("it gave position {position} after {dealt} was dealt with");
                    return Err(replaced(why));
                }
                position
            }
        };
        match self.replica.resolved(position).await {
            Ok(Resolution::Halted(trouble)) => Err(Error::Halted(trouble)),
            Ok(Resolution::TooManyWaiters) => Err(Error::Busy),
            Ok(
                Resolution::Passed
                | Resolution::Forgotten
                | Resolution::Applied { .. }
                | Resolution::Duplicate { .. }
                | Resolution::Reused { .. }
                | Resolution::Void(_),
            ) => Ok(position),
            Err(_) => Err(Error::Ended),
        }
    }
}
