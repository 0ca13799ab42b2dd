//! How the Raft log lies on disk: a keyspace of entries by index, and one of single rows.

use std::fs::{self, File};
use std::path::Path;

use bytes::Bytes;
use fjall::config::{CompressionPolicy, FilterPolicy};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};
use openraft::EntryPayload;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::fault::Error;
use crate::log::raft::types::{CommittedLeaderId, Entry, LogId, Payload, Proposal};

/// Before each value.
const FORMAT: u8 = 1;
const BLANK: u8 = 0;
const PROPOSAL: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// Small: the sidecar's whole budget is 20 MB.
const CACHE: u64 = 1 << 20;
const ENTRIES_IN_MEMORY: u64 = 4 << 20;
const STATE_IN_MEMORY: u64 = 256 << 10;
/// The least that the library takes.
const JOURNAL: u64 = 64 << 20;

/// The names of single rows.
pub(super) mod row {
    pub(in super::super) const META: &str = "meta";
    pub(in super::super) const GENESIS: &str = "genesis";
    pub(in super::super) const VOTE: &str = "vote";
    pub(in super::super) const COMMITTED: &str = "committed";
    pub(in super::super) const PURGED: &str = "purged";
    pub(in super::super) const APPLIED: &str = "applied";
    pub(in super::super) const MEMBERSHIPS: &str = "memberships";
    pub(in super::super) const SNAPSHOT: &str = "snapshot";
    /// The newest log time, as it was when the log was purged.
    pub(in super::super) const LOG_TIME: &str = "log-time";
    /// How many batches were written, as the mark says it.
    pub(in super::super) const WRITES: &str = "writes";
}

pub(super) struct Rows {
    db: Database,
    entries: Keyspace,
    state: Keyspace,
}

pub(super) fn failed(attempt: &'static str) -> impl Fn(fjall::Error) -> Error {
    move |error| Error { attempt, detail: error.to_string() }
}

fn corrupt(what: &str) -> Error {
    Error { attempt: "read", detail: format!("{what} can't be understood") }
}

impl Rows {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let db = Database::builder(path)
            .cache_size(CACHE)
            .max_journaling_size(JOURNAL)
            .worker_threads(1)
            .open()
            .map_err(failed("open"))?;
        // Compressed from the first file on: what is only appended to is moved from level to level, never rewritten.
        // Nobody asks for an entry that is not there, so nothing is kept to answer that.
        let entries = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(ENTRIES_IN_MEMORY)
                .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4))
                .filter_policy(FilterPolicy::disabled())
        };
        let state = || KeyspaceCreateOptions::default().max_memtable_size(STATE_IN_MEMORY);
        Ok(Self {
            entries: db.keyspace("entries", entries).map_err(failed("open"))?,
            state: db.keyspace("state", state).map_err(failed("open"))?,
            db,
        })
    }

    pub(super) fn batch(&self, mode: PersistMode) -> Batch<'_> {
        Batch { rows: self, batch: self.db.batch().durability(Some(mode)) }
    }

    pub(super) fn row<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let Some(bytes) = self.state.get(key).map_err(failed("read"))? else { return Ok(None) };
        match bytes.split_first() {
            Some((&FORMAT, json)) => serde_json::from_slice(json).map(Some).map_err(|_| corrupt(key)),
            _ => Err(corrupt(key)),
        }
    }

    /// The first entry from `from` on, and the last of all.
    pub(super) fn ends(&self, from: u64) -> Result<Option<(Entry, Entry)>, Error> {
        let Some(last) = self.entries.last_key_value() else { return Ok(None) };
        let last = entry(last)?;
        let first = self.entries.range(from.to_be_bytes()..).next().map(entry).transpose()?;
        Ok(first.map(|first| (first, last)))
    }

    /// The indexes from `from` on, before `to`, some of them.
    pub(super) fn indexes(&self, from: u64, to: u64, count: usize) -> Result<Vec<u64>, Error> {
        let keys = self.entries.range(from.to_be_bytes()..to.to_be_bytes()).take(count);
        keys.map(|key| index(&key.key().map_err(failed("read"))?)).collect()
    }

    /// Entries from `from` on, before `to`, as long as `admits` says.
    pub(super) fn read(
        &self,
        from: u64,
        to: u64,
        mut admits: impl FnMut(&Entry) -> bool,
    ) -> Result<Vec<Entry>, Error> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut rows = self.entries.range(from.to_be_bytes()..to.to_be_bytes());
        for expected in from..to {
            let found = rows.next().map(entry).transpose()?;
            let found = found.filter(|entry| entry.log_id.index() == expected);
            let entry = found
                .ok_or_else(|| Error { attempt: "read", detail: format!("entry {expected} is missing") })?;
            if !admits(&entry) {
                break;
            }
            entries.push(entry);
        }
        Ok(entries)
    }
}

