//! Control entries: what Decree itself writes to the log, between the commands.

use serde::{Deserialize, Serialize};

use crate::settings::Settings;
use crate::shown::shown;

/// A control entry. Every kind that a replica does not know stops it: skipping one would part it from its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// What decides what a replica does, from here on.
    Settings(Settings),
    /// An agent asks to be told when its own replica has come this far: a linearizable read.
    Barrier(Barrier),
    /// A kind of a later version, or a value that cannot be read. The agent stops here.
    Unknown {
        /// What follows `dev.decree.control.` in the type.
        kind: String,
        /// Why it cannot be obeyed.
        reason: String,
    },
}

/// The value of a `barrier` control entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Barrier {
    /// The pod that asked: for people who read the log.
    pub agent: String,
}

/// A value larger than this is none that Decree wrote; reading it could take any amount of memory.
const MAX_VALUE: usize = 256 << 10;

const SETTINGS: &str = "settings";
const BARRIER: &str = "barrier";

impl Control {
    /// The kind, as it stands in the record's type.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::Settings(_) => SETTINGS,
            Self::Barrier(_) => BARRIER,
            Self::Unknown { kind, .. } => kind,
        }
    }

    /// The record's value as JSON; none for what cannot be written.
    ///
    /// # Errors
    /// If the value has no JSON form, or is of an unknown kind, which nobody may append.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        match self {
            Self::Settings(settings) => serde_json::to_vec(settings),
            Self::Barrier(barrier) => serde_json::to_vec(barrier),
            Self::Unknown { kind, .. } => {
                Err(serde::ser::Error::custom(format!("control entry of unknown kind {kind:?}")))
            }
        }
    }

    /// Reads a control entry. Never fails: what can't be read is [`Control::Unknown`].
    #[must_use]
    pub fn decode(kind: &str, value: &[u8]) -> Self {
        if value.len() > MAX_VALUE {
            return Self::unknown(
                kind,
                format!("its value has {} bytes, of {MAX_VALUE} at most", value.len()),
            );
        }
        let read = match kind {
            SETTINGS => serde_json::from_slice(value).map(Self::Settings),
            BARRIER => serde_json::from_slice(value).map(Self::Barrier),
            _ => return Self::unknown(kind, "this version of Decree does not know it".into()),
        };
        read.unwrap_or_else(|error| {
            Self::unknown(kind, format!("its value can't be read: {}", shown(&error.to_string())))
        })
    }

    fn unknown(kind: &str, reason: String) -> Self {
        Self::Unknown { kind: kind.to_owned(), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_or_a_field_of_a_later_version_is_unknown_and_not_dropped() {
        assert!(matches!(Control::decode("freeze", b"{}"), Control::Unknown { .. }));
        let later = br#"{"engine":{"namespace":"a","name":"b"},"cluster":"c","dedup":{"window":1,"outcomes":1,"outcomeBytes":1},"classes":{},"more":1}"#;
        assert!(matches!(Control::decode("settings", later), Control::Unknown { .. }));
    }

    #[test]
    fn a_value_of_garbage_is_unknown_and_said_in_few_words() {
        for value in [&b""[..], b"null", b"{}", b"\xff\x00", &[b'['; 100_000], &[b' '; 300_000]] {
            for kind in ["settings", "barrier", "freeze"] {
                let Control::Unknown { reason, .. } = Control::decode(kind, value) else {
                    panic!("{kind} {value:?} was read");
                };
                assert!(reason.len() < 200, "{reason}");
            }
        }
        let long = format!("{{\"{}\":1}}", "x".repeat(100_000));
        let Control::Unknown { reason, .. } = Control::decode("settings", long.as_bytes()) else { panic!() };
        assert!(reason.len() < 200, "{reason}");
    }

    #[test]
    fn an_unknown_kind_is_never_written() {
        assert!(Control::decode("freeze", b"{}").encode().is_err());
    }
}
