//! This agent as a member of the group: its disk, which gives it an id at its first start; and its log, once it is decided to
//! which group it belongs.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use decree_wire::group::MemberId;
use decree_wire::heartbeat::Trouble;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::log::Error;
use crate::log::raft::RaftLog;
use crate::log::raft::disk::Disk;
use crate::log::raft::genesis::Genesis;

pub mod door;
mod refused;
mod say;

/// This agent's seat in the group, taken or not. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Seat(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pod: String,
    disk: Disk,
    /// Told when it is decided to which group the disk belongs.
    decided: watch::Sender<bool>,
    log: OnceLock<RaftLog>,
    /// Told when the log is there.
    taken: watch::Sender<bool>,
    waits: Mutex<Option<Trouble>>,
}

impl Seat {
    /// The seat of this pod.
    #[must_use]
    pub fn new(pod: String, disk: Disk) -> Self {
        let decided = watch::Sender::new(disk.genesis().is_some());
        let (log, taken, waits) = (OnceLock::new(), watch::Sender::new(false), Mutex::default());
        Self(Arc::new(Inner { pod, disk, decided, log, taken, waits }))
    }

    /// The member's id.
    #[must_use]
    pub fn id(&self) -> MemberId {
        MemberId(self.0.disk.id())
    }

    /// The pod's name.
    #[must_use]
    pub fn pod(&self) -> &str {
        &self.0.pod
    }

    /// The member's disk.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        &self.0.disk
    }

    /// How the group began that this member belongs to; none before it is decided which one.
    #[must_use]
    pub fn genesis(&self) -> Option<&Genesis> {
        self.0.disk.genesis()
    }

    /// Belongs to this group from now on. Durable when it returns; again is no error.
    ///
    /// # Errors
    /// If it belongs to another one, or the disk can't be written.
    pub async fn decide(&self, genesis: Genesis) -> Result<(), Error> {
        let decided = self.0.disk.adopt(genesis).await;
        // A call that was given up may have decided too.
        self.0.decided.send_replace(self.genesis().is_some());
        decided
    }

    /// Follows whether it is decided which group it belongs to.
    #[must_use]
    pub fn decided(&self) -> watch::Receiver<bool> {
        self.0.decided.subscribe()
    }

    /// The log is open. Once.
    pub fn take(&self, log: RaftLog) {
        let _ = self.0.log.set(log);
        self.0.taken.send_replace(true);
    }

    /// The log; none before it is open.
    #[must_use]
    pub fn log(&self) -> Option<&RaftLog> {
        self.0.log.get()
    }

    /// The log, once it is open; none if it is not in time.
    pub async fn taken(&self, limit: Duration) -> Option<&RaftLog> {
        let mut taken = self.0.taken.subscribe();
        // The sender lives in `self`.
        let _ = timeout(limit, taken.wait_for(|taken| *taken)).await;
        self.log()
    }

    /// Whether a group needs its vote that somebody replaces it in, before it goes.
    #[must_use]
    pub fn votes(&self) -> bool {
        let replaced = self.genesis().is_some_and(|genesis| genesis.decided().is_some());
        replaced && self.log().is_some_and(RaftLog::votes)
    }

    /// What it waits for, in words for a person; none: nothing.
    pub fn wait(&self, trouble: Option<Trouble>) {
        *self.0.waits.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// What it waits for.
    #[must_use]
    pub fn waits(&self) -> Option<Trouble> {
        self.0.waits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
