//! The one thread that writes: whatever waits goes to the disk together, in order, and then all is answered in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use fjall::PersistMode;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::{mpsc, oneshot};

use super::fault::Error;
use super::mark::Mark;
use super::rows::{Batch, row};
use super::shared::Shared;
use crate::log::raft::genesis::Genesis;
use crate::log::raft::types::{Flushed, LogId, SnapshotMeta, Vote};

/// So much is written at once, at most.
const GROUP: usize = 256;
const GROUP_BYTES: usize = 4 << 20;
/// So many entries are removed at once, at most: a trim of millions must not hold up votes.
const SWEEP: usize = 4096;

/// Answered when it is on the disk.
pub(super) type Done = oneshot::Sender<Result<(), Error>>;

/// What is to be written.
pub(super) enum Write {
    /// Entries as rows, one behind the other.
    Append(Vec<(u64, Vec<u8>)>, Flushed),
    Vote(Vote, Done),
    /// Of which group the store is: once in its life.
    Genesis(Genesis, Done),
    /// Entries from one index on, before the other, are to go.
    Cut(u64, u64, Done),
    /// Everything up to here is to go.
    Purge(LogId, Done),
    Snapshot(SnapshotMeta, Done),
    /// Nothing: answers when everything before is written.
    Flush(Done),
}

/// The thread's own.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    /// Behind `shared`: the lock ends after what it guards.
    pub(super) mark: Mark,
    /// How many batches were written.
    pub(super) writes: u64,
    /// How many changes of the membership are on the disk.
    pub(super) membership_changes: u64,
    /// Below the first nothing is left of what was purged; below the second nothing is to be left.
    pub(super) swept: (u64, u64),
    /// How long the disk took.
    pub(super) synced: Histogram,
    pub(super) queue: mpsc::Receiver<Write>,
}

/// What goes to the disk together.
#[derive(Default)]
struct Group {
    /// The last word on each index: a batch must not say two things of one row.
    entries: BTreeMap<u64, Option<Vec<u8>>>,
    bytes: usize,
    vote: Option<Vote>,
    genesis: Option<Genesis>,
    purge: Option<LogId>,
    snapshot: Option<SnapshotMeta>,
    cuts: usize,
    /// The index behind the last entry, once this is written, if it says anything of it.
    next: Option<u64>,
    /// In order.
    answers: Vec<Answer>,
}

enum Answer {
    Flushed(Flushed),
    Done(Done),
}

impl Answer {
    fn send(self, result: Result<(), Error>) {
        match self {
            Self::Flushed(flushed) => flushed.io_completed(result.map_err(std::io::Error::from)),
            // Who no longer waits has dropped its end.
            Self::Done(done) => _ = done.send(result),
        }
    }
}

impl Group {
    fn add(&mut self, write: Write) {
        let answer = match write {
            Write::Append(rows, flushed) => {
                for (index, row) in rows {
                    self.next = Some(index + 1);
                    self.bytes += row.len();
                    self.entries.insert(index, Some(row));
                }
                Answer::Flushed(flushed)
            }
            Write::Vote(vote, done) => {
                self.vote = Some(vote);
                Answer::Done(done)
            }
            Write::Genesis(genesis, done) => {
                // Who comes first decides.
                self.genesis.get_or_insert(genesis);
                Answer::Done(done)
            }
            Write::Cut(from, to, done) => {
                self.entries.extend((from..to).map(|index| (index, None)));
                self.next = Some(from);
                self.cuts += 1;
                Answer::Done(done)
            }
            Write::Purge(upto, done) => {
                self.purge = Some(upto);
                Answer::Done(done)
            }
            Write::Snapshot(meta, done) => {
                self.snapshot = Some(meta);
                Answer::Done(done)
            }
            Write::Flush(done) => Answer::Done(done),
        };
        self.answers.push(answer);
    }

    fn is_full(&self) -> bool {
        self.answers.len() >= GROUP || self.bytes >= GROUP_BYTES
    }
}

