//! What survives the sidecar: journal, dedup window, outcomes and bookmark, in one store that a SIGKILL can't hurt.
//!
//! Each commit reaches the page cache before it returns (`PersistMode::Buffer` ends in write(2)) and is whole or not
//! there. The page cache does not survive the machine, so what another boot wrote is thrown away. A delivery begins in a
//! file beside it ([`begun`]) and ends with a commit.

use std::fmt;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use decree_wire::command::{Fingerprint, Identity};
use decree_wire::position::Position;
use decree_wire::settings::Settings;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch as WriteBatch, PersistMode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::rows::{Attempts, Begun, Bookmark, Differs, Fate, Remembered};

mod begun;
mod fault;
#[cfg(test)]
mod tests;
mod window;

use begun::Deliveries;
pub use fault::Error;

fn failed(attempt: &'static str) -> impl Fn(fjall::Error) -> Error {
    move |error| Error { attempt, detail: error.to_string() }
}

/// Small: the sidecar's whole budget is 20 MB.
const CACHE: u64 = 1 << 20;
const MEMTABLE: u64 = 1 << 20;
/// The least that the store takes.
const JOURNAL: u64 = 64 << 20;

const BOOKMARK: &str = "bookmark";
const SETTINGS: &str = "settings";
/// As builds before the file had it.
const BEGUN: &str = "begun";
/// Deliveries up to this number have ended, as those up to the bookmark's have.
const ENDED: &str = "ended";
const ATTEMPTS: &str = "attempts";
const REMEMBERED: &str = "remembered";
const DIFFERS: &str = "differs";
const REBOOTED: &str = "rebooted";

/// The store.
pub(super) struct Store {
    db: Database,
    /// Single rows.
    state: Keyspace,
    /// SHA-256 of an identity → position and fingerprint.
    identities: Keyspace,
    /// Position → SHA-256 of the identity, to sweep by.
    positions: Keyspace,
    /// Position → what became of the command there.
    fates: Keyspace,
    deliveries: Deliveries,
}

/// What an identity is found by: its SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name([u8; 32]);

impl Name {
    pub(super) fn of(identity: &Identity) -> Self {
        let mut hash = Sha256::new();
        // Length first, or the two parts could trade bytes.
        hash.update((identity.source.len() as u64).to_be_bytes());
        hash.update(&identity.source);
        hash.update(&identity.id);
        Self(hash.finalize().into())
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

/// What the last life of the sidecar left.
#[derive(Debug, Default)]
pub(super) struct Left {
    pub(super) bookmark: Option<Bookmark>,
    pub(super) settings: Option<Settings>,
    pub(super) begun: Option<Begun>,
    pub(super) attempts: Attempts,
    /// Of before the application was rebuilt.
    pub(super) remembered: Option<Remembered>,
    pub(super) differs: Option<Differs>,
    /// Another boot's journal was thrown away for this one.
    pub(super) rebooted: bool,
}

/// An entry that was dealt with: all of it is written at once.
#[derive(Debug)]
pub(super) struct Dealt<'a> {
    pub(super) position: Position,
    /// What became of it; none for a control entry.
    pub(super) fate: Option<&'a Fate>,
    /// The identity that is known from now on.
    pub(super) identity: Option<(Name, Fingerprint)>,
    /// The settings that hold from now on.
    pub(super) settings: Option<&'a Settings>,
    /// Failed attempts, where they have changed with it.
    pub(super) attempts: Option<&'a Attempts>,
    /// The replay gave another digest than before.
    pub(super) differs: Option<Differs>,
    /// Those that hold for the window's and the outcomes' bounds.
    pub(super) bounds: decree_wire::settings::Dedup,
}

impl Store {
    /// Opens what was written in this boot, and throws away the rest.
    pub(super) fn open(folder: &Path, boot: &str) -> Result<(Self, Left), Error> {
        let io = |error: std::io::Error| Error { attempt: "open", detail: error.to_string() };
        fs::create_dir_all(folder).map_err(io)?;
        let (own, new) = (format!("journal-{boot}"), format!("journal-{boot}.new"));
        let (path, new) = (folder.join(own), folder.join(new));
        if new.exists() {
            fs::remove_dir_all(&new).map_err(io)?;
        }
        let others = others(folder, &path).map_err(io)?;
        if !path.exists() {
            // Made aside and renamed: a store that was killed while it was made is never opened. What it has to know of
            // the others stands in it before they are gone.
            let (store, _) = Self::at(&new)?;
            if !others.is_empty() {
                let mut batch = store.batch();
                store.put(&mut batch, REBOOTED, &true)?;
                commit(batch)?;
            }
            drop(store);
            fs::rename(new, &path).map_err(io)?;
        }
        for other in others {
            fs::remove_dir_all(other).map_err(io)?;
        }
        let (store, begun) = Self::at(&path)?;
        let bookmark = store.bookmark()?;
        let ended =
            bookmark.as_ref().map_or(0, |bookmark| bookmark.ended).max(store.row(ENDED)?.unwrap_or(0));
        store.deliveries.go_on_behind(ended);
        let begun = begun.filter(|(number, _)| *number > ended).map(|(_, begun)| begun);
        let left = Left {
            bookmark,
            settings: store.row(SETTINGS)?,
            begun: store.begun_before_the_file()?.or(begun),
            attempts: store.row(ATTEMPTS)?.unwrap_or_default(),
            remembered: store.row(REMEMBERED)?,
            differs: store.row(DIFFERS)?,
            rebooted: store.row(REBOOTED)?.unwrap_or_default(),
        };
        Ok((store, left))
    }

