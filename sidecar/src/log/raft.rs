//! The log among the sidecars themselves: a Raft group orders, and each member holds all of it.
//!
//! ```text
//!   append ─▶ gather ─▶ the leader: order ─▶ openraft ─▶ store, network ─▶ machine: committed, applied
//!   head ───▶ gather ─▶ the leader: does a quorum say so?                         │
//!   read ◀─────────────────── store ◀─────────────────────────────────────────────┘
//! ```
//!
//! A position is the incarnation's base plus the Raft index.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use decree_wire::position::{Incarnation, Position};
use openraft::async_runtime::WatchReceiver;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Error, Log, NewEntry, Reader};

pub mod answer;
pub mod append;
pub mod ask;
pub mod head;
pub mod local;
pub mod machine;
pub mod membership;
pub mod network;
pub mod order;
pub mod peers;
pub mod reader;
pub mod room;
pub mod sealed;
pub mod settings;
pub mod store;
pub mod types;

use answer::Answers;
use ask::{Answer, Ask, Letter};
use local::Local;
use machine::{Machine, Raft, Upto};
use membership::View;
use network::Network;
use order::Order;
use reader::GroupReader;
use room::Room;
use store::{Meta, Store};
use types::{Member, MemberId};

/// How long a trim may take.
const TRIM: Duration = Duration::from_secs(10);
/// How long openraft gets to end.
const CLOSE: Duration = Duration::from_secs(5);

/// How a group began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    /// Which life of the group this is.
    pub incarnation: Incarnation,
    /// The position of its first entry: behind all of the lives before.
    pub base: Position,
}

/// What a member needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its own, on a disk that it keeps.
    pub folder: PathBuf,
    /// The group's.
    pub genesis: Genesis,
    /// Where this member is found.
    pub member: Member,
    /// A leader that is not heard for so long is replaced.
    pub election_timeout: Duration,
    /// How often it is heard.
    pub heartbeat_interval: Duration,
}

