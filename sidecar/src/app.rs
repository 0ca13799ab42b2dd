//! The application: a port. It is sent one delivery at a time and knows nothing of logs.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use decree_wire::command::{Command, Identity};
use decree_wire::delivery::Place;

pub mod end;
pub mod http;
pub mod scripted;

/// The application beside this sidecar.
#[async_trait]
pub trait App: Send + Sync + fmt::Debug {
    /// Makes sure that a connection stands over which the next delivery goes.
    ///
    /// MUST answer [`Connected::Fresh`] whenever the connection is another one than before: it may lead to another life
    /// of the application. MUST NOT keep a connection that was idle for more than a second.
    async fn connect(&self) -> Result<Connected, Unwell>;

    /// Gives the connection up: the next [`App::connect`] makes another one.
    async fn disconnect(&self);

    /// Delivers over the connection that [`App::connect`] made, and waits as long as that connection lives.
    ///
    /// MUST NOT connect by itself, and MUST NOT answer [`End::NotConnected`] once a byte of the request was written.
    /// Callers MUST NOT run two at a time. Dropping it leaves the delivery in doubt.
    async fn deliver(&self, delivery: &Delivery<'_>) -> Result<Outcome, End>;

    /// Whether the application says that it is well, within a limit.
    async fn healthy(&self) -> Result<(), Unwell>;

    /// No answer to a delivery for so long, and the agent is reported overdue. The delivery goes on.
    fn overdue_after(&self) -> Duration;
}

/// Which connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connected {
    /// The one that the last delivery went over.
    Kept,
    /// A new one.
    Fresh,
}

/// A command on its way to the application.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// What is delivered.
    pub command: &'a Command,
    /// Which command it is.
    pub identity: &'a Identity,
    /// Where and when it stands in the log.
    pub place: Place<'a>,
}

/// The application's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// HTTP status.
    pub status: u16,
    /// End-to-end headers, in order, names in lower case, without `content-length`.
    pub headers: Vec<(String, Bytes)>,
    /// The body; empty if it was omitted.
    pub body: Bytes,
    /// Present where the body was too large to be kept: the same in every agent whose answers are the same.
    pub omitted: Option<Omitted>,
}

impl Outcome {
    /// How many bytes of memory or disk it takes, more or less.
    #[must_use]
    pub fn size(&self) -> u64 {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        (self.body.len() + headers + 16) as u64
    }
}

/// What is known of a body that was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Omitted {
    /// How long it was.
    pub bytes: u64,
    /// What it was.
    pub sha256: [u8; 32],
}

/// How a delivery ended without an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// Not a byte of the request was written: nothing was delivered.
    #[error("the application's connection was gone before the request: {0}")]
    NotConnected(String),
    /// The connection was lost after the request's first byte: the application may have acted on it.
    #[error("the connection was lost after the request's first byte: {0}")]
    Lost(String),
}

/// Why an application can't be delivered to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwell {
    /// Its port accepts no connection.
    #[error(
        "nothing accepts a connection on port {port} ({detail}); check agents[].app.port and the application's log"
    )]
    Unreachable {
        /// `agents[].app.port`.
        port: u16,
        /// What was seen.
        detail: String,
    },
    /// It says that it is not well.
    #[error("the application is not healthy: {detail}; check agents[].app.health and the application's log")]
    Unhealthy {
        /// What was seen.
        detail: String,
    },
}

impl Unwell {
    /// One word for Events and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "ApplicationUnreachable",
            Self::Unhealthy { .. } => "ApplicationUnhealthy",
        }
    }
}
