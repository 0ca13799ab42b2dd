//! The log in memory: the model of what a log promises, for tests.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use decree_wire::entry::Entry;
use decree_wire::position::{Incarnation, Position};
use decree_wire::record::{self, Record};
use tokio::sync::watch;

use super::{Batch, Error, Log, Mark, NewEntry, Reader, Stored};

/// How many entries a batch holds at most.
const BATCH: usize = 500;

/// A log that lives as long as the process.
#[derive(Clone, Debug)]
pub struct MemoryLog {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    held: Mutex<Held>,
    /// Counts appends, so that readers wake up.
    changed: watch::Sender<u64>,
    away: AtomicBool,
}

#[derive(Debug, Default)]
struct Held {
    life: u64,
    /// The position of the first record still held.
    base: u64,
    records: Vec<(i64, Record)>,
    committed: Position,
}

impl Held {
    fn head(&self) -> Position {
        Position(self.base + self.records.len() as u64)
    }

    fn check(&self, from: Position) -> Result<(), Error> {
        let (earliest, end) = (Position(self.base), self.head());
        if from < earliest {
            return Err(Error::Trimmed { asked: from, earliest });
        }
        if from > end {
            return Err(Error::LostEnd { asked: from, end });
        }
        Ok(())
    }

    fn batch(&self, from: Position) -> Batch {
        let skip = (from.0 - self.base) as usize;
        let entries: Vec<_> =
            self.records.iter().zip(self.base..).skip(skip).take(BATCH).map(stored).collect();
        let next = Position(from.0 + entries.len() as u64);
        Batch { entries, next, end: Some(self.head()) }
    }
}

fn stored(((log_time, record), position): (&(i64, Record), u64)) -> Stored {
    Stored {
        entry: Entry { position: Position(position), log_time: *log_time, body: record::decode(record) },
        mark: Mark::of(record, *log_time, None),
    }
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryLog {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        let inner = Inner {
            held: Mutex::new(Held { life: 1, ..Held::default() }),
            changed: watch::channel(0).0,
            away: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Appends a record as a stranger would, at a time.
    pub fn append_record(&self, record: Record, log_time: i64) -> Position {
        let position = {
            let mut held = self.held();
            held.records.push((log_time, record));
            Position(held.head().0 - 1)
        };
        self.inner.changed.send_modify(|count| *count += 1);
        position
    }

    /// Deletes the log and makes it again, empty.
    pub fn recreate(&self) {
        {
            let mut held = self.held();
            *held = Held { life: held.life + 1, ..Held::default() };
        }
        self.inner.changed.send_modify(|count| *count += 1);
    }

    /// Loses everything from a position on, as a log does whose leader was elected uncleanly.
    pub fn lose_end(&self, from: Position) {
        let mut held = self.held();
        let keep = from.0.saturating_sub(held.base) as usize;
        held.records.truncate(keep);
    }

    /// Makes the log unreachable, or reachable again.
    pub fn set_away(&self, away: bool) {
        self.inner.away.store(away, Ordering::SeqCst);
        self.inner.changed.send_modify(|count| *count += 1);
    }

    /// What a reader committed last.
    #[must_use]
    pub fn committed(&self) -> Position {
        self.held().committed
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.inner.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reach(&self) -> Result<MutexGuard<'_, Held>, Error> {
        if self.inner.away.load(Ordering::SeqCst) {
            return Err(Error::Unreachable("it was told to be away".into()));
        }
        Ok(self.held())
    }
}

#[async_trait]
impl Log for MemoryLog {
    async fn append(&self, entry: &NewEntry) -> Result<Position, Error> {
        let record = entry.record()?;
        drop(self.reach()?);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Ok(self.append_record(record, i64::try_from(now).unwrap_or(i64::MAX)))
    }

    async fn read(&self, from: Position) -> Result<Box<dyn Reader>, Error> {
        let life = {
            let held = self.reach()?;
            held.check(from)?;
            held.life
        };
        let changed = self.inner.changed.subscribe();
        Ok(Box::new(MemoryReader { log: self.clone(), life, next: from, changed }))
    }

    async fn earliest(&self) -> Result<Position, Error> {
        Ok(Position(self.reach()?.base))
    }

    async fn head(&self) -> Result<Position, Error> {
        Ok(self.reach()?.head())
    }

    async fn incarnation(&self) -> Result<Incarnation, Error> {
        Ok(Incarnation(format!("memory-{}", self.reach()?.life)))
    }

    async fn trim(&self, before: Position) -> Result<(), Error> {
        let mut held = self.reach()?;
        if before > held.head() {
            return Err(Error::Invalid(format!("position {before} lies behind the log's end")));
        }
        let drop = before.0.saturating_sub(held.base) as usize;
        held.records.drain(..drop);
        held.base += drop as u64;
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryReader {
    log: MemoryLog,
    life: u64,
    next: Position,
    changed: watch::Receiver<u64>,
}

impl MemoryReader {
    fn batch(&mut self) -> Result<Batch, Error> {
        self.changed.mark_unchanged();
        let held = self.log.reach()?;
        if held.life != self.life {
            return Err(Error::Replaced(format!("memory-{} is now memory-{}", self.life, held.life)));
        }
        held.check(self.next)?;
        let batch = held.batch(self.next);
        drop(held);
        self.next = batch.next;
        Ok(batch)
    }
}

#[async_trait]
impl Reader for MemoryReader {
    async fn next(&mut self, wait: Duration) -> Result<Batch, Error> {
        let batch = self.batch()?;
        if !batch.entries.is_empty() {
            return Ok(batch);
        }
        // A time-out is an empty batch; the sender lives as long as the log, which this reader holds.
        let _ = tokio::time::timeout(wait, self.changed.changed()).await;
        self.batch()
    }

    async fn commit(&mut self, next: Position) -> Result<(), Error> {
        self.log.reach()?.committed = next;
        Ok(())
    }
}