/// The log of a group, at one of its members. A handle: the member lives until it is closed.
#[derive(Clone, Debug)]
pub struct RaftLog {
    local: Arc<Local>,
    appends: append::Handle,
    head: head::Handle,
    answers: Answers,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl RaftLog {
    /// Opens this member. It does nothing until it is asked: [`RaftLog::initialize`] begins a group, or the leader of
    /// one adds it. Must be called in a runtime.
    ///
    /// # Errors
    /// If the folder can't be used, or is of another incarnation.
    pub async fn open(settings: Settings, ask: Arc<dyn Ask>) -> Result<Self, Error> {
        let Settings { folder, genesis, member, election_timeout, heartbeat_interval } = settings;
        let unusable = |error: &dyn std::fmt::Display| Error::Invalid(error.to_string());
        std::fs::create_dir_all(&folder)
            .map_err(|error| unusable(&format!("open {}: {error}", folder.display())))?;
        let config =
            settings::openraft(election_timeout, heartbeat_interval).map_err(|why| unusable(&why))?;
        let Genesis { incarnation, base } = genesis;
        let new = Meta { id: new_id(), incarnation: incarnation.0.clone(), base: base.0 };
        let at = folder.clone();
        let store = tokio::task::spawn_blocking(move || Store::open(&at, || new));
        let store = store.await.map_err(|error| unusable(&error))?.map_err(|error| unusable(&error))?;
        let meta = store.meta();
        if meta.incarnation != incarnation.0 || meta.base != base.0 {
            let found = &meta.incarnation;
            return Err(Error::Replaced(format!(
                "this disk is of incarnation {found}, the group of {incarnation}"
            )));
        }
        let room = Room::open(&folder).map_err(|error| unusable(&error))?;
        let upto = Upto::default();
        let network = Network {
            incarnation: incarnation.0,
            from: meta.id,
            ask: ask.clone(),
            patience: 2 * election_timeout.max(Duration::from_secs(1)),
        };
        let machine = Machine::new(store.clone(), upto.clone());
        let raft = Raft::new(meta.id, Arc::new(config), network, store.clone(), machine).await;
        let raft = raft.map_err(|error| unusable(&error))?;
        Ok(Self::run(Local { raft, store, ask, member, room, upto }))
    }

    fn run(local: Local) -> Self {
        let local = Arc::new(local);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let order = Arc::new(Order::new(local.clone()));
        let (gather, appends) = append::Appends::new(local.clone(), order.clone());
        let (heads, head) = head::Heads::new(local.clone());
        tasks.spawn(gather.run(stop.clone()));
        tasks.spawn(heads.run(stop.clone()));
        let (room, stopped) = (local.room.clone(), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = room.watch() => {}
            }
        });
        let answers = Answers::new(local.clone(), order);
        Self { local, appends, head, answers, tasks, stop }
    }

    /// This member's id: made with its disk.
    #[must_use]
    pub fn id(&self) -> MemberId {
        self.local.id()
    }

    /// Whether this member's disk holds something of a group: entries, or a vote.
    #[must_use]
    pub fn begun(&self) -> bool {
        self.local.store.begun()
    }

    /// Answers another member.
    ///
    /// # Errors
    /// As [`Answers::answer`].
    pub async fn answer(&self, letter: Letter) -> Result<Answer, ask::Error> {
        self.answers.answer(letter).await
    }

    /// The group, as this member sees it.
    #[must_use]
    pub fn view(&self) -> View {
        membership::view(&self.local)
    }

    /// Whether this member's disk has room for proposals.
    ///
    /// # Errors
    /// If not: in words for a person.
    pub fn room(&self) -> Result<(), String> {
        self.local.room.for_proposals()
    }

    /// Begins the group with this member; does nothing if that has been done.
    ///
    /// # Errors
    /// As [`membership::initialize`].
    pub async fn initialize(&self) -> Result<(), membership::Error> {
        membership::initialize(&self.local).await
    }

    /// At the leader: adds a member that does not vote.
    ///
    /// # Errors
    /// As [`membership::add_learner`].
    pub async fn add_learner(&self, id: MemberId, member: Member) -> Result<(), membership::Error> {
        membership::add_learner(&self.local, id, member).await
    }

    /// At the leader: says where a member is found from now on.
    ///
    /// # Errors
    /// As [`membership::relocate`].
    pub async fn relocate(&self, id: MemberId, member: Member) -> Result<(), membership::Error> {
        membership::relocate(&self.local, id, member).await
    }

    /// At the leader: lets a member vote.
    ///
    /// # Errors
    /// As [`membership::promote`].
    pub async fn promote(&self, id: MemberId) -> Result<(), membership::Error> {
        membership::promote(&self.local, id).await
    }

    /// At the leader: removes a member.
    ///
    /// # Errors
    /// As [`membership::remove`].
    pub async fn remove(&self, id: MemberId) -> Result<(), membership::Error> {
        membership::remove(&self.local, id).await
    }

    /// Before this member ends: another one leads, if one can; gives whether this one no longer does.
    pub async fn hand_over(&self, limit: Duration) -> bool {
        membership::hand_over(&self.local, limit).await
    }

    /// Waits until this member can't go on: its disk failed, or openraft ended. The process must end then.
    pub async fn failed(&self) -> String {
        let mut store = self.local.store.failed();
        let mut metrics = self.local.raft.metrics();
        let ended = async {
            loop {
                if let Err(error) = &metrics.borrow_watched().running_state {
                    return error.to_string();
                }
                if metrics.changed().await.is_err() {
                    return "it was closed".to_owned();
                }
            }
        };
        tokio::select! {
            biased;
            failed = store.wait_for(Option::is_some) => {
                failed.ok().and_then(|error| error.clone()).map_or_else(|| "it was closed".into(), |e| e.to_string())
            }
            ended = ended => ended,
        }
    }

    /// Ends this member; what is on its way may or may not be ordered.
    pub async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        let _ = timeout(CLOSE, self.tasks.wait()).await;
        if !matches!(timeout(CLOSE, self.local.raft.shutdown()).await, Ok(Ok(()))) {
            tracing::warn!("the group's member did not end in time");
        }
        // Whatever was handed to the disk is there, or the next start finds it missing.
        let _ = timeout(CLOSE, self.local.store.flush()).await;
    }

    async fn cut(&self, index: u64) -> Result<(), Error> {
        let ended = |error: types::Fatal| Error::Unreachable(error.to_string());
        let Some(upto) = index.checked_sub(1).filter(|upto| *upto >= self.local.store.first()) else {
            return Ok(());
        };
        let read =
            self.local.store.read(upto..index, 0).await.map_err(|error| Error::Invalid(error.to_string()))?;
        let id = read.first().map(|entry| entry.log_id);
        let raft = &self.local.raft;
        if self.local.store.snapshot().is_none_or(|snapshot| snapshot.last_log_id < id) {
            self.local.upto.set(id);
            raft.trigger().snapshot().await.map_err(ended)?;
            let mut metrics = raft.metrics();
            while metrics.borrow_watched().snapshot < id {
                metrics.changed().await.map_err(|_| Error::Unreachable("this member has ended".into()))?;
            }
        }
        raft.trigger().purge_log(upto).await.map_err(ended)?;
        while self.local.store.first() <= upto {
            self.local.glance().await;
        }
        Ok(())
    }
}

