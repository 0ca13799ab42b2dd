//! One entry: the pure step says what to do with it, and what came of it is written down in one piece.

use decree_wire::command::{Fingerprint, Identity};
use decree_wire::delivery::Place;
use decree_wire::entry::{Body, Entry};
use decree_wire::position::Position;
use decree_wire::settings::DigestOf;
use tokio_util::sync::CancellationToken;

use super::Follower;
use crate::app::Delivery;
use crate::life::verdict::Standing;
use crate::log::{Mark, Stored};
use crate::replica::deliver::{Delivered, Terms};
use crate::replica::halt::Halt;
use crate::replica::handle::resolution;
use crate::replica::idempotent::idempotent;
use crate::replica::rows::{Bookmark, Differs, Fate, Last, Remembered};
use crate::replica::step::{self, Action};
use crate::replica::store::Dealt;
use crate::replica::{origin, trouble};

impl Follower {
    /// Deals with one entry, and writes down what came of it in one piece.
    pub(super) async fn deal(&mut self, stored: Stored, stop: &CancellationToken) -> Result<(), Halt> {
        let Some((mut bookmark, settings)) = self.stands.clone() else { return Ok(()) };
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
        bookmark.log_time = bookmark.log_time.max(entry.log_time);
        let identity = step::identity(&entry, self.context(&bookmark, &settings));
        let found = match &identity {
            Some((identity, _)) => self.board.store.identity(identity)?,
            None => None,
        };
        // A replay finds rows of what it has not come to yet.
        let found = found.filter(|(at, _)| *at >= bookmark.floor && *at < position);
        let fingerprint = identity.as_ref().map(|(_, fingerprint)| *fingerprint);
        let action = step::step(&entry, fingerprint, found, self.context(&bookmark, &settings));
        let mut holds = None;
        let mut forgotten = false;
        let fate = match action {
            Action::Deliver => {
                let (fate, news) = self.apply(&entry, identity.as_ref(), &mut bookmark, stop).await?;
                forgotten = news;
                Some(fate)
            }
            Action::Duplicate(of) => Some(Fate::Duplicate(of)),
            Action::Reused(of) => Some(Fate::Reused(of)),
            Action::Void(why) => Some(Fate::Void(why)),
            Action::Settings(settings) => {
                holds = Some(settings);
                None
            }
            Action::Pass => None,
            Action::Halt(trouble) => return Err(Halt::For(trouble)),
            Action::HaltAll(trouble) => return Err(Halt::ForAll(trouble)),
        };
        bookmark.chain.passed(bookmark.position(), position);
        bookmark.last = Some(Last { position, mark });
        let start_head = self.board.progress().borrow().start_head;
        bookmark.reached |= start_head.is_some_and(|head| bookmark.next() >= head);
        bookmark.rebuilding &= !bookmark.reached;
        let applied = matches!(fate, Some(Fate::Applied(_)));
        let differs = self.passed(&bookmark);
        let dealt = Dealt {
            position,
            fate: fate.as_ref(),
            identity: identity.as_ref().filter(|_| applied).map(|(identity, print)| (identity, *print)),
            settings: holds.as_ref(),
            attempts: forgotten.then_some(&self.courier.attempts),
            differs,
            bounds: settings.dedup,
        };
        self.board.store.record(&dealt, &mut bookmark)?;
        if let Some(Differs { position }) = differs {
            self.board.suspect(trouble::not_deterministic(position));
        }
        self.stands = Some((bookmark, holds.unwrap_or(settings)));
        self.show(position, fate)
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

    /// Delivers a command; what it changes goes into `bookmark`. Also whether failed attempts are forgotten with it.
    async fn apply(
        &mut self,
        entry: &Entry,
        identity: Option<&(Identity, Fingerprint)>,
        bookmark: &mut Bookmark,
        stop: &CancellationToken,
    ) -> Result<(Fate, bool), Halt> {
        let (Body::Command(command), Some((identity, _))) = (&entry.body, identity) else {
            return Ok((Fate::Void("it is no command".into()), false));
        };
        let class = self.class();
        let position = entry.position;
        let incarnation = bookmark.incarnation.clone();
        let place = Place { incarnation: &incarnation, position, log_time: bookmark.log_time };
        let delivery = Delivery { command, identity, place };
        let idempotent = idempotent(command, &class);
        let terms = Terms { max_attempts: class.max_attempts, idempotent };
        let Delivered { outcome, life, forgotten } =
            Box::pin(self.courier.deliver(&delivery, terms, stop)).await?;
        let rejected = outcome.status >= 400;
        self.board.count(|counts| counts.rejected += u64::from(rejected));
        match idempotent {
            true => bookmark.chain.unheard(position, class.digest),
            false => bookmark.chain.outcome(position, &outcome, class.digest),
        }
        bookmark.life = Some(life.clone());
        self.board.set_standing(Standing { life: Some(life), ..Standing::default() });
        Ok((Fate::Applied(outcome), forgotten))
    }

    /// Tells those who wait, and everybody else.
    fn show(&self, position: Position, fate: Option<Fate>) -> Result<(), Halt> {
        self.board.count(|counts| match &fate {
            Some(Fate::Applied(_)) => counts.applied += 1,
            Some(Fate::Duplicate(_)) => counts.duplicates += 1,
            Some(Fate::Reused(_)) => counts.reused += 1,
            Some(Fate::Void(_)) => counts.void += 1,
            None => counts.control += 1,
        });
        let resolved = match fate {
            // Also where nobody waits yet: one who begins to, between now and `dealt`, has to hear it as well.
            Some(fate) => {
                let outcome = |of| match self.board.store.fate(of)? {
                    Some(Fate::Applied(outcome)) => Ok(Some(outcome)),
                    _ => Ok(None),
                };
                Some((position, resolution(fate, outcome)?))
            }
            None => None,
        };
        let chained = self.class().digest != DigestOf::None;
        if let Some((bookmark, _)) = &self.stands {
            self.board.dealt(bookmark, bookmark.next(), resolved, chained);
        }
        Ok(())
    }
}
