//! Appends at any member: what waits is gathered, and ordered by the leader, whoever that is.
//!
//! ```text
//!   append ─▶ bounded queue ─▶ [gather] ─▶ frames, a few at a time ─▶ order here, or propose to the leader
//!      ▲                                                                          │
//!      └───────────── index, or why not ◀── again, if certainly not ordered ◀─────┘
//! ```

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ask::{self, Answer, Proposed, Question};
use super::local::{Leader, Local};
use super::order::{self, Order};
use super::types::{Member, MemberId};
use crate::log::Error;

/// How many entries may wait, and how many KiB of them.
const QUEUE: usize = 4096;
const QUEUE_KIB: usize = 64 << 10;
/// What goes in one frame, at most.
const FRAME: usize = 1024;
const FRAME_BYTES: usize = 1 << 20;
/// So many frames are on their way at once.
const FRAMES: usize = 8;
/// So long a leader is looked for.
const PATIENCE: Duration = Duration::from_secs(10);
/// The way to the leader and back, beyond what it takes itself.
const WAY: Duration = Duration::from_secs(1);

/// An entry that waits to be ordered.
#[derive(Debug)]
struct Waiting {
    record: Bytes,
    /// If it was certainly not ordered by then, it won't be.
    until: Instant,
    answer: oneshot::Sender<Result<u64, Error>>,
    _room: OwnedSemaphorePermit,
}

/// Appends.
#[derive(Clone, Debug)]
pub struct Handle {
    queue: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
}

impl Handle {
    /// Orders a record; gives its Raft index.
    ///
    /// # Errors
    /// As [`crate::log::Log::append`] says.
    pub async fn append(&self, record: Bytes) -> Result<u64, Error> {
        let kib = u32::try_from(record.len() / 1024 + 1).unwrap_or(u32::MAX);
        let room = self.room.clone().try_acquire_many_owned(kib).map_err(|_| Error::Full)?;
        let (answer, answered) = oneshot::channel();
        let until = Instant::now() + PATIENCE;
        let waiting = Waiting { record, until, answer, _room: room };
        self.queue.try_send(waiting).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Full,
            mpsc::error::TrySendError::Closed(_) => Error::Unreachable("this member has ended".into()),
        })?;
        answered.await.unwrap_or_else(|_| Err(Error::Unknown("this member ended meanwhile".into())))
    }
}

/// Gathers what waits.
#[derive(Debug)]
pub struct Appends {
    local: Arc<Local>,
    order: Arc<Order>,
    queue: mpsc::Receiver<Waiting>,
}

impl Appends {
    /// At this member.
    #[must_use]
    pub fn new(local: Arc<Local>, order: Arc<Order>) -> (Self, Handle) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let handle = Handle { queue: sender, room: Arc::new(Semaphore::new(QUEUE_KIB)) };
        (Self { local, order, queue }, handle)
    }

    /// Runs until `stop`; who waits then is told that nobody knows.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut frames = JoinSet::new();
        loop {
            let first = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                first = self.queue.recv() => first,
            };
            let Some(first) = first else { return };
            while frames.len() >= FRAMES {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    _ = frames.join_next() => {}
                }
            }
            while frames.try_join_next().is_some() {}
            let mut bytes = first.record.len();
            let mut waiting = vec![first];
            while waiting.len() < FRAME
                && bytes < FRAME_BYTES
                && let Ok(next) = self.queue.try_recv()
            {
                bytes += next.record.len();
                waiting.push(next);
            }
            let frame = Frame { local: self.local.clone(), order: self.order.clone(), waiting };
            frames.spawn(frame.run());
        }
    }
}

/// Entries that go together.
struct Frame {
    local: Arc<Local>,
    order: Arc<Order>,
    waiting: Vec<Waiting>,
}

/// What became of a frame.
enum Outcome {
    /// One answer for each.
    Answers(Vec<Proposed>),
    /// None was ordered.
    NotOrdered(String),
    /// Nobody knows.
    Unknown(String),
}

impl Frame {
    async fn run(mut self) {
        let mut why = String::from("nobody leads the group");
        loop {
            let now = Instant::now();
            let (late, waiting) = std::mem::take(&mut self.waiting)
                .into_iter()
                .filter(|waiting| !waiting.answer.is_closed())
                .partition(|waiting| waiting.until <= now);
            self.waiting = waiting;
            give_up(late, &why);
            if self.waiting.is_empty() {
                return;
            }
            let records = self.waiting.iter().map(|waiting| waiting.record.clone()).collect();
            let outcome = match self.local.leader() {
                Leader::Me => Outcome::Answers(self.order.all(records).await),
                Leader::Other(id, member) => self.propose((id, &member), records).await,
                Leader::Unknown => Outcome::NotOrdered("nobody leads the group".into()),
            };
            match outcome {
                Outcome::Answers(answers) => self.answer(answers),
                Outcome::Unknown(why) => {
                    return self
                        .waiting
                        .into_iter()
                        .for_each(|w| _ = w.answer.send(Err(Error::Unknown(why.clone()))));
                }
                Outcome::NotOrdered(news) => why = news,
            }
            if self.waiting.is_empty() {
                return;
            }
            self.local.glance().await;
        }
    }

    /// Keeps those that are to be tried again.
    fn answer(&mut self, answers: Vec<Proposed>) {
        let waiting = std::mem::take(&mut self.waiting);
        for (waiting, proposed) in waiting.into_iter().zip(answers) {
            let result = match proposed {
                Proposed::Ordered(index) => Ok(index),
                Proposed::NoRoom(why) => Err(Error::Unreachable(why)),
                Proposed::Full => Err(Error::Full),
                Proposed::Unknown(why) => Err(Error::Unknown(why)),
                Proposed::NotLeader => {
                    self.waiting.push(waiting);
                    continue;
                }
            };
            // Who no longer waits has dropped its end.
            let _ = waiting.answer.send(result);
        }
    }

    async fn propose(&self, to: (MemberId, &Member), records: Vec<Bytes>) -> Outcome {
        let count = records.len();
        let asked = self.local.ask(to, Question::Propose(records), order::LIMIT + WAY);
        let answer = tokio::select! {
            biased;
            answer = asked => answer,
            () = left(&self.local, to.0) => {
                return Outcome::Unknown(format!("{} no longer leads, and has not answered", to.1.agent));
            }
        };
        match answer {
            Ok(Answer::Propose(answers)) if answers.len() == count => Outcome::Answers(answers),
            Ok(other) => Outcome::Unknown(format!("{} answered something else: {other:?}", to.1.agent)),
            Err(error @ (ask::Error::NotSent(_) | ask::Error::Refused(_))) => {
                Outcome::NotOrdered(format!("{}: {error}", to.1.agent))
            }
            Err(error @ ask::Error::NoAnswer(_)) => Outcome::Unknown(format!("{}: {error}", to.1.agent)),
        }
    }
}

fn give_up(late: Vec<Waiting>, why: &str) {
    for waiting in late {
        let _ = waiting.answer.send(Err(Error::Unreachable(format!("{why}, for {PATIENCE:?}"))));
    }
}

/// Waits until this member hears that another one leads, and a little longer for an answer on its way.
async fn left(local: &Local, leader: MemberId) {
    let mut metrics = local.raft.metrics();
    loop {
        let other = {
            let metrics = metrics.borrow_watched();
            metrics.current_leader.is_some_and(|current| current != leader)
        };
        if other || metrics.changed().await.is_err() {
            return tokio::time::sleep(WAY / 10).await;
        }
    }
}
