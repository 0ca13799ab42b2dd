//! The application, with a clock beside it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;

use super::Metrics;
use crate::app::{App, Connected, Delivery, End, Outcome, Unwell};

/// Passes everything on, and measures each delivery that is answered.
#[derive(Debug)]
pub struct Timed {
    app: Arc<dyn App>,
    metrics: Metrics,
}

impl Timed {
    /// Measures `app`.
    #[must_use]
    pub fn new(app: Arc<dyn App>, metrics: Metrics) -> Self {
        Self { app, metrics }
    }
}

#[async_trait]
impl App for Timed {
    async fn connect(&self) -> Result<Connected, Unwell> {
        self.app.connect().await
    }

    async fn disconnect(&self) {
        self.app.disconnect().await;
    }

    async fn deliver(&self, delivery: &Delivery<'_>) -> Result<Outcome, End> {
        let begun = Instant::now();
        let outcome = self.app.deliver(delivery).await?;
        self.metrics.applied(begun.elapsed(), since(delivery.place.log_time));
        Ok(outcome)
    }

    fn overdue_after(&self) -> Duration {
        self.app.overdue_after()
    }

    async fn healthy(&self) -> Result<(), Unwell> {
        self.app.healthy().await
    }
}

fn since(log_time: i64) -> Duration {
    let then = Duration::from_millis(u64::try_from(log_time).unwrap_or_default());
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(then)
}
