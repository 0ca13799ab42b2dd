//! Which life of the application this is: a port. An application that restarted has lost what was applied to it.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

pub mod boot;
pub mod listener;
pub mod scripted;
pub mod system;
pub mod verdict;

/// Sees which life of the application listens now.
pub trait Life: Send + Sync + fmt::Debug {
    /// The life that listens on the application's port now; none if nothing does.
    ///
    /// MUST answer equal incarnations only for one and the same life. MUST be cheap: it is asked at each connect and
    /// before each read that passes through.
    fn current(&self) -> Result<Option<Incarnation>, Error>;

    /// The boot that this process runs in: what was only in the page cache of another one may be lost.
    fn boot(&self) -> Result<String, Error>;
}

/// A life of the application: the machine's boot, and the sockets that listen on its port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incarnation {
    /// Changes when the machine was started anew.
    pub boot: String,
    /// The inodes of all sockets that listen on the application's port; unique within a boot.
    pub listeners: BTreeSet<u32>,
}

impl Incarnation {
    /// Whether it is one that could not be seen.
    #[must_use]
    pub fn is_unseen(&self) -> bool {
        self.listeners.is_empty()
    }

    /// A life that can't be seen: no other one is it.
    #[must_use]
    pub fn unseen() -> Self {
        Self { boot: String::new(), listeners: BTreeSet::new() }
    }

    /// Whether nothing is left of that `other` life. As long as one of its listeners is there, so is its state.
    #[must_use]
    pub fn succeeds(&self, other: &Self) -> bool {
        let seen = !self.listeners.is_empty() && !other.listeners.is_empty();
        seen && (self.boot != other.boot || self.listeners.is_disjoint(&other.listeners))
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "listeners {:?} of boot {}", self.listeners, self.boot)
    }
}

/// Why the application's life can't be seen. It counts as a new life, every time.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The boot id.
    #[error("read the machine's boot id: {0}")]
    Boot(#[source] std::io::Error),
    /// The listening sockets.
    #[error("ask the kernel for sockets that listen on port {port}: {detail}")]
    Listeners {
        /// The application's port.
        port: u16,
        /// What the kernel said.
        detail: String,
    },
}
