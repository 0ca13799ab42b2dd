//! What the store's handles and its writer share: the log's ends and newest entries, and what else openraft asks for
//! while it is being written.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use openraft::EntryPayload;
use tokio::sync::watch;

use super::fault::Error;
use super::rows::Rows;
use super::tail::{Limit, Tail, size};
use crate::log::raft::genesis::Genesis;
use crate::log::raft::types::{Entry, LogId, SnapshotMeta, StoredMembership, Vote};

/// What is known without the disk.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    pub(super) last: Option<LogId>,
    /// Where a log that was empty began: at 0, or wherever who appends says.
    pub(super) begin: u64,
    pub(super) snapshot: Option<SnapshotMeta>,
    /// The last entry that was applied.
    pub(super) applied: Option<LogId>,
    /// The memberships that were found on the way, oldest first; the last one governs. There is one of before each
    /// place at which a thin snapshot may be asked for.
    pub(super) memberships: Vec<StoredMembership>,
    /// Counts changes of them.
    pub(super) membership_changes: u64,
    pub(super) tail: Tail,
    /// The index and the size of each entry that was appended and is not applied, and how much they are together.
    pub(super) waiting: VecDeque<(u64, usize)>,
    pub(super) waiting_bytes: usize,
    /// The log time of the newest proposal ever seen: no later one is earlier.
    pub(super) log_time: i64,
    /// Cuts of the log's end so far, and how many of them the disk has not seen yet.
    pub(super) cuts: u64,
    pub(super) cutting: usize,
}

impl State {
    /// The index behind the last entry.
    pub(super) fn next(&self) -> u64 {
        self.last.map_or(0, |last| last.index() + 1)
    }

    /// The first index that may be held.
    pub(super) fn first(&self) -> u64 {
        self.purged.map_or(self.begin, |purged| purged.index() + 1)
    }

    /// Whether anything of a group is held: entries, or a vote.
    pub(super) fn begun(&self) -> bool {
        self.next() > 0 || self.vote.is_some()
    }

    /// Appends in memory.
    pub(super) fn push(&mut self, entry: Entry) {
        if let EntryPayload::Normal(proposal) = &entry.payload {
            self.log_time = self.log_time.max(proposal.log_time);
        }
        if self.last.is_none() {
            self.begin = entry.log_id.index();
        }
        self.last = Some(entry.log_id);
        let size = size(&entry);
        self.waiting.push_back((entry.log_id.index(), size));
        self.waiting_bytes += size;
        self.tail.push(entry);
    }

    /// The log is applied up to here.
    pub(super) fn apply(&mut self, last: Option<LogId>) {
        self.applied = last;
        let next = last.map_or(0, |last| last.index() + 1);
        while let Some((_, size)) = self.waiting.pop_front_if(|(index, _)| *index < next) {
            self.waiting_bytes -= size;
        }
    }

    /// So many bytes are in this log that are not on this disk, or not certain.
    pub(super) fn backlog(&self) -> usize {
        self.waiting_bytes.max(self.tail.unflushed())
    }

    /// Drops everything behind `last`; gives the index behind what was there.
    pub(super) fn cut(&mut self, last: Option<LogId>) -> u64 {
        let (from, to) = (last.map_or(0, |last| last.index() + 1), self.next());
        if to > from {
            self.tail.truncate(from);
            while let Some((_, size)) = self.waiting.pop_back_if(|(index, _)| *index >= from) {
                self.waiting_bytes -= size;
            }
            self.last = last;
            self.cuts += 1;
            self.cutting += 1;
        }
        to
    }

    /// Drops everything up to here; the log may end before.
    pub(super) fn purge(&mut self, upto: LogId) {
        self.purged = self.purged.max(Some(upto));
        self.last = self.last.max(self.purged);
        self.tail.purge(self.first());
    }

    /// Whether what is held of a range needs no disk.
    pub(super) fn is_in_memory(&self, range: &Range<u64>) -> bool {
        range.start.max(self.first()) >= self.tail.start()
    }

    /// Below this everything is applied, and on this disk: readers may have it.
    fn readable(&self) -> u64 {
        let applied = self.applied.map_or(0, |last| last.index() + 1);
        applied.min(self.tail.on_disk())
    }
}

/// Shared by all handles.
pub(super) struct Shared {
    pub(super) rows: Rows,
    state: Mutex<State>,
    /// The group; set by the writer alone, once it is on the disk.
    pub(super) genesis: OnceLock<Genesis>,
    /// Below this readers may read.
    pub(super) readable: watch::Sender<u64>,
    /// Why the store failed, once it has.
    pub(super) failed: watch::Sender<Option<Error>>,
}

impl Shared {
    pub(super) fn new(rows: Rows, state: State, genesis: Option<Genesis>) -> Self {
        let readable = watch::Sender::new(state.readable());
        let genesis = genesis.map(OnceLock::from).unwrap_or_default();
        Self { rows, state: Mutex::new(state), genesis, readable, failed: watch::Sender::new(None) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what readers may read.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let (changed, readable) = {
            let mut state = self.state();
            (change(&mut state), state.readable())
        };
        // Never back: what was readable was committed.
        self.readable.send_if_modified(|known| {
            let news = readable > *known;
            *known = readable.max(*known);
            news
        });
        changed
    }

    /// The entries of a range that are held, up to so many bytes but one at least.
    pub(super) fn read(&self, range: Range<u64>, bytes: usize) -> Result<Vec<Entry>, Error> {
        loop {
            let (from, to, cuts, rest) = {
                let state = self.state();
                let (from, to) = (range.start.max(state.first()), range.end.min(state.next()));
                if from >= to {
                    return Ok(Vec::new());
                }
                let tail = state.tail.start().clamp(from, to);
                (from, tail, state.cuts, state.tail.range(tail..to, bytes))
            };
            let mut limit = Limit::new(bytes);
            let mut found = self.rows.read(from, to, |entry| limit.admits(entry));
            {
                let state = self.state();
                if state.cuts != cuts || state.first() > from {
                    // The log was cut at one of its ends meanwhile.
                    continue;
                }
            }
            if let Ok(found) = &mut found
                && found.len() as u64 == to - from
            {
                found.extend(rest.into_iter().take_while(|entry| limit.admits(entry)));
            }
            return found;
        }
    }
}
