//! The Raft log on disk, and with it the vote: what a member must not forget, whatever happens to it.
//!
//! ```text
//!   openraft ─ append, vote, cut ─▶ [newest entries in memory] ─▶ bounded queue ─▶ one thread: a batch, an fdatasync
//!      ▲                                     │                                          │ in order
//!      └──────────── readers ◀───────────────┴── entries on disk          callbacks ◀───┘
//! ```
//!
//! An entry can be read as soon as it is appended, and counts as kept once its callback was called.

use std::fmt;
use std::fs;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::path::Path;
use std::sync::Arc;

use fjall::PersistMode;
use openraft::storage::RaftLogStorage;
use openraft::{EntryPayload, OptionalSend, RaftLogReader};
use prometheus_client::metrics::histogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use super::genesis::Genesis;
use super::types::{
    Entry, Flushed, LogId, LogState, MemberId, SnapshotMeta, StoredMembership, TypeConfig, Vote,
};

mod fault;
mod journal;
mod mark;
mod rows;
mod shared;
mod tail;
mod writer;

pub use fault::Error;
use mark::Mark;
use rows::{Rows, row};
use shared::{Shared, State};
use tail::Tail;
use writer::{Done, Write, Writer};

/// How many writes may wait.
const QUEUE: usize = 1024;
/// A member that is far behind gets the log in pieces of this size.
const PIECE: usize = 1 << 20;

/// Whose store it is: written when it is made, and never changed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Meta {
    /// The member: it belongs to this disk, and to nobody who comes after it.
    id: MemberId,
}

/// A handle; the store lives as long as there is one.
#[derive(Clone)]
pub struct Store {
    id: MemberId,
    shared: Arc<Shared>,
    queue: mpsc::Sender<Write>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store in a folder; where there is none, makes it, of the member that `new` says. How long its disk takes is
    /// told to `synced`.
    ///
    /// # Errors
    /// If the folder can't be used, or what is in it is damaged.
    pub fn open(folder: &Path, synced: Histogram, new: impl FnOnce() -> MemberId) -> Result<Self, Error> {
        let io = Error::io("open");
        let (path, fresh) = (folder.join("log"), folder.join("log.new"));
        make(folder).map_err(&io)?;
        rows::clear(&fresh).map_err(&io)?;
        if !path.exists() {
            // Made aside and renamed: a store that was killed while it was made is never opened.
            fs::create_dir_all(&fresh).map_err(&io)?;
            let rows = Rows::open(&fresh.join("store"))?;
            let mut batch = rows.batch(PersistMode::SyncAll);
            batch.put(row::META, &Meta { id: new() })?;
            batch.put(row::WRITES, &0_u64)?;
            batch.commit()?;
            drop(rows);
            Mark::create(&fresh.join("mark")).map_err(&io)?;
            rows::sync(&fresh).map_err(&io)?;
            fs::rename(fresh, &path).map_err(&io)?;
            rows::sync(folder).map_err(&io)?;
        }
        let (mark, marked) = Mark::open(&path.join("mark")).map_err(&io)?;
        journal::mend(&path.join("store"))?;
        let rows = Rows::open(&path.join("store"))?;
        let damaged = |what: &str| Error {
            attempt: "open",
            detail: format!("{what}; this member must be replaced by a new one, with an empty folder"),
        };
        let Meta { id } = rows.row(row::META)?.ok_or_else(|| damaged("it does not say whose it is"))?;
        let genesis: Option<Genesis> = rows.row(row::GENESIS)?;
        let writes: u64 = rows.row(row::WRITES)?.unwrap_or_default();
        if writes < marked {
            return Err(damaged(&format!("it has lost {} of its {marked} writes", marked - writes)));
        }
        let state = left(&rows)?;
        if genesis.is_none() && state.begun() {
            return Err(damaged("it does not say of which group it is"));
        }
        let first = state.first();
        let shared = Arc::new(Shared::new(rows, state, genesis));
        let (queue, queued) = mpsc::channel(QUEUE);
        let writer = Writer {
            shared: shared.clone(),
            mark,
            writes,
            membership_changes: 0,
            swept: (0, first),
            synced,
            queue: queued,
        };
        let thread = std::thread::Builder::new().name("raft-log".into());
        thread.spawn(move || writer.run()).map_err(&io)?;
        Ok(Self { id, shared, queue })
    }

