//! The application over HTTP: one kept connection to localhost, one delivery at a time.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::{App, Connected, Delivery, End, Outcome, Unwell};

mod answer;
mod connection;
mod health;
mod request;
mod settings;

use connection::{Connection, Failure};
pub use settings::{Settings, Target};

/// The application over HTTP.
#[derive(Debug)]
pub struct HttpApp {
    settings: RwLock<Arc<Settings>>,
    connection: Mutex<Option<Connection>>,
}

impl HttpApp {
    /// Nothing is connected before it is needed.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings: RwLock::new(Arc::new(settings)), connection: Mutex::new(None) }
    }

    /// Takes other settings; they hold from the next call on.
    pub fn configure(&self, settings: Settings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl App for HttpApp {
    async fn connect(&self) -> Result<Connected, Unwell> {
        let mut kept = self.connection.lock().await;
        if let Some(connection) = kept.as_mut()
            && connection.usable().await
        {
            return Ok(Connected::Kept);
        }
        *kept = None;
        let settings = self.settings();
        if settings.health_path.is_some() {
            health::check(&settings).await?;
        }
        let port = settings.port;
        let connection =
            Connection::open(port).await.map_err(|detail| Unwell::Unreachable { port, detail })?;
        *kept = Some(connection);
        Ok(Connected::Fresh)
    }

    async fn disconnect(&self) {
        *self.connection.lock().await = None;
    }

    async fn deliver(&self, delivery: &Delivery<'_>) -> Result<Outcome, End> {
        let mut kept = self.connection.lock().await;
        // Taken out: whatever ends this before the answer's end, the connection is not used again.
        let Some(mut connection) = kept.take() else {
            return Err(End::NotConnected("nothing is connected".into()));
        };
        if !connection.usable().await {
            return Err(End::NotConnected("the application closed it".into()));
        }
        let Some(request) = request::of(delivery, &self.settings()) else {
            return Err(End::NotConnected("the command can't be put as an HTTP request".into()));
        };
        let answer = connection.send(request).await.map_err(|failure| match failure {
            Failure::Unsent(detail) => End::NotConnected(detail),
            Failure::Sent(detail) => End::Lost(detail),
        })?;
        let (head, body) = answer.into_parts();
        let body = connection.drive(answer::body(body)).await;
        let (body, omitted) = body.map_err(|e| End::Lost(connection::describe(&e)))?;
        connection.rest();
        *kept = Some(connection);
        Ok(Outcome {
            status: head.status.as_u16(),
            headers: answer::end_to_end(&head.headers),
            body,
            omitted,
        })
    }

    async fn healthy(&self) -> Result<(), Unwell> {
        health::check(&self.settings()).await
    }

    fn overdue_after(&self) -> Duration {
        self.settings().overdue_after
    }
}
