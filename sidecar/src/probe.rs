//! The user's own liveness check of the application, run here because the kubelet asks the sidecar instead.
//!
//! ```text
//!   kubelet ─ every second ─▶ ask ─▶ (last verdict)
//!                              └─▶ run: when the user's period is over, one check ─▶ count
//! ```
//!
//! Nothing is checked as long as nobody asks: the kubelet begins once the container has started and its delay is over.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use decree_wire::probe::Liveness;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

mod check;
mod count;
#[cfg(test)]
mod tests;

use check::check;
use count::Count;

/// The user's own liveness check.
#[derive(Debug)]
pub struct Probe {
    liveness: Option<Liveness>,
    /// Where a check that names no host goes.
    ip: String,
    count: Mutex<Count>,
    asked: Notify,
}

impl Probe {
    /// Without `liveness` the application is taken to be alive.
    #[must_use]
    pub fn new(liveness: Option<Liveness>, ip: String) -> Self {
        Self { liveness, ip, count: Mutex::default(), asked: Notify::new() }
    }

    /// What is known now; answers at once.
    ///
    /// # Errors
    /// Why the application is to be restarted.
    pub fn ask(&self, now: Instant) -> Result<(), String> {
        let Some(liveness) = &self.liveness else { return Ok(()) };
        let mut count = self.count();
        if count.due(liveness, now) {
            self.asked.notify_one();
        }
        count.told(liveness)
    }

    /// Checks whenever that is due, until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let Some(liveness) = &self.liveness else { return stop.cancelled().await };
        let limit = Duration::from_secs(liveness.timeout_seconds.max(1).into());
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.asked.notified() => {}
            }
            self.count().begins(Instant::now());
            let checked = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                checked = tokio::time::timeout(limit, check(&liveness.check, &self.ip)) => checked,
            };
            let result = checked.unwrap_or_else(|_| Err(format!("no answer within {limit:?}")));
            if let Err(why) = &result {
                tracing::warn!(why, "the application's liveness check failed");
            }
            self.count().checked(result);
        }
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
