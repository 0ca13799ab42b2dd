//! Answers what other members ask.

use std::fmt::Display;
use std::sync::Arc;

use super::ask::{Answer, Error, Letter, Question};
use super::head;
use super::leave;
use super::local::Local;
use super::order::Order;
use super::types::Snapshot;

/// A frame of more records is refused: each costs memory until it is ordered.
const RECORDS: usize = 4096;

/// Answers for this member.
#[derive(Clone, Debug)]
pub struct Answers {
    local: Arc<Local>,
    order: Arc<Order>,
}

impl Answers {
    /// For this member.
    #[must_use]
    pub fn new(local: Arc<Local>, order: Arc<Order>) -> Self {
        Self { local, order }
    }

    /// Answers a letter. Must be in a runtime, and may be dropped.
    ///
    /// # Errors
    /// If the letter is of another group, or meant for somebody else, or this member can't do what is asked.
    pub async fn answer(&self, letter: Letter) -> Result<Answer, Error> {
        let Letter { incarnation, from, to, question } = letter;
        let (own, id) = (&self.local.genesis.incarnation, self.local.id());
        if incarnation != own.0 {
            return Err(Error::Refused(format!(
                "this member is of the group's incarnation {own}, the question is of {incarnation}"
            )));
        }
        if to != id {
            return Err(Error::Refused(format!("this is member {id}, not {to}")));
        }
        let raft = &self.local.raft;
        Ok(match question {
            Question::Vote(request) => Answer::Vote(raft.vote(request).await.map_err(ended)?),
            Question::PreVote(request) => Answer::Vote(raft.pre_vote(request).await.map_err(ended)?),
            Question::Append(request) => {
                if !request.entries.is_empty() {
                    self.local.room.for_entries().map_err(Error::Refused)?;
                }
                Answer::Append(raft.append_entries(request).await.map_err(ended)?)
            }
            Question::Snapshot(vote, meta) => {
                let snapshot = Snapshot { meta, snapshot: () };
                Answer::Snapshot(raft.install_full_snapshot(vote, snapshot).await.map_err(ended)?)
            }
            Question::Transfer(request) => {
                Answer::Transfer(raft.handle_transfer_leader(request).await.map_err(ended)?)
            }
            Question::Propose(records) if records.len() > RECORDS => {
                return Err(Error::Refused(format!("more than {RECORDS} records at once")));
            }
            Question::Propose(records) => Answer::Propose(self.order.all(records).await),
            Question::Head => Answer::Head(head::here(&self.local).await),
            Question::Needed => Answer::Needed(leave::needed(&self.local, from)),
        })
    }
}

/// openraft has ended, or does: what was asked may have been done before.
fn ended(error: impl Display) -> Error {
    Error::NoAnswer(error.to_string())
}
