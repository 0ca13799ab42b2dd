//! The handle: what the rest of the sidecar asks a replica.

use decree_wire::command::Identity;
use decree_wire::heartbeat::Trouble;
use decree_wire::position::Position;
use tokio::sync::watch;

use super::Error;
use super::progress::Progress;
use super::resolution::{Known, Resolution};

/// What the rest of the sidecar asks a replica. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    progress: watch::Receiver<Progress>,
}

impl Default for Handle {
    fn default() -> Self {
        Self { progress: watch::channel(Progress::default()).1 }
    }
}

impl Handle {
    /// A command that this replica has dealt with, by its identity; none if it is not in the dedup window.
    ///
    /// # Errors
    /// If the store can't be read.
    pub fn known(&self, _identity: &Identity) -> Result<Option<Known>, Error> {
        Ok(None)
    }

    /// Waits until the replica has dealt with `position`, and says what became of it. Right also if it already has.
    ///
    /// The caller limits the wait. Dropping the future takes the waiter away.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn resolved(&self, _position: Position) -> Result<Resolution, Error> {
        Ok(Resolution::TooManyWaiters)
    }

    /// Where the replica is.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Whether the application that listens now is the one whose state is known: to be asked before each request that
    /// passes through to it, after the connection stands. Cheap.
    ///
    /// # Errors
    /// What to tell the client, with 503.
    pub fn application_known(&self) -> Result<(), Trouble> {
        Ok(())
    }
}
