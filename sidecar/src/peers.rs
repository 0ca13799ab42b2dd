//! Peers: calls between the sidecars of one engine, and the operator's to them, over HTTP/2 and mutual TLS. Knows nothing of
//! what is asked.
//!
//! ```text
//!   call ─▶ client ─▶ link (one kept connection a peer) ══ TLS, h2 ══▶ server ─▶ router
//!                       │                                                │
//!                       └──────────▶ identity ─ trust ◀──────────────────┘ who it is, or why it is refused
//! ```

pub mod caller;
pub mod client;
mod heard;
pub mod identity;
pub mod issued;
mod link;
pub mod refusal;
pub mod server;
mod tasks;
mod trust;
mod verifier;

/// A body beyond this is neither sent nor taken. The largest record fits, with what goes around it.
pub const BODY_BYTES: usize = 24 << 20;

/// Where a peer is, and which pod must answer there: an address may have become another pod's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The pod's name.
    pub pod: String,
    /// `host:port`.
    pub address: String,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", self.pod, self.address)
    }
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The peer has certainly not received it.
    #[error("call {target}: {why}")]
    NotSent {
        /// Whom.
        target: Target,
        /// Why not.
        why: String,
    },
    /// The peer may have received it, and may have done what was asked.
    #[error("wait for the answer of {target}: {why}")]
    NoAnswer {
        /// Whose.
        target: Target,
        /// What came instead.
        why: String,
    },
    /// The peer answered that it does not do that.
    #[error("call {target}: it answered {status}, {text}")]
    Refused {
        /// Who.
        target: Target,
        /// The HTTP status.
        status: u16,
        /// What it said.
        text: String,
    },
}

/// An error with all that caused it, for people.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
