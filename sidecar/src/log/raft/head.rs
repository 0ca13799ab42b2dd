//! How far the log goes, certainly: the leader asks a quorum whether it still leads. One question for all who ask at
//! the same time.

use std::sync::Arc;
use std::time::Duration;

use openraft::ReadPolicy;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::ask::{Answer, Question};
use super::local::{Leader, Local};
use crate::log::Error;

/// How many may wait for the next question.
const QUEUE: usize = 4096;
/// How long a leader is looked for that can say it.
const LIMIT: Duration = Duration::from_secs(5);
/// How long one of them may take.
const TURN: Duration = Duration::from_secs(1);

type Waiter = oneshot::Sender<Result<u64, Error>>;

/// Asks how far the log goes.
#[derive(Clone, Debug)]
pub struct Handle(mpsc::Sender<Waiter>);

impl Handle {
    /// The index behind everything that was ordered before the call.
    ///
    /// # Errors
    /// If no leader can say it.
    pub async fn next(&self) -> Result<u64, Error> {
        let ended = || Error::Unreachable("this member has ended".into());
        let (waiter, answer) = oneshot::channel();
        self.0.try_send(waiter).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                Error::Unreachable("too many ask where the log ends".into())
            }
            mpsc::error::TrySendError::Closed(_) => ended(),
        })?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }
}

/// Asks for all who wait. Who comes while a question is under way shares the next: the answer to that one may be older
/// than what the newcomer has to see.
#[derive(Debug)]
pub struct Heads {
    local: Arc<Local>,
    queue: mpsc::Receiver<Waiter>,
}

impl Heads {
    /// At this member.
    #[must_use]
    pub fn new(local: Arc<Local>) -> (Self, Handle) {
        let (sender, queue) = mpsc::channel(QUEUE);
        (Self { local, queue }, Handle(sender))
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
            let result = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                result = self.ask() => result,
            };
            for waiter in waiters.drain(..) {
                // One that gave up has dropped its end.
                let _ = waiter.send(result.clone());
            }
        }
    }

    async fn ask(&self) -> Result<u64, Error> {
        let until = Instant::now() + LIMIT;
        let mut why = String::from("nobody leads the group");
        while Instant::now() < until {
            match self.local.leader() {
                Leader::Me => match here(&self.local).await {
                    Some(next) => return Ok(next),
                    None => why = "this member may no longer lead".into(),
                },
                Leader::Other(id, member) => {
                    match self.local.ask((id, &member), Question::Head, TURN).await {
                        Ok(Answer::Head(Some(next))) => return Ok(next),
                        Ok(_) => why = format!("{} may no longer lead", member.agent),
                        Err(error) => why = format!("{}: {error}", member.agent),
                    }
                }
                Leader::Unknown => {}
            }
            self.local.glance().await;
        }
        Err(Error::Unreachable(format!("{why}, for {LIMIT:?}")))
    }
}

/// What this member can say as the leader; none if a quorum does not confirm that it is.
pub async fn here(local: &Local) -> Option<u64> {
    let certain = async {
        // Never by lease: a clock that stands still would make it a lie.
        let read = local.raft.get_read_linearizer(ReadPolicy::ReadIndex).await.ok()?;
        let next = read.read_log_id().index() + 1;
        // A leader that was just elected counts its own first entry, and what another has left it: they may yet be lost,
        // and what was told must not go back.
        local.store.readable().wait_for(|readable| *readable >= next).await.ok()?;
        Some(next)
    };
    timeout(TURN, certain).await.ok()?
}
