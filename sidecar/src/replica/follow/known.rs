//! The application's state: as long as it is not known nothing is followed, and a new life is built from the log's start.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Follower, rest};
use crate::life::verdict::{Course, Seen, course, verdict};
use crate::replica::halt::Halt;
use crate::replica::rows::{Bookmark, Remembered};
use crate::replica::trouble;

/// How often the application's life is looked at while it is not known.
const LOOK: Duration = Duration::from_millis(100);

impl Follower {
    /// Waits until the application's state is known, or another life can be built from the log's start.
    pub(super) async fn until_known(&mut self, stop: &CancellationToken) -> Result<(), Halt> {
        loop {
            let (trouble, calls_for) = match self.course() {
                Course::GoOn => {
                    self.board.unknown(None);
                    return Ok(());
                }
                Course::Rebuild(why) => return self.begin_anew(&why).await,
                Course::Wait(why) => (trouble::state_unknown(&why, None), None),
                Course::Call(what, why) => (trouble::state_unknown(&why, Some(what)), Some(what)),
            };
            self.board.waits(None);
            self.board.unknown(Some((trouble, calls_for)));
            rest(stop, LOOK).await?;
        }
    }

    /// Forgets what was applied to the last life, and stands before the log's first entry. What the replay has to come
    /// by is kept, and so are failed attempts.
    async fn begin_anew(&mut self, why: &str) -> Result<(), Halt> {
        let bookmark = self.stands.as_ref().map(|(bookmark, _)| bookmark);
        let reached = bookmark.and_then(|Bookmark { incarnation, last, chain, .. }| {
            last.map(|last| Remembered { incarnation: incarnation.clone(), last, hash: chain.hash })
        });
        let further = |r: &Remembered| {
            self.remembered.as_ref().is_none_or(|known| known.last.position < r.last.position)
        };
        if let Some(reached) = reached.filter(further) {
            self.remembered = Some(reached);
        }
        self.courier.disconnect().await;
        self.courier.attempts.tally.rebuilds += 1;
        self.board.store.forget(self.remembered.as_ref(), &self.courier.attempts)?;
        tracing::warn!(why, remembered = ?self.remembered.as_ref().map(|r| r.last.position), "the application is rebuilt");
        self.stands = None;
        self.board.begin_anew(self.courier.attempts.tally);
        Ok(())
    }

    fn course(&self) -> Course {
        let seen = Seen::of(self.board.life.current());
        course(verdict(&self.board.standing(), &seen), self.config.restart)
    }

    /// Stops where the application that listens now is not the one that holds what was applied.
    pub(super) fn look(&self) -> Result<(), Halt> {
        let standing = self.board.standing();
        let seen = Seen::of(self.board.life.current());
        // As long as the connection stands it leads to the same life; once it is lost, the next one decides.
        let undecided = seen == Seen::Hidden && standing.begun.is_none() && !standing.haunted;
        match course(verdict(&standing, &seen), self.config.restart) {
            Course::GoOn => Ok(()),
            _ if undecided => Ok(()),
            Course::Rebuild(_) | Course::Wait(_) | Course::Call(..) => Err(Halt::Unknown),
        }
    }
}
