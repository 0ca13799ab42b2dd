//! Where and how deliveries go.

use std::time::Duration;

use http::HeaderMap;

/// Where and how deliveries go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The application's port, on localhost.
    pub port: u16,
    /// What is requested there.
    pub target: Target,
    /// The path that answers 2xx or 3xx when the application is well; none: the port accepts a connection.
    pub health_path: Option<String>,
    /// No answer for so long, and the agent is reported overdue.
    pub overdue_after: Duration,
    /// What every delivery gets, and nothing else that is sent there.
    pub deliver_headers: HeaderMap,
}

/// What a delivery requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Each command is POSTed to this path.
    Apply {
        /// Begins with `/`.
        path: String,
    },
    /// Replicated requests are sent as they were.
    Replicate,
}