    /// The member whose it is.
    #[must_use]
    pub fn id(&self) -> MemberId {
        self.id
    }

    /// The group that it is of; none before that is decided.
    #[must_use]
    pub fn genesis(&self) -> Option<&Genesis> {
        self.shared.genesis.get()
    }

    /// Decides of which group it is, unless that is decided; gives which one it is of then.
    ///
    /// # Errors
    /// If it can't be written.
    pub async fn adopt(&self, genesis: Genesis) -> Result<&Genesis, Error> {
        if let Some(own) = self.genesis() {
            return Ok(own);
        }
        self.write(|done| Write::Genesis(genesis, done)).await?;
        Ok(self.genesis().expect("invariant: it was written"))
    }

    /// Below this index everything is applied, and on this disk. Grows.
    #[must_use]
    pub fn readable(&self) -> watch::Receiver<u64> {
        self.shared.readable.subscribe()
    }

    /// Why the store failed, once it has: this member must end then.
    #[must_use]
    pub fn failed(&self) -> watch::Receiver<Option<Error>> {
        self.shared.failed.subscribe()
    }

    /// The log time of the newest proposal: that of the next must not be below.
    #[must_use]
    pub fn log_time(&self) -> i64 {
        self.shared.state().log_time
    }

    /// So many bytes were appended that are not on this disk yet, or not certain yet.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.shared.state().backlog()
    }

    /// The first index that is held.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.shared.state().first()
    }

    /// The index behind the last entry that is held.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.shared.state().next()
    }

    /// Whether anything of a group is held: entries, or a vote.
    #[must_use]
    pub fn begun(&self) -> bool {
        self.shared.state().begun()
    }

    /// Entries of a range, as far as they are held, up to about so many bytes, but one at least.
    ///
    /// # Errors
    /// If the disk can't be read, or is damaged.
    pub async fn read(&self, range: Range<u64>, bytes: usize) -> Result<Vec<Entry>, Error> {
        let in_memory = self.shared.state().is_in_memory(&range);
        if in_memory {
            return self.shared.read(range, bytes);
        }
        let shared = self.shared.clone();
        let read = tokio::task::spawn_blocking(move || shared.read(range, bytes)).await;
        read.map_err(|error| Error { attempt: "read", detail: error.to_string() })?
    }

    /// How far the log is applied, as far as it was noted, and the membership there.
    #[must_use]
    pub fn applied(&self) -> (Option<LogId>, StoredMembership) {
        let state = self.shared.state();
        (state.applied, state.memberships.last().cloned().unwrap_or_default())
    }

    /// Notes how far the log is applied, and what memberships were found on the way. It reaches the disk with the next
    /// write, and may be lost: it is found again.
    pub fn set_applied(&self, last: Option<LogId>, memberships: Vec<StoredMembership>) {
        self.shared.update(|state| {
            state.apply(last);
            if !memberships.is_empty() {
                state.memberships.extend(memberships);
                state.membership_changes += 1;
            }
        });
    }

    /// The membership that governed an entry that was applied.
    #[must_use]
    pub fn membership_at(&self, at: LogId) -> Option<StoredMembership> {
        let state = self.shared.state();
        state.memberships.iter().rev().find(|membership| *membership.log_id() <= Some(at)).cloned()
    }

    /// The thin snapshot, if there is one.
    #[must_use]
    pub fn snapshot(&self) -> Option<SnapshotMeta> {
        self.shared.state().snapshot.clone()
    }

    /// Keeps a thin snapshot, and forgets what only one of before would need.
    ///
    /// # Errors
    /// If it can't be written.
    pub async fn set_snapshot(&self, meta: SnapshotMeta) -> Result<(), Error> {
        self.shared.update(|state| {
            state.snapshot = Some(meta.clone());
            let later = |membership: &StoredMembership| *membership.log_id() > meta.last_log_id;
            let before = state.memberships.iter().take_while(|membership| !later(membership)).count();
            state.memberships.drain(..before.saturating_sub(1));
            state.membership_changes += 1;
        });
        self.write(|done| Write::Snapshot(meta, done)).await
    }

    /// Waits until everything that was written so far is on the disk.
    ///
    /// # Errors
    /// If it can't be written.
    pub async fn flush(&self) -> Result<(), Error> {
        self.write(Write::Flush).await
    }

    async fn write(&self, write: impl FnOnce(Done) -> Write) -> Result<(), Error> {
        let ended = || Error { attempt: "write", detail: "its writer has ended".into() };
        let (done, written) = oneshot::channel();
        self.queue.send(write(done)).await.map_err(|_| ended())?;
        written.await.map_err(|_| ended())?
    }
}

