//! The log: a port. Ordering is separate from applying, so a log is appended to and read, each at its own pace.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use decree_wire::command::Command;
use decree_wire::control::Control;
use decree_wire::entry::Entry;
use decree_wire::position::{Incarnation, Position};
use decree_wire::record::{self, Record};
use sha2::{Digest, Sha256};

pub mod kafka;
pub mod memory;
pub mod raft;
pub mod refusals;
pub mod suite;
pub mod switch;

/// One engine's totally ordered log.
///
/// - Positions MUST grow with every append and MUST NOT be given twice within one incarnation. They MAY have gaps.
/// - An entry that was appended MUST be read at the position that `append` returned, by every reader alike, and MUST
///   NOT change or move.
/// - Every call MUST end within a limit of its own, with [`Error::Unreachable`] if nothing else is known.
/// - Calls MAY run at the same time. Dropping a call's future MUST leave the log usable; an append whose future was
///   dropped may have been ordered.
#[async_trait]
pub trait Log: Send + Sync + fmt::Debug {
    /// Orders an entry and makes it durable.
    ///
    /// MUST NOT return a position before the entry is durable. With [`Error::Unknown`] it may have been ordered; with
    /// every other error it MUST NOT have been and MUST NOT be later. It MAY stand in the log more than once, where the
    /// orderer's answer was lost: its identity makes them one, whichever of their positions is returned.
    async fn append(&self, entry: &NewEntry) -> Result<Position, Error>;

    /// Reads from `from` on (the next position wanted, which may be the head).
    ///
    /// A position that is not there (trimmed, or behind the log's end) MUST be an error here or at the first
    /// [`Reader::next`]; a reader MUST NOT go on from somewhere else.
    async fn read(&self, from: Position) -> Result<Box<dyn Reader>, Error>;

    /// The position that the oldest entry still held has, or the head where there is none.
    async fn earliest(&self) -> Result<Position, Error>;

    /// The next position, as the orderer reports it; everything appended before the call MUST be below it.
    async fn head(&self) -> Result<Position, Error>;

    /// The next position, which everything ordered before the call lies before, whoever appended it and whatever this
    /// log has heard of it; none where only an entry could tell, which a barrier then has to append.
    async fn barrier(&self) -> Result<Option<Position>, Error> {
        Ok(None)
    }

    /// Which life of the log this is. MUST change when the log was deleted and made again.
    async fn incarnation(&self) -> Result<Incarnation, Error>;

    /// Drops every entry before a position. Positions stay as they are.
    async fn trim(&self, before: Position) -> Result<(), Error>;
}

/// Reads a log in order.
#[async_trait]
pub trait Reader: Send + fmt::Debug {
    /// The next entries; an empty batch when none came within `wait`.
    ///
    /// MUST return every entry once and in order. MUST be safe to drop while it waits: the next call then returns what
    /// the dropped one would have.
    async fn next(&mut self, wait: Duration) -> Result<Batch, Error>;

    /// Tells the orderer how far the caller has come, for people to see. Decides nothing.
    async fn commit(&mut self, next: Position) -> Result<(), Error>;
}

/// Entries that follow each other in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// In order.
    pub entries: Vec<Stored>,
    /// Where reading goes on. Between the last entry and this there is nothing.
    pub next: Position,
    /// The log's end as the orderer reported it; none if it has not yet. Caught up means `next >= end`.
    pub end: Option<Position>,
}

/// An entry as it was read, with what tells it from another one at the same position of another log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The entry.
    pub entry: Entry,
    /// By this it is known again.
    pub mark: Mark,
}

/// What tells an entry from another one at the same position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mark {
    /// SHA-256 over the log time and the record.
    pub hash: [u8; 32],
    /// The epoch of the leader that appended it, where the orderer says so.
    pub leader_epoch: Option<i32>,
}

impl Mark {
    /// The mark of a record.
    #[must_use]
    pub fn of(record: &Record, log_time: i64, leader_epoch: Option<i32>) -> Self {
        let mut hash = Sha256::new();
        let mut field = |bytes: Option<&[u8]>| {
            // Length first, or two fields could trade bytes; an absent one differs from an empty one.
            hash.update(bytes.map_or(u64::MAX, |b| b.len() as u64).to_be_bytes());
            hash.update(bytes.unwrap_or_default());
        };
        field(Some(&log_time.to_be_bytes()));
        field(record.value.as_deref());
        for (header, value) in &record.headers {
            field(Some(header.as_bytes()));
            field(value.as_deref());
        }
        Self { hash: hash.finalize().into(), leader_epoch }
    }
}

/// What can be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewEntry {
    /// To be applied.
    Command(Command),
    /// To be obeyed.
    Control(Control),
}

impl NewEntry {
    /// As the record that travels.
    ///
    /// # Errors
    /// If it is a control entry that cannot be written, or a command beyond a record's limits.
    pub fn record(&self) -> Result<Record, Error> {
        match self {
            Self::Command(command) => {
                let record = record::encode_command(command);
                // Everybody would take it for void.
                record::fits(&record).map_err(Error::TooLarge)?;
                Ok(record)
            }
            Self::Control(control) => {
                record::encode_control(control).map_err(|error| Error::Invalid(error.to_string()))
            }
        }
    }
}

/// Why a log could not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing was done; the orderer can't be heard.
    #[error("the log can't be reached: {0}")]
    Unreachable(String),
    /// An append that may or may not have been ordered.
    #[error("nobody can say whether the entry was ordered: {0}")]
    Unknown(String),
    /// The queue of appends is full.
    #[error("the queue of entries to be ordered is full")]
    Full,
    /// The entry is larger than the log takes.
    #[error("the entry is larger than the log takes: {0}")]
    TooLarge(String),
    /// The position was trimmed.
    #[error("position {asked} was trimmed, the log begins at {earliest}")]
    Trimmed {
        /// What was to be read.
        asked: Position,
        /// What there is.
        earliest: Position,
    },
    /// The position lies behind the log's end: the log lost entries, or is another one.
    #[error("position {asked} lies behind the log's end {end}")]
    LostEnd {
        /// What was to be read.
        asked: Position,
        /// The log's end.
        end: Position,
    },
    /// The log was deleted and made again while it was in use.
    #[error("the log was replaced: {0}")]
    Replaced(String),
    /// There is no such log.
    #[error("the log does not exist: {0}")]
    Missing(String),
    /// What was asked makes no sense.
    #[error("the log refused: {0}")]
    Invalid(String),
}

impl Error {
    /// Whether the same call can succeed later with nobody changing what is asked.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Unknown(_) | Self::Full | Self::Missing(_) => true,
            Self::TooLarge(_)
            | Self::Trimmed { .. }
            | Self::LostEnd { .. }
            | Self::Replaced(_)
            | Self::Invalid(_) => false,
        }
    }

    /// One word for metrics and for people.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "LogUnreachable",
            Self::Unknown(_) => "AppendUnknown",
            Self::Full => "QueueFull",
            Self::TooLarge(_) => "TooLarge",
            Self::Trimmed { .. } => "LogTrimmed",
            Self::LostEnd { .. } | Self::Replaced(_) => "LogReplaced",
            Self::Missing(_) => "LogMissing",
            Self::Invalid(_) => "LogRefused",
        }
    }
}