    /// What an older build left as begun; it counts here from now on.
    fn begun_before_the_file(&self) -> Result<Option<Begun>, Error> {
        let Some(begun) = self.row(BEGUN)? else { return Ok(None) };
        self.deliveries.begin(&begun)?;
        let mut batch = self.batch();
        batch.remove(&self.state, BEGUN);
        commit(batch)?;
        Ok(Some(begun))
    }

    fn at(path: &Path) -> Result<(Self, Option<(u64, Begun)>), Error> {
        let db = Database::builder(path)
            .cache_size(CACHE)
            .max_journaling_size(JOURNAL)
            .worker_threads(1)
            .open()
            .map_err(failed("open"))?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE);
        let keyspace = |name: &str| db.keyspace(name, options).map_err(failed("open"));
        let (deliveries, begun) = Deliveries::open(path)?;
        let store = Self {
            state: keyspace("state")?,
            identities: keyspace("identities")?,
            positions: keyspace("positions")?,
            fates: keyspace("fates")?,
            deliveries,
            db,
        };
        Ok((store, begun))
    }

    /// Written before a delivery begins.
    pub(super) fn begin(&self, begun: &Begun) -> Result<(), Error> {
        self.deliveries.begin(begun)
    }

    /// A delivery ended, and the application did not process it.
    pub(super) fn not_processed(&self, attempts: &Attempts) -> Result<(), Error> {
        let mut batch = self.batch();
        self.put(&mut batch, ENDED, &self.deliveries.number())?;
        self.put(&mut batch, ATTEMPTS, attempts)?;
        commit(batch)
    }

    /// A delivery ended in doubt: it counts, and stays begun.
    pub(super) fn in_doubt(&self, attempts: &Attempts) -> Result<(), Error> {
        let mut batch = self.batch();
        self.put(&mut batch, ATTEMPTS, attempts)?;
        commit(batch)
    }

    /// Begins anew for a new life of the application, all at once. Rows of before stay where they are: a replay is
    /// told of those before its own position only, and writes every one of them again.
    pub(super) fn forget(&self, remembered: Option<&Remembered>, attempts: &Attempts) -> Result<(), Error> {
        let mut batch = self.batch();
        for row in [BOOKMARK, SETTINGS] {
            batch.remove(&self.state, row);
        }
        self.put(&mut batch, ENDED, &self.deliveries.number())?;
        if let Some(remembered) = remembered {
            self.put(&mut batch, REMEMBERED, remembered)?;
        }
        self.put(&mut batch, ATTEMPTS, attempts)?;
        commit(batch)
    }

    /// The log's first settings, which govern from its start.
    pub(super) fn first(&self, bookmark: &Bookmark, settings: &Settings) -> Result<(), Error> {
        let mut batch = self.batch();
        self.put_bookmark(&mut batch, bookmark)?;
        self.put(&mut batch, SETTINGS, settings)?;
        commit(batch)
    }

    /// Rewrites the bookmark alone.
    pub(super) fn note(&self, bookmark: &Bookmark) -> Result<(), Error> {
        let mut batch = self.batch();
        self.put_bookmark(&mut batch, bookmark)?;
        commit(batch)
    }

