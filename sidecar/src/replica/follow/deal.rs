//! One entry: the pure step says what to do with it, and what came of it is written down in one piece.

use decree_wire::delivery::Place;
use decree_wire::entry::Body;
use decree_wire::position::Position;
use decree_wire::settings::{DigestOf, Settings};
use tokio_util::sync::CancellationToken;

use super::Follower;
use crate::app::Delivery;
use crate::log::{Mark, Stored};
use crate::replica::deliver::Terms;
use crate::replica::halt::Halt;
use crate::replica::handle::resolution;
use crate::replica::idempotent::idempotent;
use crate::replica::progress::Counts;
use crate::replica::rows::{Bookmark, Differs, Fate, Last, Remembered};
use crate::replica::step::{self, Action};
use crate::replica::store::{Dealt, Name};
use crate::replica::{origin, trouble};

impl Follower {
    /// Deals with one entry, and writes down what came of it in one piece.
    pub(super) async fn deal(&mut self, stored: Stored, stop: &CancellationToken) -> Result<(), Halt> {
        // Taken out and put back, so that nothing of it has to be copied for each entry.
        let Some(mut stands) = self.stands.take() else { return Ok(()) };
        let dealt = self.deal_after(&mut stands, stored, stop).await;
        self.stands = Some(stands);
        dealt
    }

    /// Leaves the bookmark as it is where the entry was not dealt with.
    async fn deal_after(
        &mut self,
        (bookmark, settings): &mut (Bookmark, Settings),
        stored: Stored,
        stop: &CancellationToken,
    ) -> Result<(), Halt> {
        let Stored { entry, mark } = stored;
        let position = entry.position;
        if position < bookmark.next() {
            return Ok(()); // read twice, dealt with once
        }
        if stop.is_cancelled() {
            return Err(Halt::Stopped);
        }
        self.passes(position, mark)?;
        self.board.begins(entry.log_time);
        let identity = step::identity(&entry, self.context(bookmark, settings));
        let name = identity.as_ref().map(|(identity, _)| Name::of(identity));
        let found = match &name {
            Some(name) => self.board.store.identity(name)?,
            None => None,
        };
        // A replay finds rows of what it has not come to yet.
        let found = found.filter(|(at, _)| *at >= bookmark.floor && *at < position);
        let fingerprint = identity.as_ref().map(|(_, fingerprint)| *fingerprint);
        let action = step::step(&entry, fingerprint, found, self.context(bookmark, settings));
        let log_time = bookmark.log_time.max(entry.log_time);
        let mut holds = None;
        let mut forgotten = false;
        let fate = match (action, &entry.body, &identity) {
            (Action::Deliver, Body::Command(command), Some((identity, _))) => {
                let place = Place { incarnation: &bookmark.incarnation, position, log_time };
                let delivery = Delivery { command, identity, place };
                let class = self.config.class_in(settings);
                let idempotent = idempotent(command, &class);
                let terms = Terms { max_attempts: class.max_attempts, idempotent };
                let delivered = Box::pin(self.courier.deliver(&delivery, terms, stop)).await?;
                forgotten = delivered.forgotten;
                match idempotent {
                    true => bookmark.chain.unheard(position, class.digest),
                    false => bookmark.chain.outcome(position, &delivered.outcome, class.digest),
                }
                self.answered(bookmark);
                Some(Fate::Applied(delivered.outcome))
            }
            (Action::Deliver, _, _) => Some(Fate::Void("it is no command".into())),
            (Action::Duplicate(of), _, _) => Some(Fate::Duplicate(of)),
            (Action::Reused(of), _, _) => Some(Fate::Reused(of)),
            (Action::Void(why), _, _) => Some(Fate::Void(why)),
            (Action::Settings(settings), _, _) => {
                holds = Some(settings);
                None
            }
            (Action::Pass, _, _) => None,
            (Action::Halt(trouble), _, _) => return Err(Halt::For(trouble)),
            (Action::HaltAll(trouble), _, _) => return Err(Halt::ForAll(trouble)),
        };
        // From here on nothing but the store can fail, and with it the process ends.
        bookmark.log_time = log_time;
        bookmark.chain.passed(bookmark.position(), position);
        bookmark.last = Some(Last { position, mark });
        bookmark.reached |= self.board.known_start_head().is_some_and(|head| bookmark.next() >= head);
        bookmark.rebuilding &= !bookmark.reached;
        let applied = matches!(fate, Some(Fate::Applied(_)));
        let differs = self.passed(bookmark);
        let dealt = Dealt {
            position,
            fate: fate.as_ref(),
            identity: name.zip(fingerprint).filter(|_| applied),
            settings: holds.as_ref(),
            attempts: forgotten.then_some(&self.courier.attempts),
            differs,
            bounds: settings.dedup,
        };
        self.board.store.record(&dealt, bookmark)?;
        if let Some(Differs { position }) = differs {
            self.board.suspect(trouble::not_deterministic(position));
        }
        if let Some(holds) = holds {
            *settings = holds;
        }
        let chained = self.config.class_in(settings).digest != DigestOf::None;
        self.show(bookmark, chained, fate)
    }

    /// A replay must come by the last entry of before.
    fn passes(&self, position: Position, mark: Mark) -> Result<(), Halt> {
        let Some(Remembered { last, .. }) = &self.remembered else { return Ok(()) };
        let other = position > last.position || position == last.position && !origin::same(mark, last.mark);
        if !other {
            return Ok(());
        }
        let why = format!("another entry stands where position {} was applied before", last.position);
        Err(Halt::For(trouble::replaced(&why)))
    }

    /// Compares the digest with that of before, where it was remembered.
    fn passed(&mut self, bookmark: &Bookmark) -> Option<Differs> {
        let there = |r: &mut Remembered| Some(r.last.position) == bookmark.position();
        let before = self.remembered.take_if(there)?;
        (before.hash != bookmark.chain.hash).then_some(Differs { position: before.last.position })
    }

    /// Notes who holds now what was applied.
    fn answered(&self, bookmark: &mut Bookmark) {
        let Some(life) = self.courier.connected() else { return };
        self.board.answered_by(life);
        if bookmark.life.as_ref() != Some(life) {
            bookmark.life = Some(life.clone());
        }
    }

    /// Tells those who wait, and everybody else.
    fn show(&self, bookmark: &Bookmark, chained: bool, fate: Option<Fate>) -> Result<(), Halt> {
        let mut counts = Counts::default();
        match &fate {
            Some(Fate::Applied(outcome)) => {
                (counts.applied, counts.rejected) = (1, u64::from(outcome.status >= 400));
            }
            Some(Fate::Duplicate(_)) => counts.duplicates = 1,
            Some(Fate::Reused(_)) => counts.reused = 1,
            Some(Fate::Void(_)) => counts.void = 1,
            None => counts.control = 1,
        }
        let resolved = match bookmark.position().zip(fate) {
            // Also where nobody waits yet: one who begins to, between now and `dealt`, has to hear it as well.
            Some((position, fate)) => {
                let outcome = |of| match self.board.store.fate(of)? {
                    Some(Fate::Applied(outcome)) => Ok(Some(outcome)),
                    _ => Ok(None),
                };
                Some((position, resolution(fate, outcome)?))
            }
            None => None,
        };
        self.board.dealt(bookmark, bookmark.next(), resolved, chained, counts);
        Ok(())
    }
}
