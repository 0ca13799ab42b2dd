//! A place in the log, and the names of a log and of what was written there.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An entry's place in the log: a Kafka offset, or a group's base plus the Raft index.
///
/// Monotonic, not contiguous: transaction markers and aborted records use up positions that hold no entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub u64);

impl Position {
    /// The position behind this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which life of a log this is: Kafka's topic id, or a group's genesis.
///
/// A log that was deleted and made again has the same name and another incarnation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub String);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An engine's namespace and name: by these a log is known again as the engine's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EngineName {
    /// The Kubernetes namespace.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl fmt::Display for EngineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// 64 bits that are the same in every agent for one entry: an application's seed in place of a random generator.
///
/// The first eight bytes, big endian, of SHA-256 over the incarnation, a zero byte and the position (big endian).
#[must_use]
pub fn seed(incarnation: &Incarnation, position: Position) -> u64 {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    hash.update(incarnation.0.as_bytes());
    hash.update([0]);
    hash.update(position.0.to_be_bytes());
    let bytes: [u8; 32] = hash.finalize().into();
    u64::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_depends_on_incarnation_and_position_alone() {
        let a = Incarnation("a".into());
        assert_eq!(seed(&a, Position(7)), seed(&a.clone(), Position(7)));
        assert_ne!(seed(&a, Position(7)), seed(&a, Position(8)));
        assert_ne!(seed(&a, Position(7)), seed(&Incarnation("b".into()), Position(7)));
    }
}
