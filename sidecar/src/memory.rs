//! Memory that is no longer used goes back to the kernel: what a crowd of clients took is not kept for ever.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// It takes a millisecond, and about 15 where a crowd has just left.
const EVERY: Duration = Duration::from_secs(10);

/// Gives back what is free, now and then, until `stop`.
pub(crate) async fn run(stop: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        // Beside the workers, which would keep clients waiting. It fails only where the process ends.
        let _ = tokio::task::spawn_blocking(decree_kafka::trim).await;
    }
}
