//! This member: openraft, its store, and its way to the others.

use std::sync::Arc;
use std::time::Duration;

use decree_wire::position::Position;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;

use super::ask::{self, Answer, Ask, Letter, Question};
use super::genesis::Genesis;
use super::machine::{Raft, Upto};
use super::room::Room;
use super::store::Store;
use super::types::{Member, MemberId, Metrics};

/// How often it is looked again for a leader.
const GLANCE: Duration = Duration::from_millis(10);

/// This member.
#[derive(Debug)]
pub struct Local {
    /// openraft.
    pub raft: Raft,
    /// The log on disk.
    pub store: Store,
    /// How its group began.
    pub genesis: Genesis,
    /// The others.
    pub ask: Arc<dyn Ask>,
    /// Whether the disk has room.
    pub room: Room,
    /// Where the next thin snapshot goes.
    pub upto: Upto,
}

/// Who leads, as far as this member knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leader {
    /// This member; others may know better by now.
    Me,
    /// Another.
    Other(MemberId, Member),
    /// Nobody that is known.
    Unknown,
}

impl Local {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> MemberId {
        self.store.id()
    }

    /// What openraft says of it and its group.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.raft.metrics().borrow_watched().clone()
    }

    /// Who leads.
    #[must_use]
    pub fn leader(&self) -> Leader {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        match metrics.current_leader {
            Some(id) if id == self.id() => {
                if metrics.state == ServerState::Leader {
                    Leader::Me
                } else {
                    Leader::Unknown
                }
            }
            Some(id) => match metrics.membership_config.get_node(&id) {
                Some(member) => Leader::Other(id, member.clone()),
                None => Leader::Unknown,
            },
            None => Leader::Unknown,
        }
    }

    /// Waits a moment: who leads now may be another soon.
    pub async fn glance(&self) {
        tokio::time::sleep(GLANCE).await;
    }

    /// Asks another member.
    ///
    /// # Errors
    /// As [`ask::Error`] lists.
    pub async fn ask(
        &self,
        (to, member): (MemberId, &Member),
        question: Question,
        limit: Duration,
    ) -> Result<Answer, ask::Error> {
        let letter =
            Letter { incarnation: self.genesis.incarnation.0.clone(), from: self.id(), to, question };
        self.ask.ask(member, letter, limit).await
    }

    /// The position of a Raft index.
    #[must_use]
    pub fn position(&self, index: u64) -> Position {
        Position(self.genesis.base.0.saturating_add(index))
    }

    /// The Raft index of a position; none for one of before this incarnation.
    #[must_use]
    pub fn index(&self, position: Position) -> Option<u64> {
        position.0.checked_sub(self.genesis.base.0)
    }
}
