//! The newest entries in memory: those that are not yet on disk, and some more, which everybody reads next.

use std::collections::VecDeque;
use std::ops::Range;

use openraft::EntryPayload;

use crate::log::raft::types::Entry;

/// So many bytes of entries that are on disk stay in memory.
const KEPT: usize = 1 << 20;

/// Entries that follow each other, up to the log's end.
#[derive(Debug, Default)]
pub(super) struct Tail {
    entries: VecDeque<Entry>,
    /// The index of the first; where there is none, of the next one to come.
    start: u64,
    /// Below this all are on disk.
    flushed: u64,
    bytes: usize,
    /// Of those, that are not yet on disk.
    unflushed: usize,
}

impl Tail {
    /// Of a log that ends before `next`, all of it on disk.
    pub(super) fn new(next: u64) -> Self {
        Self { start: next, flushed: next, ..Self::default() }
    }

    /// The first index that is here.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// The index behind the last.
    pub(super) fn next(&self) -> u64 {
        self.start + self.entries.len() as u64
    }

    /// Appends; an entry that does not follow the last one begins the tail anew, as a snapshot makes it.
    pub(super) fn push(&mut self, entry: Entry) {
        let index = entry.log_id.index();
        if index != self.next() {
            *self = Self::new(index);
        }
        self.bytes += size(&entry);
        self.unflushed += size(&entry);
        self.entries.push_back(entry);
    }

    /// Drops everything from `from` on.
    pub(super) fn truncate(&mut self, from: u64) {
        while self.next() > from
            && let Some(entry) = self.entries.pop_back()
        {
            let index = self.start + self.entries.len() as u64;
            self.forget(index, &entry);
        }
        self.start = self.start.min(from);
        self.flushed = self.flushed.min(from);
    }

    /// Drops everything before `to`.
    pub(super) fn purge(&mut self, to: u64) {
        while self.start < to && self.pop() {}
        if self.entries.is_empty() && self.start < to {
            *self = Self::new(to);
        }
    }

    /// Below this all are on disk.
    pub(super) fn on_disk(&self) -> u64 {
        self.flushed
    }

    /// Everything below `next` is on disk, and need not stay.
    pub(super) fn flushed(&mut self, next: u64) {
        let flushed = self.flushed.max(next.min(self.next()));
        let of = |index: u64| usize::try_from(index.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let news = self.entries.range(of(self.flushed)..of(flushed));
        self.unflushed -= news.map(size).sum::<usize>();
        self.flushed = flushed;
        while self.bytes > KEPT && self.start < self.flushed && self.pop() {}
    }

    /// So many bytes are here that are not on disk.
    pub(super) fn unflushed(&self) -> usize {
        self.unflushed
    }

    /// The entries of a range, up to so many bytes, but one at least; the range must begin here.
    pub(super) fn range(&self, range: Range<u64>, bytes: usize) -> Vec<Entry> {
        let skip = usize::try_from(range.start.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let count = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let mut limit = Limit::new(bytes);
        self.entries.iter().skip(skip).take(count).take_while(|entry| limit.admits(entry)).cloned().collect()
    }

    fn pop(&mut self) -> bool {
        let popped = self.entries.pop_front();
        if let Some(entry) = &popped {
            self.forget(self.start, entry);
            self.start += 1;
        }
        popped.is_some()
    }

    fn forget(&mut self, index: u64, entry: &Entry) {
        self.bytes -= size(entry);
        if index >= self.flushed {
            self.unflushed -= size(entry);
        }
    }
}

/// Admits entries up to so many bytes, but one at least.
pub(super) struct Limit {
    left: usize,
    first: bool,
}

impl Limit {
    pub(super) fn new(bytes: usize) -> Self {
        Self { left: bytes, first: true }
    }

    pub(super) fn admits(&mut self, entry: &Entry) -> bool {
        let size = size(entry);
        let admits = self.first || size <= self.left;
        self.left = self.left.saturating_sub(size);
        self.first = false;
        admits
    }
}

/// What an entry takes in memory, about.
pub(super) fn size(entry: &Entry) -> usize {
    let payload = match &entry.payload {
        EntryPayload::Normal(proposal) => proposal.record.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    };
    size_of::<Entry>() + payload
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::log::raft::types::{CommittedLeaderId, LogId, Proposal};

    fn entry(index: u64, size: usize) -> Entry {
        let proposal = Proposal { log_time: 0, record: Bytes::from(vec![0; size]) };
        Entry {
            log_id: LogId::new(CommittedLeaderId::new(1), index),
            payload: EntryPayload::Normal(proposal),
        }
    }

    fn indexes(tail: &Tail, range: Range<u64>, bytes: usize) -> Vec<u64> {
        tail.range(range, bytes).iter().map(|entry| entry.log_id.index()).collect()
    }

    #[test]
    fn what_is_not_on_disk_stays_and_the_rest_is_bounded() {
        let mut tail = Tail::new(5);
        (5..15).for_each(|index| tail.push(entry(index, KEPT / 4)));
        assert_eq!((tail.start(), tail.next()), (5, 15));
        tail.flushed(8);
        assert_eq!(tail.start(), 8);
        tail.flushed(15);
        assert!(tail.start() > 10 && tail.next() == 15, "{}", tail.start());
        assert_eq!(indexes(&tail, 13..20, usize::MAX), [13, 14]);
        assert_eq!(indexes(&tail, 13..20, 0), [13], "one at least");
    }

    #[test]
    fn it_is_known_how_much_is_not_on_disk() {
        let mut tail = Tail::new(0);
        (0..10).for_each(|index| tail.push(entry(index, 100)));
        let each = size(&entry(0, 100));
        assert_eq!(tail.unflushed(), 10 * each);
        tail.flushed(4);
        assert_eq!(tail.unflushed(), 6 * each);
        tail.truncate(8);
        assert_eq!(tail.unflushed(), 4 * each);
        tail.purge(6);
        assert_eq!(tail.unflushed(), 2 * each);
        tail.truncate(2);
        tail.push(entry(30, 100));
        assert_eq!(tail.unflushed(), each);
        tail.flushed(31);
        assert_eq!(tail.unflushed(), 0);
    }

    #[test]
    fn it_is_cut_at_both_ends() {
        let mut tail = Tail::new(0);
        (0..10).for_each(|index| tail.push(entry(index, 1)));
        tail.flushed(10);
        tail.truncate(7);
        tail.flushed(10);
        tail.push(entry(7, 1));
        tail.purge(3);
        assert_eq!(indexes(&tail, 3..10, usize::MAX), [3, 4, 5, 6, 7]);
        tail.truncate(1);
        assert_eq!((tail.start(), tail.next()), (1, 1));
        tail.purge(20);
        assert_eq!((tail.start(), tail.next()), (20, 20));
        tail.push(entry(30, 1));
        assert_eq!((tail.start(), tail.next()), (30, 31));
    }
}
