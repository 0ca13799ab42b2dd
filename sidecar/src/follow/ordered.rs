//! What orders the engine's commands, opened: the log, and what is to be kept going beside it.

use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::BoxFuture;

use crate::log::{self, Log};

/// Opened, whichever it is.
pub(super) struct Ordered {
    pub(super) log: Arc<dyn Log>,
    /// Runs until the engine ends.
    pub(super) keep: BoxFuture<'static, Result<(), Error>>,
}

/// Why what orders can't be opened, or can't go on. The process ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The peers' port is taken, or may not be used.
    #[error("listen for peers on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The member's disk can't be used, or is another group's.
    #[error("open the group's log: {0}")]
    Log(#[from] log::Error),
    /// The document's members are others.
    #[error(
        "find pod {0} among group.fixed.members of the document; add it there, or correct the pod's name"
    )]
    Stranger(String),
    /// The member can't go on.
    #[error("go on as a member of the group: {0}")]
    Member(String),
}
