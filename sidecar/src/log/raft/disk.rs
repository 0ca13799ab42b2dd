//! A member's disk: the member's id is made with it, and it belongs to one group, from the moment that this is decided.

use std::path::{Path, PathBuf};

use super::genesis::Genesis;
use super::measures::Measures;
use super::store::Store;
use super::types::MemberId;
use crate::log::Error;

/// A member's disk. A handle.
#[derive(Clone, Debug)]
pub struct Disk {
    store: Store,
    folder: PathBuf,
    measures: Measures,
}

impl Disk {
    /// Opens the disk in this folder; makes it where there is none.
    ///
    /// # Errors
    /// If the folder can't be used, or what is in it is damaged.
    pub async fn open(folder: PathBuf, measures: Measures) -> Result<Self, Error> {
        let unusable = |error: &dyn std::fmt::Display| Error::Invalid(error.to_string());
        let (at, synced) = (folder.clone(), measures.synced.clone());
        let store = tokio::task::spawn_blocking(move || Store::open(&at, synced, new_id));
        let store = store.await.map_err(|error| unusable(&error))?.map_err(|error| unusable(&error))?;
        Ok(Self { store, folder, measures })
    }

    /// The member's id: made with its disk.
    #[must_use]
    pub fn id(&self) -> MemberId {
        self.store.id()
    }

    /// The group that it belongs to; none before that is decided.
    #[must_use]
    pub fn genesis(&self) -> Option<&Genesis> {
        self.store.genesis()
    }

    /// Whether it holds something of a group: entries, or a vote.
    #[must_use]
    pub fn begun(&self) -> bool {
        self.store.begun()
    }

    /// Belongs to this group from now on. Durable when it returns; again is no error.
    ///
    /// # Errors
    /// If it belongs to another one, or can't be written.
    pub async fn adopt(&self, genesis: Genesis) -> Result<(), Error> {
        let adopted = self.store.adopt(genesis.clone()).await;
        let own = adopted.map_err(|error| Error::Invalid(error.to_string()))?;
        if *own == genesis {
            return Ok(());
        }
        let (found, asked) = (&own.incarnation, &genesis.incarnation);
        Err(Error::Replaced(format!("this disk is of incarnation {found}, the group of {asked}")))
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn measures(&self) -> &Measures {
        &self.measures
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

/// 52 bits of chance: exact in JSON, and never given twice in a group.
fn new_id() -> MemberId {
    let bits = uuid::Uuid::new_v4().as_u64_pair().0;
    (bits >> 12).max(1)
}