/// 52 bits of chance: exact in JSON, and never given twice in a group.
fn new_id() -> MemberId {
    let bits = uuid::Uuid::new_v4().as_u64_pair().0;
    (bits >> 12).max(1)
}

#[async_trait]
impl Log for RaftLog {
    async fn append(&self, entry: &NewEntry) -> Result<Position, Error> {
        let record = sealed::seal(&entry.record()?);
        let index = self.appends.append(record).await?;
        Ok(self.local.position(index))
    }

    async fn read(&self, from: Position) -> Result<Box<dyn Reader>, Error> {
        let earliest = self.local.position(0);
        let next = self.local.index(from).ok_or(Error::Trimmed { asked: from, earliest })?;
        Ok(Box::new(GroupReader::new(self.local.clone(), self.head.clone(), next)))
    }

    async fn earliest(&self) -> Result<Position, Error> {
        let store = &self.local.store;
        let mut readable = store.readable();
        let seen = *readable.borrow();
        if let Some(first) = reader::first_of(&self.local, store.first()..seen).await? {
            return Ok(self.local.position(first));
        }
        // Here is none; but there may be one that this member has yet to get.
        let head = self.head.next().await?;
        let waited = timeout(TRIM, readable.wait_for(|readable| *readable >= head)).await;
        let caught_up = waited.is_ok_and(|seen| seen.is_ok());
        if !caught_up {
            return Err(Error::Unreachable("this member has yet to get the log".into()));
        }
        let first = reader::first_of(&self.local, store.first()..head).await?;
        Ok(self.local.position(first.unwrap_or(head)))
    }

    async fn head(&self) -> Result<Position, Error> {
        Ok(self.local.position(self.head.next().await?))
    }

    async fn barrier(&self) -> Result<Option<Position>, Error> {
        self.head().await.map(Some)
    }

    async fn incarnation(&self) -> Result<Incarnation, Error> {
        Ok(Incarnation(self.local.store.meta().incarnation.clone()))
    }

    async fn trim(&self, before: Position) -> Result<(), Error> {
        let Some(index) = self.local.index(before) else { return Ok(()) };
        if index > *self.local.store.readable().borrow() {
            return Err(Error::Invalid(format!(
                "position {before} lies behind what this member has applied"
            )));
        }
        timeout(TRIM, self.cut(index))
            .await
            .unwrap_or_else(|_| Err(Error::Unreachable("the trim takes longer than it may".into())))
    }
}