    /// Records an entry as dealt with, and drops what is older than the bounds say. `bookmark` stands after the entry
    /// already; what is dropped is noted in it.
    pub(super) fn record(&self, dealt: &Dealt<'_>, bookmark: &mut Bookmark) -> Result<(), Error> {
        let mut batch = self.batch();
        let key = dealt.position.0.to_be_bytes();
        if let Some(fate) = dealt.fate {
            let bytes = fate.encode();
            bookmark.kept.count += 1;
            bookmark.kept.bytes += bytes.len() as u64;
            batch.insert(&self.fates, key, bytes);
            bookmark.ended = self.deliveries.number();
        }
        if let Some(attempts) = dealt.attempts {
            self.put(&mut batch, ATTEMPTS, attempts)?;
        }
        if let Some((Name(hash), fingerprint)) = dealt.identity {
            batch.insert(&self.identities, hash, [&key[..], &fingerprint.0].concat());
            batch.insert(&self.positions, key, hash);
        }
        if let Some(settings) = dealt.settings {
            self.put(&mut batch, SETTINGS, settings)?;
        }
        if let Some(differs) = dealt.differs {
            self.put(&mut batch, DIFFERS, &differs)?;
        }
        let floor = Position(dealt.position.0.saturating_sub(dealt.bounds.window));
        bookmark.floor = bookmark.floor.max(floor);
        self.sweep_identities(&mut batch, bookmark, dealt)?;
        self.sweep_fates(&mut batch, bookmark, dealt)?;
        self.put_bookmark(&mut batch, bookmark)?;
        commit(batch)
    }

    /// The command of this identity, also if it lies before the floor.
    pub(super) fn identity(&self, Name(hash): &Name) -> Result<Option<(Position, Fingerprint)>, Error> {
        self.place(hash)
    }

    /// What became of the command at a position, if it is kept.
    pub(super) fn fate(&self, position: Position) -> Result<Option<Fate>, Error> {
        let bytes = self.fates.get(position.0.to_be_bytes()).map_err(failed("read"))?;
        let Some(bytes) = bytes else { return Ok(None) };
        Fate::decode(Bytes::copy_from_slice(&bytes)).map(Some).ok_or_else(|| corrupt("a fate"))
    }

    fn place(&self, hash: &[u8]) -> Result<Option<(Position, Fingerprint)>, Error> {
        let Some(bytes) = self.identities.get(hash).map_err(failed("read"))? else { return Ok(None) };
        let (at, fingerprint) = bytes.split_at_checked(8).ok_or_else(|| corrupt("an identity"))?;
        let fingerprint = fingerprint.try_into().map_err(|_| corrupt("an identity"))?;
        Ok(Some((position(at)?, Fingerprint(fingerprint))))
    }

    fn bookmark(&self) -> Result<Option<Bookmark>, Error> {
        let Some(bytes) = self.state.get(BOOKMARK).map_err(failed("read"))? else { return Ok(None) };
        Bookmark::decode(&bytes).map(Some).ok_or_else(|| corrupt(BOOKMARK))
    }

    fn put_bookmark(&self, batch: &mut WriteBatch, bookmark: &Bookmark) -> Result<(), Error> {
        let bytes = bookmark.encode().map_err(|detail| Error { attempt: "write", detail })?;
        batch.insert(&self.state, BOOKMARK, bytes);
        Ok(())
    }

    fn row<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let Some(bytes) = self.state.get(key).map_err(failed("read"))? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|_| corrupt(key))
    }

    fn put<T: Serialize>(&self, batch: &mut WriteBatch, key: &str, row: &T) -> Result<(), Error> {
        let bytes = serde_json::to_vec(row).map_err(|e| Error { attempt: "write", detail: e.to_string() })?;
        batch.insert(&self.state, key, bytes);
        Ok(())
    }

    fn batch(&self) -> WriteBatch {
        self.db.batch().durability(Some(PersistMode::Buffer))
    }
}

/// Journals of other boots.
fn others(folder: &Path, own: &Path) -> std::io::Result<Vec<std::path::PathBuf>> {
    let mut others = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("journal-") && entry.path() != own {
            others.push(entry.path());
        }
    }
    Ok(others)
}

fn commit(batch: WriteBatch) -> Result<(), Error> {
    batch.commit().map_err(failed("write"))
}

fn corrupt(what: &str) -> Error {
    Error { attempt: "read", detail: format!("{what} can't be understood") }
}

fn position(key: &[u8]) -> Result<Position, Error> {
    key.try_into().map(|bytes| Position(u64::from_be_bytes(bytes))).map_err(|_| corrupt("a position"))
}
