//! The handle: what the rest of the sidecar asks a replica.

use std::sync::Arc;

use decree_wire::command::Identity;
use decree_wire::heartbeat::Trouble;
use decree_wire::position::Position;
use tokio::sync::watch;

use super::board::Board;
use super::ledger::{Reach, Wait};
use super::progress::Progress;
use super::resolution::{Known, Resolution};
use super::rows::Fate;
use super::store::{Error, Name};
use super::trouble;
use crate::life::verdict::{Seen, Verdict, verdict};

/// What the rest of the sidecar asks a replica. Cheap to clone.
///
/// While one lives the journal stays open, so a replica can't be opened again on the same folder.
#[derive(Clone, Debug)]
pub struct Handle {
    board: Arc<Board>,
}

impl Handle {
    pub(super) fn new(board: Arc<Board>) -> Self {
        Self { board }
    }

    /// A command that this replica has dealt with, by its identity; none if it is not in the dedup window.
    ///
    /// # Errors
    /// If the store can't be read.
    pub fn known(&self, identity: &Identity) -> Result<Option<Known>, Error> {
        let Some((position, fingerprint)) = self.board.store.identity(&Name::of(identity))? else {
            return Ok(None);
        };
        // What a replay has not come to yet was applied to a life that is gone.
        let reach = self.board.ledger.reach();
        if position < reach.floor || position >= reach.next {
            return Ok(None);
        }
        Ok(Some(Known { position, fingerprint, outcome: self.outcome(position)? }))
    }

    /// Waits until the replica has dealt with `position`, and says what became of it. Right also if it already has.
    ///
    /// The caller limits the wait. Dropping the future takes the waiter away.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn resolved(&self, position: Position) -> Result<Resolution, Error> {
        match self.board.ledger.wait(position) {
            Wait::Over(reach) => self.remembered(position, reach),
            Wait::No(resolution) => Ok(resolution),
            Wait::For(receiver) => {
                Ok(receiver.await.unwrap_or_else(|_| Resolution::Halted(trouble::ended())))
            }
        }
    }

    /// Where the replica is.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.board.progress()
    }

    /// Whether the application that listens now is the one whose state is known: to be asked before each request that
    /// passes through to it, after the connection stands. Cheap.
    ///
    /// # Errors
    /// What to tell the client, with 503.
    pub fn application_known(&self) -> Result<(), Trouble> {
        // First: a replay that begins between the two looks is then seen in the second.
        let standing = self.board.standing();
        if let Some(unknown) = self.board.not_known() {
            return Err(unknown);
        }
        let seen = Seen::of(self.board.life.current());
        match verdict(&standing, &seen) {
            Verdict::Known if seen == Seen::Nobody => Err(trouble::nothing_listens()),
            Verdict::Known => Ok(()),
            Verdict::New(why) | Verdict::Alive(why) | Verdict::Gone(why) => {
                Err(trouble::state_unknown(&why, None))
            }
            // The next delivery's connection decides.
            Verdict::Hidden(_) => Ok(()),
        }
    }

    fn remembered(&self, position: Position, reach: Reach) -> Result<Resolution, Error> {
        Ok(match self.board.store.fate(position)? {
            Some(fate) => resolution(fate, |of| self.outcome(of))?,
            None if position >= reach.kept => Resolution::Passed,
            None => Resolution::Forgotten,
        })
    }

    fn outcome(&self, position: Position) -> Result<Option<crate::app::Outcome>, Error> {
        Ok(match self.board.store.fate(position)? {
            Some(Fate::Applied(outcome)) => Some(outcome),
            _ => None,
        })
    }
}

/// What a waiter hears of a fate; `outcome` looks up an earlier command's.
pub(super) fn resolution(
    fate: Fate,
    outcome: impl FnOnce(Position) -> Result<Option<crate::app::Outcome>, Error>,
) -> Result<Resolution, Error> {
    Ok(match fate {
        Fate::Applied(outcome) => Resolution::Applied { outcome },
        Fate::Duplicate(of) => Resolution::Duplicate { of, outcome: outcome(of)? },
        Fate::Reused(of) => Resolution::Reused { of },
        Fate::Void(why) => Resolution::Void(why),
    })
}
