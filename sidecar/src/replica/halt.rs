//! Why following the log ended, for now or for good.

use std::time::Duration;

use decree_wire::heartbeat::Trouble;
use tokio_util::sync::CancellationToken;

use super::store;

/// Why following the log ended.
#[derive(Debug)]
pub(super) enum Halt {
    /// It was asked to.
    Stopped,
    /// It can go on after a while.
    Wait(Trouble),
    /// Only a person, or the pod's next life, can mend it. Other agents may go on.
    For(Trouble),
    /// The log itself: no agent goes on, and only a person can mend it.
    ForAll(Trouble),
    /// A command was tried as often as the settings allow. The application is kept as it was before it.
    Poisoned(Trouble),
    /// The application's state is not known.
    Unknown,
    /// The store failed.
    Failed(store::Error),
}

impl From<store::Error> for Halt {
    fn from(error: store::Error) -> Self {
        Self::Failed(error)
    }
}

const FIRST: Duration = Duration::from_millis(50);
const LAST: Duration = Duration::from_secs(5);
/// An application that starts is not kept waiting for longer.
const ABSENT: Duration = Duration::from_millis(500);

/// Waits that double, from 50 ms to 5 s.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Backoff {
    /// Waits, unless it is to stop.
    pub(super) async fn pause(&mut self, stop: &CancellationToken) -> Result<(), Halt> {
        self.pause_until(stop, LAST).await
    }

    /// The same for an application that is not there: it is looked for more often.
    pub(super) async fn absent(&mut self, stop: &CancellationToken) -> Result<(), Halt> {
        self.pause_until(stop, ABSENT).await
    }

    async fn pause_until(&mut self, stop: &CancellationToken, last: Duration) -> Result<(), Halt> {
        let wait = self.0.min(last);
        self.0 = (wait * 2).min(last);
        tokio::select! {
            biased;
            () = stop.cancelled() => Err(Halt::Stopped),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }
}