/// Makes the folder, so that it outlives the machine's power.
fn make(folder: &Path) -> io::Result<()> {
    if folder.exists() {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    folder.parent().map_or(Ok(()), rows::sync)
}

/// What the last life has left.
fn left(rows: &Rows) -> Result<State, Error> {
    let purged: Option<LogId> = rows.row(row::PURGED)?;
    let mut state = State {
        vote: rows.row(row::VOTE)?,
        committed: rows.row(row::COMMITTED)?.flatten(),
        purged,
        last: purged,
        snapshot: rows.row(row::SNAPSHOT)?,
        applied: rows.row(row::APPLIED)?.flatten(),
        memberships: rows.row(row::MEMBERSHIPS)?.unwrap_or_default(),
        log_time: rows.row(row::LOG_TIME)?.unwrap_or_default(),
        ..State::default()
    };
    let held = rows.ends(state.first())?;
    if let Some((first, last)) = held {
        if first.log_id.index() != state.first() {
            let detail = format!("entry {} is missing", state.first());
            return Err(Error { attempt: "open", detail });
        }
        state.last = Some(last.log_id);
        let newest = match last.payload {
            EntryPayload::Normal(proposal) => proposal.log_time,
            EntryPayload::Blank | EntryPayload::Membership(_) => newest_time(rows, &state)?,
        };
        state.log_time = state.log_time.max(newest);
    }
    state.tail = Tail::new(state.next());
    Ok(state)
}

/// The log time of the newest proposal: behind it are only blank entries and memberships, which are few.
fn newest_time(rows: &Rows, state: &State) -> Result<i64, Error> {
    for index in (state.first()..state.next()).rev() {
        for entry in rows.read(index, index + 1, |_| true)? {
            if let EntryPayload::Normal(proposal) = entry.payload {
                return Ok(proposal.log_time);
            }
        }
    }
    Ok(0)
}

impl RaftLogReader<TypeConfig> for Store {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        Ok(self.read(start..end, usize::MAX).await?)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        Ok(self.read(start..end, PIECE).await?)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.shared.state().vote)
    }
}

impl RaftLogStorage<TypeConfig> for Store {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState> {
        let state = self.shared.state();
        Ok(LogState { last_purged_log_id: state.purged, last_log_id: state.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let vote = *vote;
        // Readers must not see a vote that may yet be forgotten.
        self.write(|done| Write::Vote(vote, done)).await?;
        self.shared.state().vote = Some(vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.shared.state().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.shared.state().committed)
    }

    async fn append<I>(&mut self, entries: I, flushed: Flushed) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut rows = Vec::new();
        let entries: Vec<_> = entries.into_iter().collect();
        for entry in &entries {
            rows.push((entry.log_id.index(), rows::encode(entry)?));
        }
        self.shared.update(|state| entries.into_iter().for_each(|entry| state.push(entry)));
        let queued = self.queue.send(Write::Append(rows, flushed)).await;
        queued.map_err(|_| Error { attempt: "write", detail: "its writer has ended".into() }.into())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.map_or(0, |last| last.index() + 1);
        let to = self.shared.update(|state| state.cut(last));
        if to <= from {
            return Ok(());
        }
        Ok(self.write(|done| Write::Cut(from, to, done)).await?)
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.shared.update(|state| state.purge(upto));
        Ok(self.write(|done| Write::Purge(upto, done)).await?)
    }
}
