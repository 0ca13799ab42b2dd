//! What the store holds, and its bytes.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes};
use decree_wire::heartbeat;
use decree_wire::position::{Incarnation, Position};
use serde::{Deserialize, Serialize};

use super::progress::Tally;
use crate::app::{Omitted, Outcome};
use crate::life::{self, verdict};
use crate::log::Mark;

/// Where the replica stands. Written with each entry, together with everything that the entry changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bookmark {
    /// The log that is followed.
    pub(super) incarnation: Incarnation,
    /// The last entry dealt with, and what it is known again by; none before the first.
    pub(super) last: Option<Last>,
    /// Log time made monotonic.
    pub(super) log_time: i64,
    /// The digest.
    pub(super) chain: Chain,
    /// Identities of entries before this are forgotten. Never goes back: what one replica forgot, all forgot.
    pub(super) floor: Position,
    /// Identities of entries before this are off the disk too.
    pub(super) swept: Position,
    /// What is kept of the newest entries.
    pub(super) kept: Kept,
    /// The life of the application that holds what was applied; none as long as nothing was.
    pub(super) life: Option<life::Incarnation>,
    /// Whether the head known at a sidecar's start was ever reached.
    pub(super) reached: bool,
    /// The log is being replayed to a new life of the application.
    #[serde(default)]
    pub(super) rebuilding: bool,
    /// Deliveries up to this number have ended.
    #[serde(default)]
    pub(super) ended: u64,
}

/// A bookmark's first byte: how the rest is to be read.
const BOOKMARK_FORMAT: u8 = 1;

/// The last entry dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Last {
    pub(super) position: Position,
    pub(super) mark: Mark,
}

/// The digest's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Chain {
    pub(super) hash: [u8; 32],
    /// At the first entry past the last multiple of 256.
    pub(super) compared: Option<heartbeat::Digest>,
}

/// Which fates are kept: all from a position on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) from: Position,
    pub(super) count: u64,
    pub(super) bytes: u64,
}

impl Bookmark {
    pub(super) fn new(incarnation: Incarnation) -> Self {
        Self {
            incarnation,
            last: None,
            log_time: 0,
            chain: Chain::default(),
            floor: Position(0),
            swept: Position(0),
            kept: Kept::default(),
            life: None,
            reached: false,
            rebuilding: false,
            ended: 0,
        }
    }

    /// Small: it is written with each entry.
    pub(super) fn encode(&self) -> Result<Vec<u8>, String> {
        let bytes = Vec::with_capacity(320);
        let bytes = postcard::to_extend(&BOOKMARK_FORMAT, bytes).map_err(|error| error.to_string())?;
        postcard::to_extend(self, bytes).map_err(|error| error.to_string())
    }

    /// None for bytes that no build of this level wrote.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (&BOOKMARK_FORMAT, rest) => postcard::from_bytes(rest).ok(),
            // As builds before wrote it.
            (b'{', _) => serde_json::from_slice(bytes).ok(),
            _ => None,
        }
    }

    pub(super) fn position(&self) -> Option<Position> {
        self.last.as_ref().map(|last| last.position)
    }

    /// The next position wanted.
    pub(super) fn next(&self) -> Position {
        self.position().map_or(Position(0), Position::next)
    }
}

/// A delivery that was begun. While this row is there, nobody can say whether the application acted on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begun {
    pub(super) position: Position,
    pub(super) attempt: u32,
    pub(super) life: life::Incarnation,
    pub(super) idempotent: bool,
}

impl Begun {
    pub(super) fn standing(&self) -> verdict::Begun {
        verdict::Begun { position: self.position, life: self.life.clone(), idempotent: self.idempotent }
    }
}

/// Failed attempts by position, over all lives of the sidecar and of the application. A position's are forgotten when
/// it is applied: a replay that passes earlier ones leaves the others as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Attempts {
    pub(super) failed: BTreeMap<Position, u32>,
    /// Where they have become as many as the settings allow.
    pub(super) poisoned: Option<Position>,
    /// What became of deliveries and lives, since the journal began.
    pub(super) tally: Tally,
}

impl Attempts {
    pub(super) fn at(&self, position: Position) -> u32 {
        self.failed.get(&position).copied().unwrap_or_default()
    }

    /// The attempt of that number failed; to say so again changes nothing. Whether it is poison now.
    pub(super) fn fail(&mut self, position: Position, attempt: u32, most: u32) -> bool {
        let failed = self.failed.entry(position).or_default();
        *failed = (*failed).max(attempt);
        let poison = *failed >= most.max(1);
        if poison {
            self.poisoned = Some(position);
        }
        poison
    }

    /// It was applied. Whether that is news.
    pub(super) fn passed(&mut self, position: Position) -> bool {
        self.failed.remove(&position).is_some()
    }
}

/// What a replica remembers of before its application was rebuilt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remembered {
    /// The log.
    pub(super) incarnation: Incarnation,
    /// The last entry that was dealt with: the replay must come by it.
    pub(super) last: Last,
    /// The digest there: the replay must give it again.
    pub(super) hash: [u8; 32],
}

