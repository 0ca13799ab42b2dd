//! Looks after what changes while nothing is delivered: the application's health, the log's end, the lag.

use std::sync::Arc;
use std::time::Duration;

use super::board::Board;
use super::trouble;
use crate::app::App;
use crate::log::Log;

const TICK: Duration = Duration::from_secs(1);
/// A reader that is busy or lost hears nothing of the log's end; after so long it is asked for.
const HEARD: Duration = Duration::from_secs(5);

/// Watches for ever.
pub(super) async fn run(board: Arc<Board>, app: Arc<dyn App>, log: Arc<dyn Log>) {
    loop {
        let health = app.healthy().await.map_err(|unwell| trouble::unwell(&unwell));
        board.health(health);
        if board.heard().is_some_and(|heard| heard.elapsed() >= HEARD)
            && let Ok(head) = log.head().await
        {
            board.end(head);
        }
        tokio::time::sleep(TICK).await;
    }
}