impl Writer {
    /// Runs until every handle is gone.
    pub(super) fn run(mut self) {
        while let Some(first) = self.next() {
            let mut group = Group::default();
            group.add(first);
            while !group.is_full()
                && let Ok(next) = self.queue.try_recv()
            {
                group.add(next);
            }
            let answers = std::mem::take(&mut group.answers);
            let result = self.write(group);
            if let Err(error) = &result {
                // What a disk has once refused to keep, nobody knows the state of: nothing is written any more.
                tracing::error!(%error, "the group's log can't be written; this member ends");
                self.shared.failed.send_if_modified(|known| {
                    let news = known.is_none();
                    known.get_or_insert_with(|| error.clone());
                    news
                });
            }
            answers.into_iter().for_each(|answer| answer.send(result.clone()));
        }
    }

    /// The next write. Until it comes, and between one and the next, what was purged is removed piece by piece.
    fn next(&mut self) -> Option<Write> {
        while self.swept.0 < self.swept.1 && self.shared.failed.borrow().is_none() {
            if let Err(error) = self.sweep() {
                // Nothing is lost by it; the next start goes on.
                tracing::warn!(%error, "what was trimmed of the group's log is not removed");
                self.swept.1 = self.swept.0;
            }
            match self.queue.try_recv() {
                Ok(write) => return Some(write),
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
                Err(mpsc::error::TryRecvError::Empty) => {}
            }
        }
        self.queue.blocking_recv()
    }

    fn write(&mut self, mut group: Group) -> Result<(), Error> {
        if let Some(error) = self.shared.failed.borrow().clone() {
            return Err(error);
        }
        let mut batch = self.shared.rows.batch(PersistMode::SyncData);
        batch.put(row::WRITES, &(self.writes + 1))?;
        if let Some(vote) = &group.vote {
            batch.put(row::VOTE, vote)?;
        }
        let genesis = group.genesis.take().filter(|_| self.shared.genesis.get().is_none());
        if let Some(genesis) = &genesis {
            batch.put(row::GENESIS, genesis)?;
        }
        if let Some(purge) = &group.purge {
            batch.put(row::PURGED, purge)?;
            // The entry that says it may be gone then.
            batch.put(row::LOG_TIME, &self.shared.state().log_time)?;
        }
        if let Some(meta) = &group.snapshot {
            batch.put(row::SNAPSHOT, meta)?;
        }
        let (next, changes) = self.beside(&group, &mut batch)?;
        for (index, value) in group.entries {
            batch.entry(index, value);
        }
        let begun = Instant::now();
        batch.commit()?;
        self.synced.observe(begun.elapsed().as_secs_f64());
        self.writes += 1;
        self.membership_changes = changes;
        self.mark.set(self.writes).map_err(Error::io("write"))?;
        genesis.into_iter().for_each(|genesis| _ = self.shared.genesis.set(genesis));
        self.shared.update(|state| {
            state.cutting -= group.cuts;
            if state.cutting == 0 {
                state.tail.flushed(next);
            }
        });
        if let Some(upto) = group.purge {
            self.swept.1 = self.swept.1.max(upto.index() + 1);
        }
        Ok(())
    }

    /// What need not be written at once, and so never by itself; but never ahead of the entries. Gives the index behind
    /// the last entry that is on the disk after this, and how many changes of the membership are.
    fn beside(&self, group: &Group, batch: &mut Batch<'_>) -> Result<(u64, u64), Error> {
        let state = self.shared.state();
        // An end that is still to be cut off does not count.
        let settled = state.cutting == group.cuts;
        let next = group.next.filter(|_| settled).unwrap_or(state.tail.on_disk()).max(state.first());
        let on_disk = |id: Option<LogId>| id.is_some_and(|id| id.index() < next);
        if on_disk(state.committed) {
            batch.put(row::COMMITTED, &state.committed)?;
        }
        if !on_disk(state.applied) {
            return Ok((next, self.membership_changes));
        }
        batch.put(row::APPLIED, &state.applied)?;
        if state.membership_changes != self.membership_changes {
            batch.put(row::MEMBERSHIPS, &state.memberships)?;
        }
        Ok((next, state.membership_changes))
    }

    /// Removes some of the entries that were purged; where it is cut short, the next start goes on.
    fn sweep(&mut self) -> Result<(), Error> {
        let (from, to) = self.swept;
        let gone = self.shared.rows.indexes(from, to, SWEEP)?;
        self.swept.0 = gone.last().map_or(to, |last| last + 1);
        let mut batch = self.shared.rows.batch(PersistMode::SyncData);
        gone.into_iter().for_each(|index| batch.entry(index, None));
        batch.commit()
    }
}
