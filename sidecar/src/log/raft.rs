//! The log among the sidecars themselves: a Raft group orders, and each member holds all of it.
//!
//! ```text
//!   append ─▶ gather ─▶ the leader: order ─▶ openraft ─▶ store, network ─▶ machine: committed, applied
//!   head ───▶ gather ─▶ the leader: does a quorum say so?                         │
//!   read ◀─────────────────── store ◀─────────────────────────────────────────────┘
//! ```
//!
//! A position is the incarnation's base plus the Raft index.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use decree_wire::member::Scanned;
use decree_wire::position::{Incarnation, Position};
use openraft::async_runtime::WatchReceiver;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Error, Log, NewEntry, Reader};

pub mod answer;
pub mod append;
pub mod ask;
pub mod disk;
pub mod genesis;
pub mod hand_over;
pub mod head;
pub mod leave;
pub mod local;
pub mod machine;
pub mod measures;
pub mod membership;
pub mod network;
pub mod order;
pub mod peers;
pub mod reader;
pub mod room;
pub mod scan;
pub mod sealed;
pub mod settings;
pub mod store;
pub mod types;
pub mod view;

use answer::Answers;
use ask::{Answer, Ask, Letter};
use disk::Disk;
use local::Local;
use machine::{Machine, Raft, Upto};
use membership::Change;
use network::Network;
use order::Order;
use reader::GroupReader;
use room::Room;
use types::{LogId, Member, MemberId};
use view::View;

/// How long a trim may take.
const TRIM: Duration = Duration::from_secs(10);
/// How long openraft gets to end.
const CLOSE: Duration = Duration::from_secs(5);

/// What a member needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
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
    /// Opens this member, on a disk of which it is decided to which group it belongs. It does nothing until it is asked:
    /// [`RaftLog::initialize`] begins a group, or the leader of one adds it. Must be called in a runtime.
    ///
    /// # Errors
    /// If the disk can't be used, or belongs to no group.
    pub async fn open(disk: &Disk, settings: Settings, ask: Arc<dyn Ask>) -> Result<Self, Error> {
        let Settings { election_timeout, heartbeat_interval } = settings;
        let unusable = |error: &dyn std::fmt::Display| Error::Invalid(error.to_string());
        let config =
            settings::openraft(election_timeout, heartbeat_interval).map_err(|why| unusable(&why))?;
        let genesis = disk.genesis().cloned().ok_or_else(|| unusable(&"this disk belongs to no group"))?;
        let (store, room) = (disk.store().clone(), Room::open(disk.folder()).map_err(|e| unusable(&e))?);
        let upto = Upto::default();
        let network = Network {
            incarnation: genesis.incarnation.0.clone(),
            from: disk.id(),
            ask: ask.clone(),
            patience: 2 * election_timeout.max(Duration::from_secs(1)),
        };
        let machine = Machine::new(store.clone(), upto.clone());
        let raft = Raft::new(disk.id(), Arc::new(config), network, store.clone(), machine).await;
        let raft = raft.map_err(|error| unusable(&error))?;
        let this = Self::run(Local { raft, store, genesis, ask, room, upto });
        let (counting, stopped) = (disk.measures().clone().count(this.local.raft.clone()), this.stop.clone());
        this.tasks.spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = counting => {}
            }
        });
        Ok(this)
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
        view::view(&self.local)
    }

    /// Whether this member's disk has room for proposals.
    ///
    /// # Errors
    /// If not: in words for a person.
    pub fn room(&self) -> Result<(), String> {
        self.local.room.for_proposals()
    }

    /// Begins the group with this member, found there; does nothing if that has been done.
    ///
    /// # Errors
    /// As [`membership::initialize`].
    pub async fn initialize(&self, member: Member) -> Result<(), membership::Error> {
        membership::initialize(&self.local, member).await
    }

    /// At the leader: changes the membership, if it is still the one that was `seen`.
    ///
    /// # Errors
    /// As [`membership::change`].
    pub async fn change(&self, seen: Option<LogId>, change: Change) -> Result<(), membership::Error> {
        membership::change(&self.local, seen, change).await
    }

    /// At the leader: lets another voter lead.
    ///
    /// # Errors
    /// As [`hand_over::to`].
    pub async fn hand_over_to(&self, to: MemberId) -> Result<(), membership::Error> {
        hand_over::to(&self.local, to).await
    }

    /// Before this member ends: another one leads, if one can; gives whether this one no longer does.
    pub async fn hand_over(&self, limit: Duration) -> bool {
        hand_over::to_any(&self.local, limit).await
    }

    /// Whether this member votes, as far as it knows.
    #[must_use]
    pub fn votes(&self) -> bool {
        let metrics = self.local.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.voter_ids().any(|voter| voter == self.id())
    }

    /// Waits until the group does not need this member's vote any more. May be dropped.
    pub async fn let_go(&self) {
        leave::let_go(&self.local).await;
    }

    /// Looks for the next settings among what this member knows to be ordered; on the leader, among all that is.
    ///
    /// # Errors
    /// As [`scan::scan`].
    pub async fn scan(&self, from: Option<Position>) -> Result<Scanned, Error> {
        scan::scan(&self.local, from).await
    }

    /// Whether the agent of this pod may speak for a member: not for one that is known to be another's.
    #[must_use]
    pub fn speaks_for(&self, pod: &str, member: MemberId) -> bool {
        let metrics = self.local.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.get_node(&member).is_none_or(|known| known.agent == pod)
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
        Ok(self.local.genesis.incarnation.clone())
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
