//! The replica: follows the log, applies each entry to the application once and in order, and remembers where it is.
//!
//! ```text
//!   origin (incarnation, last record, first settings) ─▶ reader ─▶ step (pure) ─▶ deliver ─▶ store (one batch)
//!                                                                                              │
//!        Handle ◀── known, resolved, progress ◀────────────────────────────────────────────────┘
//! ```

use std::path::PathBuf;
use std::sync::Arc;

use decree_wire::position::{EngineName, Incarnation};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::life::Life;
use crate::log::Log;

mod handle;
mod progress;
mod resolution;

pub use handle::Handle;
pub use progress::{Application, Counts, Progress};
pub use resolution::{Known, Resolution};

/// What a replica is told when it is made.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whose log is followed.
    pub engine: EngineName,
    /// The uid of the cluster's `kube-system` namespace.
    pub cluster: String,
    /// The agent class.
    pub class: String,
    /// Whether the class replicates HTTP requests: a command that is none is void there.
    pub replicates: bool,
    /// The folder of the journal and the dedup window.
    pub state: PathBuf,
    /// The log's incarnation as the operator has it in the document; none until it is known. The replica waits for it.
    pub expected: watch::Receiver<Option<Incarnation>>,
}

/// Why a replica could not be opened, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal.
    #[error("{attempt}: {detail}")]
    Store {
        /// What was attempted.
        attempt: &'static str,
        /// What the store said.
        detail: String,
    },
}

/// The state machine of one agent.
#[derive(Debug)]
pub struct Replica {
    _config: Config,
    _log: Arc<dyn Log>,
    _app: Arc<dyn App>,
    _life: Arc<dyn Life>,
    _handle: Handle,
}

impl Replica {
    /// Opens the journal in [`Config::state`] and finds out where the last life of the sidecar stopped.
    ///
    /// # Errors
    /// If the folder can't be used, or holds what this build can't read.
    pub fn open(
        config: Config,
        log: Arc<dyn Log>,
        app: Arc<dyn App>,
        life: Arc<dyn Life>,
    ) -> Result<(Self, Handle), Error> {
        let handle = Handle::default();
        Ok((Self { _config: config, _log: log, _app: app, _life: life, _handle: handle.clone() }, handle))
    }

    /// Follows the log until `stop`. A halted replica goes on answering [`Handle`] and ends only at `stop`.
    ///
    /// A delivery in flight at `stop` is waited for; the caller limits that by dropping the future, which leaves the
    /// delivery in doubt.
    ///
    /// # Errors
    /// If the store failed: nothing can be promised any more, the process must end.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        stop.cancelled().await;
        Ok(())
    }
}