/// Where a replay gave another digest than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Differs {
    pub(super) position: Position,
}

/// What became of a command entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Applied(Outcome),
    Duplicate(Position),
    Reused(Position),
    Void(String),
}

impl Fate {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        match self {
            Self::Applied(outcome) => {
                out.put_u8(0);
                encode_outcome(outcome, &mut out);
            }
            Self::Duplicate(of) => {
                out.put_u8(1);
                out.put_u64(of.0);
            }
            Self::Reused(of) => {
                out.put_u8(2);
                out.put_u64(of.0);
            }
            Self::Void(why) => {
                out.put_u8(3);
                out.put_slice(why.as_bytes());
            }
        }
        out
    }

    /// None for bytes that no build of this level wrote.
    pub(super) fn decode(mut bytes: Bytes) -> Option<Self> {
        match bytes.try_get_u8().ok()? {
            0 => decode_outcome(&mut bytes).map(Self::Applied),
            1 => Some(Self::Duplicate(Position(bytes.try_get_u64().ok()?))),
            2 => Some(Self::Reused(Position(bytes.try_get_u64().ok()?))),
            3 => String::from_utf8(bytes.to_vec()).ok().map(Self::Void),
            _ => None,
        }
    }
}

fn encode_outcome(outcome: &Outcome, out: &mut Vec<u8>) {
    out.put_u16(outcome.status);
    out.put_u8(u8::from(outcome.omitted.is_some()));
    if let Some(omitted) = &outcome.omitted {
        out.put_u64(omitted.bytes);
        out.put_slice(&omitted.sha256);
    }
    out.put_u32(outcome.headers.len() as u32);
    for (name, value) in &outcome.headers {
        for part in [name.as_bytes(), value] {
            out.put_u32(part.len() as u32);
            out.put_slice(part);
        }
    }
    out.put_slice(&outcome.body);
}

fn decode_outcome(bytes: &mut Bytes) -> Option<Outcome> {
    let status = bytes.try_get_u16().ok()?;
    let omitted = match bytes.try_get_u8().ok()? {
        0 => None,
        _ => {
            let length = bytes.try_get_u64().ok()?;
            let mut sha256 = [0; 32];
            bytes.try_copy_to_slice(&mut sha256).ok()?;
            Some(Omitted { bytes: length, sha256 })
        }
    };
    let mut headers = Vec::new();
    for _ in 0..bytes.try_get_u32().ok()? {
        let name = part(bytes)?;
        headers.push((String::from_utf8(name.to_vec()).ok()?, part(bytes)?));
    }
    Some(Outcome { status, headers, body: bytes.clone(), omitted })
}

fn part(bytes: &mut Bytes) -> Option<Bytes> {
    let length = bytes.try_get_u32().ok()? as usize;
    (length <= bytes.len()).then(|| bytes.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bookmark_comes_back_and_is_small() {
        let life =
            life::Incarnation { boot: "4d6c1fcb-40a5-4b8a-b6a5-5b0b2a7c1e11".into(), listeners: [1].into() };
        let mark = Mark { hash: [9; 32], leader_epoch: Some(3) };
        let mut bookmark = Bookmark::new(Incarnation("JG-s6QZmTZ2FXgzXRa_cdQ".into()));
        assert_eq!(Bookmark::decode(&bookmark.encode().unwrap()), Some(bookmark.clone()));
        bookmark.last = Some(Last { position: Position(1 << 40), mark });
        bookmark.chain.passed(None, Position(1 << 40));
        (bookmark.life, bookmark.reached, bookmark.ended) = (Some(life), true, 1 << 40);
        let bytes = bookmark.encode().unwrap();
        assert!(bytes.len() < 320, "{} bytes", bytes.len());
        assert_eq!(Bookmark::decode(&bytes), Some(bookmark));
        assert_eq!(Bookmark::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Bookmark::decode(&[2]), None);
    }

    #[test]
    fn a_fate_comes_back_and_a_torn_one_is_none() {
        let outcome = Outcome {
            status: 404,
            headers: vec![("x-a".into(), Bytes::from_static(b"\xff")), ("x-b".into(), Bytes::new())],
            body: Bytes::from_static(b"body"),
            omitted: Some(Omitted { bytes: 9, sha256: [7; 32] }),
        };
        let plain = Outcome { omitted: None, headers: vec![], ..outcome.clone() };
        for fate in [
            Fate::Applied(outcome),
            Fate::Applied(plain),
            Fate::Duplicate(Position(3)),
            Fate::Reused(Position(u64::MAX)),
            Fate::Void("why".into()),
        ] {
            assert_eq!(Fate::decode(fate.encode().into()), Some(fate));
        }
        assert_eq!(Fate::decode(Bytes::from_static(&[0, 1])), None);
        assert_eq!(Fate::decode(Bytes::from_static(&[9])), None);
    }
}