/// Rows that are written together.
pub(super) struct Batch<'a> {
    rows: &'a Rows,
    batch: OwnedWriteBatch,
}

impl Batch<'_> {
    pub(super) fn put<T: Serialize>(&mut self, key: &str, value: &T) -> Result<(), Error> {
        let mut bytes = vec![FORMAT];
        serde_json::to_writer(&mut bytes, value)
            .map_err(|error| Error { attempt: "write", detail: error.to_string() })?;
        self.batch.insert(&self.rows.state, key, bytes);
        Ok(())
    }

    pub(super) fn entry(&mut self, index: u64, value: Option<Vec<u8>>) {
        match value {
            Some(value) => self.batch.insert(&self.rows.entries, index.to_be_bytes(), value),
            None => self.batch.remove(&self.rows.entries, index.to_be_bytes()),
        }
    }

    pub(super) fn commit(self) -> Result<(), Error> {
        self.batch.commit().map_err(failed("write"))
    }
}

/// An entry as its row's value.
pub(super) fn encode(entry: &Entry) -> Result<Vec<u8>, Error> {
    let size = match &entry.payload {
        EntryPayload::Normal(proposal) => proposal.record.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    };
    let mut out = Vec::with_capacity(18 + size);
    let term = entry.log_id.committed_leader_id().term.to_be_bytes();
    let mut head = |kind: u8| {
        out.extend([FORMAT, kind]);
        out.extend(term);
    };
    match &entry.payload {
        EntryPayload::Blank => head(BLANK),
        EntryPayload::Normal(proposal) => {
            head(PROPOSAL);
            out.extend(proposal.log_time.to_be_bytes());
            out.extend(&proposal.record);
        }
        EntryPayload::Membership(membership) => {
            head(MEMBERSHIP);
            serde_json::to_writer(&mut out, membership)
                .map_err(|error| Error { attempt: "write", detail: error.to_string() })?;
        }
    }
    Ok(out)
}

fn entry(row: fjall::Guard) -> Result<Entry, Error> {
    let (key, value) = row.into_inner().map_err(failed("read"))?;
    let index = index(&key)?;
    decode(index, &value).ok_or_else(|| corrupt(&format!("entry {index}")))
}

fn index(key: &[u8]) -> Result<u64, Error> {
    key.try_into().map(u64::from_be_bytes).map_err(|_| corrupt("an entry's index"))
}

fn decode(index: u64, value: &[u8]) -> Option<Entry> {
    let (head, rest) = value.split_first_chunk::<10>()?;
    let (&[format, kind], term) = head.split_first_chunk::<2>()?;
    let term = u64::from_be_bytes(term.try_into().ok()?);
    let payload: Payload = match (format, kind) {
        (FORMAT, BLANK) if rest.is_empty() => EntryPayload::Blank,
        (FORMAT, PROPOSAL) => {
            let (time, record) = rest.split_first_chunk::<8>()?;
            let record = Bytes::copy_from_slice(record);
            EntryPayload::Normal(Proposal { log_time: i64::from_be_bytes(*time), record })
        }
        (FORMAT, MEMBERSHIP) => EntryPayload::Membership(serde_json::from_slice(rest).ok()?),
        _ => return None,
    };
    Some(Entry { log_id: LogId::new(CommittedLeaderId::new(term), index), payload })
}

/// Makes what was made in a folder survive the machine.
pub(super) fn sync(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Removes what a start that was cut short has left.
pub(super) fn clear(path: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use openraft::Membership;

    use super::*;
    use crate::log::raft::types::{Member, Members};

    #[test]
    fn every_kind_of_entry_comes_back_and_garbage_does_not() {
        let member = Member { agent: "a".into(), address: "h:1".into(), zone: "z".into() };
        let membership = Membership::new(vec![[1].into()], Members::from([(1, member)])).unwrap();
        let proposal = Proposal { log_time: -5, record: Bytes::from_static(b"record") };
        let payloads =
            [EntryPayload::Blank, EntryPayload::Normal(proposal), EntryPayload::Membership(membership)];
        for payload in payloads {
            let entry = Entry { log_id: LogId::new(CommittedLeaderId::new(3), 9), payload };
            let bytes = encode(&entry).unwrap();
            assert_eq!(decode(9, &bytes), Some(entry));
            for end in 0..10 {
                assert_eq!(decode(9, &bytes[..end]), None);
            }
        }
        assert_eq!(decode(9, b"\x01\x07aaaaaaaa"), None, "a kind that this build does not know");
        assert_eq!(decode(9, b"\x02\x00aaaaaaaa"), None, "a format that this build does not know");
    }
}
