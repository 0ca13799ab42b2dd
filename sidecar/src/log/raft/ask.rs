//! What members ask of each other: a port.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::types::{
    AppendRequest, AppendResponse, Member, MemberId, SnapshotMeta, SnapshotResponse, TransferRequest,
    TransferResponse, Vote, VoteRequest, VoteResponse,
};

/// Reaches other members.
///
/// - MUST end within `limit`, and MUST be safe to drop.
/// - Questions to one member MAY be under way at the same time, and MAY overtake each other.
/// - MUST NOT ask twice: who asks decides whether a question may be repeated.
#[async_trait]
pub trait Ask: Send + Sync + fmt::Debug {
    /// Asks the member at `to`.
    async fn ask(&self, to: &Member, letter: Letter, limit: Duration) -> Result<Answer, Error>;
}

/// A question with its greeting.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Letter {
    /// Of the group: one of another incarnation is refused.
    pub incarnation: String,
    /// Who asks.
    pub from: MemberId,
    /// Who is meant: an address may have become another member's.
    pub to: MemberId,
    /// What.
    pub question: Question,
}

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Question {
    /// To vote.
    Vote(VoteRequest),
    /// Whether there would be a vote.
    PreVote(VoteRequest),
    /// To take these entries; without any, that the leader lives.
    Append(AppendRequest),
    /// To take a thin snapshot instead of entries that are gone.
    Snapshot(Vote, SnapshotMeta),
    /// To lead.
    Transfer(TransferRequest),
    /// Of the leader: to order these records.
    Propose(Vec<Bytes>),
    /// Of the leader: how far the log goes, certainly.
    Head,
    /// Of the leader: whether who asks still belongs to the group's voters.
    Needed,
}

impl Question {
    /// One word for paths, metrics and people.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Vote(_) => "vote",
            Self::PreVote(_) => "pre-vote",
            Self::Append(_) => "append",
            Self::Snapshot(..) => "snapshot",
            Self::Transfer(_) => "transfer",
            Self::Propose(_) => "propose",
            Self::Head => "head",
            Self::Needed => "needed",
        }
    }
}

/// The answer to a question of the same name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Question::Vote`] and [`Question::PreVote`].
    Vote(VoteResponse),
    /// To [`Question::Append`].
    Append(AppendResponse),
    /// To [`Question::Snapshot`].
    Snapshot(SnapshotResponse),
    /// To [`Question::Transfer`].
    Transfer(TransferResponse),
    /// To [`Question::Propose`]: one for each record, in order.
    Propose(Vec<Proposed>),
    /// To [`Question::Head`]: the next index; none if this member can't say so now, because it does not lead.
    Head(Option<u64>),
    /// To [`Question::Needed`]; none if this member can't say so now, because it does not lead.
    Needed(Option<bool>),
}

/// What became of one record that was proposed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proposed {
    /// It was ordered, at this index.
    Ordered(u64),
    /// It was not ordered and won't be: this member does not lead, or not yet.
    NotLeader,
    /// It was not ordered and won't be: there is no room.
    NoRoom(String),
    /// It was not ordered and won't be: too much waits already.
    Full,
    /// It may have been ordered.
    Unknown(String),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The question was certainly not received.
    #[error("the member can't be reached: {0}")]
    NotSent(String),
    /// The question may have been received.
    #[error("the member did not answer: {0}")]
    NoAnswer(String),
    /// The member does not take questions from this one, or of this kind; nothing was done.
    #[error("the member refused: {0}")]
    Refused(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_a_segment_of_a_path() {
        for question in [Question::Head, Question::Propose(vec![])] {
            assert!(question.kind().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'));
        }
    }
}
