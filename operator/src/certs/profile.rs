//! What an authority is for: its certificates' names, their use, and how fast it may be replaced.

use std::time::Duration;

use rcgen::ExtendedKeyUsagePurpose;

const HOUR: Duration = Duration::from_secs(60 * 60);
/// A sidecar's certificate lives for so long: an operator that is away for a night stops nobody.
pub const PEER_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// What the certificate beside an authority must be good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A host's.
    Dns(String),
    /// A peer's.
    Uri(String),
}

/// What an authority is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// One word, which the certificates' subjects begin with.
    pub word: &'static str,
    /// What the operator's own certificate is good for.
    pub names: Vec<Name>,
    /// As whom it is shown.
    pub shown_as: ExtendedKeyUsagePurpose,
    /// What was announced has to be trusted for so long before it signs: not everybody learns of it at once.
    pub settle: Duration,
    /// For so long after a new authority began to sign, the old one stays trusted.
    pub overlap: Duration,
}

impl Profile {
    /// The webhook, under these names.
    #[must_use]
    pub fn webhook(names: impl IntoIterator<Item = String>) -> Self {
        Self {
            word: "decree-webhook",
            names: names.into_iter().map(Name::Dns).collect(),
            shown_as: ExtendedKeyUsagePurpose::ServerAuth,
            // Several API servers learn of it one by one.
            settle: Duration::from_secs(10),
            // An operator that can't read the Secret is ready no more well before, so that nobody serves the old
            // certificate then.
            overlap: Duration::from_secs(15 * 60),
        }
    }

    /// The peers of a group, and the operator under this name.
    #[must_use]
    pub fn peers(operator: String) -> Self {
        Self {
            word: "decree-peers",
            names: vec![Name::Uri(operator)],
            shown_as: ExtendedKeyUsagePurpose::ClientAuth,
            // With every certificate a sidecar gets the authorities too: when all from before have ended, all know.
            settle: PEER_LIFE.saturating_add(HOUR.saturating_mul(2)),
            overlap: PEER_LIFE.saturating_add(HOUR.saturating_mul(2)),
        }
    }
}
