//! A group's genesis, which is decided once, and the names of its members.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::position::{Incarnation, Position};

/// A member's id: drawn with its disk, gone with it, and never given twice.
///
/// Sixteen hexadecimal digits in text: not every reader of JSON holds 64 bits in a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// No member's id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("read {0:?} as a member's id: sixteen hexadecimal digits")]
pub struct NoMemberId(String);

impl FromStr for MemberId {
    type Err = NoMemberId;

    fn from_str(text: &str) -> Result<Self, NoMemberId> {
        let digits = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let id = u64::from_str_radix(text, 16).ok().filter(|_| digits);
        id.map(Self).ok_or_else(|| NoMemberId(text.to_owned()))
    }
}

impl Serialize for MemberId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MemberId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What a group begins with. Never changed: a group that can't go on gets another one, which names another incarnation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Genesis {
    /// The group's log, in this life. Peers of another one are refused.
    pub incarnation: Incarnation,
    /// The position of Raft index 0: above every position of the incarnations before.
    pub base: Position,
    /// The member that begins the group. No other may.
    pub first: MemberId,
    /// When a proposer is answered.
    #[serde(default)]
    pub durability: Durability,
}

/// When a proposer is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Durability {
    /// When a quorum of the voters has it on disk.
    #[default]
    Quorum,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_text_of_one_form() {
        let id = MemberId(0x1f);
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"000000000000001f\"");
        assert_eq!("000000000000001f".parse(), Ok(id));
        assert_eq!(serde_json::from_str::<MemberId>("\"ffffffffffffffff\"").unwrap(), MemberId(u64::MAX));
        for other in ["1f", "", "000000000000001F", "+00000000000001f", "000000000000001g"] {
            assert!(other.parse::<MemberId>().is_err(), "{other}");
        }
    }
}
