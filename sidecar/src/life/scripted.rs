//! An application's life as a test wants it.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::{Error, Incarnation, Life};

/// A life that a test sets.
#[derive(Debug)]
pub struct ScriptedLife(Mutex<Option<Incarnation>>);

impl ScriptedLife {
    /// An application whose listening socket has this inode.
    #[must_use]
    pub fn new(inode: u32) -> Self {
        Self(Mutex::new(Some(incarnation(inode))))
    }

    /// The application restarts: from now on another socket listens.
    pub fn restart(&self, inode: u32) {
        self.set(Some(incarnation(inode)));
    }

    /// Nothing listens any more.
    pub fn stop(&self) {
        self.set(None);
    }

    fn set(&self, life: Option<Incarnation>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = life;
    }
}

fn incarnation(inode: u32) -> Incarnation {
    Incarnation { boot: BOOT.to_owned(), listeners: BTreeSet::from([inode]) }
}

const BOOT: &str = "boot";

impl Life for ScriptedLife {
    fn current(&self) -> Result<Option<Incarnation>, Error> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn boot(&self) -> Result<String, Error> {
        Ok(BOOT.to_owned())
    }
}
