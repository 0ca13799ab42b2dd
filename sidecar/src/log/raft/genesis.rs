//! How a group began, as each of its members keeps it on its disk.

use decree_wire::group::{self, Durability, MemberId};
use decree_wire::position::{Incarnation, Position};
use serde::{Deserialize, Serialize};

/// How a group began. Never changed on a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Genesis {
    /// Which life of the group this is.
    pub incarnation: Incarnation,
    /// The position of Raft index 0: behind all of the lives before.
    pub base: Position,
    /// Who began it; none where its members are written down, and decide that by themselves.
    pub first: Option<MemberId>,
    /// When a proposer is answered.
    pub durability: Durability,
}

impl Genesis {
    /// Of a group whose members are written down.
    #[must_use]
    pub fn fixed(incarnation: Incarnation) -> Self {
        Self { incarnation, base: Position(0), first: None, durability: Durability::default() }
    }

    /// As the operator decided it; none where it did not.
    #[must_use]
    pub fn decided(&self) -> Option<group::Genesis> {
        let Self { incarnation, base, first, durability } = self.clone();
        Some(group::Genesis { incarnation, base, first: first?, durability })
    }
}

impl From<group::Genesis> for Genesis {
    fn from(decided: group::Genesis) -> Self {
        let group::Genesis { incarnation, base, first, durability } = decided;
        Self { incarnation, base, first: Some(first), durability }
    }
}
