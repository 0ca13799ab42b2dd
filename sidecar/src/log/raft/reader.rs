//! Reads what is committed from this member's own disk; what openraft itself wrote there are gaps.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use decree_wire::entry;
use decree_wire::position::Position;
use decree_wire::record;
use openraft::EntryPayload;
use openraft::async_runtime::WatchReceiver;
use tokio::sync::watch;
use tokio::time::timeout;

use super::head;
use super::local::Local;
use super::sealed;
use super::store;
use super::types::{Entry, Proposal};
use crate::log::{Batch, Error, Mark, Reader, Stored};

/// What one batch holds at most.
const BATCH: u64 = 500;
const BATCH_BYTES: usize = 1 << 20;
/// Enough to see whether an entry is one of openraft's own.
const GLIMPSE: usize = 4 << 10;

/// Reads the log of this member.
#[derive(Debug)]
pub struct GroupReader {
    local: Arc<Local>,
    head: head::Handle,
    readable: watch::Receiver<u64>,
    next: u64,
}

impl GroupReader {
    /// From this Raft index on.
    #[must_use]
    pub fn new(local: Arc<Local>, head: head::Handle, next: u64) -> Self {
        let readable = local.store.readable();
        Self { local, head, readable, next }
    }

    async fn batch(&mut self) -> Result<Batch, Error> {
        let readable = *self.readable.borrow_and_update();
        let trimmed = check(&self.local, self.next);
        trimmed?;
        let mut batch = Batch { entries: Vec::new(), next: self.local.position(self.next), end: None };
        if self.next < readable {
            let range = self.next..readable.min(self.next + BATCH);
            let read = self.local.store.read(range.clone(), BATCH_BYTES).await.map_err(damaged)?;
            // A trim may have come in between: then there is nothing, or less.
            check(&self.local, self.next)?;
            let next = range.start + read.len() as u64;
            batch.entries =
                read.into_iter().filter_map(|entry| stored(&self.local, entry)).collect::<Result<_, _>>()?;
            batch.next = self.local.position(next);
            self.next = next;
        }
        batch.end = self.end(readable);
        Ok(batch)
    }

    /// The log's end, as the leader has told it.
    fn end(&self, readable: u64) -> Option<Position> {
        let metrics = self.local.raft.data_metrics();
        let committed = metrics.borrow_watched().cluster_committed?;
        Some(self.local.position(readable.max(committed.index() + 1)))
    }

    /// This member's log ends before what is wanted: either it is behind, or the log has lost its end.
    async fn is_behind(&self) -> Result<(), Error> {
        if self.next <= self.local.store.next() {
            return Ok(());
        }
        let head = self.head.next().await?;
        if self.next <= head {
            return Ok(());
        }
        let [asked, end] = [self.next, head].map(|index| self.local.position(index));
        Err(Error::LostEnd { asked, end })
    }
}

#[async_trait]
impl Reader for GroupReader {
    async fn next(&mut self, wait: Duration) -> Result<Batch, Error> {
        self.is_behind().await?;
        let before = self.next;
        let batch = self.batch().await?;
        // Gaps alone are news too: a barrier may wait for the last of them.
        if self.next > before {
            return Ok(batch);
        }
        // A time-out is an empty batch; the sender lives as long as the store, which this reader holds.
        let _ = timeout(wait, self.readable.changed()).await;
        self.batch().await
    }

    async fn commit(&mut self, _: Position) -> Result<(), Error> {
        Ok(())
    }
}

fn check(local: &Local, next: u64) -> Result<(), Error> {
    let first = local.store.first();
    if next < first {
        let [asked, earliest] = [next, first].map(|index| local.position(index));
        return Err(Error::Trimmed { asked, earliest });
    }
    Ok(())
}

/// The first index of a range that holds an entry of ours.
///
/// # Errors
/// If the disk can't be read.
pub async fn first_of(local: &Local, range: Range<u64>) -> Result<Option<u64>, Error> {
    let mut from = range.start;
    while from < range.end {
        let read = local.store.read(from..range.end, GLIMPSE).await.map_err(damaged)?;
        let Some(last) = read.last().map(|entry| entry.log_id.index()) else { return Ok(None) };
        let ours = read.iter().find(|entry| matches!(entry.payload, EntryPayload::Normal(_)));
        if let Some(ours) = ours {
            return Ok(Some(ours.log_id.index()));
        }
        from = last + 1;
    }
    Ok(None)
}

fn damaged(error: store::Error) -> Error {
    Error::Invalid(error.to_string())
}

fn stored(local: &Local, entry: Entry) -> Option<Result<Stored, Error>> {
    let EntryPayload::Normal(Proposal { log_time, record }) = entry.payload else { return None };
    let position = local.position(entry.log_id.index());
    let record = match sealed::open(record) {
        Ok(record) => record,
        Err(error) => return Some(Err(Error::Invalid(format!("at position {position}: {error}")))),
    };
    let term = i32::try_from(entry.log_id.committed_leader_id().term).ok();
    Some(Ok(Stored {
        mark: Mark::of(&record, log_time, term),
        entry: entry::Entry { position, log_time, body: record::decode(&record) },
    }))
}
