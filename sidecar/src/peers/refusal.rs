//! Why a peer is refused, counted and told: a line a reason at most every few seconds, whoever floods the port.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::Metrics;

/// So long nothing more is said of one reason.
const QUIET: Duration = Duration::from_secs(10);

/// Why, in one word: the metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No TLS, or no end of the handshake in time.
    Handshake,
    /// It showed no certificate.
    NoCertificate,
    /// Its certificate's time is over.
    Expired,
    /// Its certificate's time has not come.
    NotYetValid,
    /// None of the authorities known here vouches for it.
    Authority,
    /// Its certificate names no agent.
    Name,
    /// It is an agent of another engine, namespace or cluster.
    Engine,
    /// Its pod was deleted.
    Gone,
    /// Another pod answers at the address of the one that was called.
    Pod,
    /// There are too many connections, or handshakes that do not end.
    Crowded,
    /// What it asked for is not for its kind of caller.
    Forbidden,
}

impl Reason {
    /// As metrics have it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::NoCertificate => "no_certificate",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Authority => "authority",
            Self::Name => "name",
            Self::Engine => "engine",
            Self::Gone => "gone",
            Self::Pod => "pod",
            Self::Crowded => "crowded",
            Self::Forbidden => "forbidden",
        }
    }
}

/// Who is refused and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// The name on its certificate, as far as there is one. Nobody may have vouched for it.
    pub claimed: Option<String>,
    /// In words for a person.
    pub message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.claimed {
            Some(claimed) => write!(f, "{} ({claimed})", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// Counts refusals, and tells of them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Refusals {
    metrics: Metrics,
    told: Arc<Mutex<HashMap<Reason, Told>>>,
}

#[derive(Debug)]
struct Told {
    at: Instant,
    unsaid: u64,
}

impl Refusals {
    /// Counted there.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self { metrics, told: Arc::default() }
    }

    /// Someone at that address was refused.
    pub fn note(&self, remote: SocketAddr, refusal: &Refusal) {
        self.metrics.peer_refused(refusal.reason.label());
        let Some(unsaid) = self.may_say(refusal.reason, Instant::now()) else { return };
        let (reason, claimed) = (refusal.reason.label(), refusal.claimed.as_deref().unwrap_or_default());
        tracing::warn!(%remote, reason, claimed, unsaid, why = refusal.message, "refused a peer");
    }

    /// How many of that reason were not told of since the last one; none: this one is not told of either.
    fn may_say(&self, reason: Reason, now: Instant) -> Option<u64> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match told.get_mut(&reason) {
            Some(last) if now.saturating_duration_since(last.at) < QUIET => {
                last.unsaid += 1;
                None
            }
            last => {
                let unsaid = last.map_or(0, |last| last.unsaid);
                told.insert(reason, Told { at: now, unsaid: 0 });
                Some(unsaid)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_line_and_a_count() {
        let refusals = Refusals::new(Metrics::default());
        let now = Instant::now();
        assert_eq!(refusals.may_say(Reason::Handshake, now), Some(0));
        for _ in 0..5 {
            assert_eq!(refusals.may_say(Reason::Handshake, now + QUIET / 2), None);
        }
        assert_eq!(refusals.may_say(Reason::Engine, now), Some(0), "another reason is other news");
        assert_eq!(refusals.may_say(Reason::Handshake, now + QUIET), Some(5));
        assert_eq!(refusals.may_say(Reason::Handshake, now + QUIET * 2), Some(0));
    }
}
