//! Follows the log: feeds each entry to the pure step, obeys what it says, and writes down what came of it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use decree_wire::command::{Fingerprint, Identity};
use decree_wire::delivery::Place;
use decree_wire::entry::{Body, Entry};
use decree_wire::position::Position;
use decree_wire::settings::{ClassSettings, DigestOf, Settings};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::config::Config;
use super::deliver::{Courier, Delivered, Terms};
use super::halt::{Backoff, Halt};
use super::handle::resolution;
use super::idempotent::idempotent;
use super::origin::{self, Origin, Stood};
use super::rows::{Bookmark, Differs, Fate, Last, Remembered};
use super::step::{self, Action, Context};
use super::store::{Dealt, Error};
use super::trouble;
use crate::app::Delivery;
use crate::life::verdict::{Course, Seen, Standing, course, verdict};
use crate::log::{Batch, Log, Mark, Reader, Stored};

/// How often the application's life is looked at while the log is quiet.
const IDLE: Duration = Duration::from_millis(500);
/// How often it is looked at while it is not known.
const LOOK: Duration = Duration::from_millis(100);
/// How often the orderer is told how far this agent is.
const COMMIT: Duration = Duration::from_secs(1);

/// Follows one log.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) config: Config,
    pub(super) log: Arc<dyn Log>,
    pub(super) board: Arc<Board>,
    pub(super) courier: Courier,
    /// Where it stands, and the settings that hold there; none before the log's first settings were found.
    pub(super) stands: Option<(Bookmark, Settings)>,
    /// Of before the application was rebuilt; none once the replay has passed it.
    pub(super) remembered: Option<Remembered>,
}

impl Follower {
    /// Follows until `stop`, through everything that mends itself.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        let mut backoff = Backoff::default();
        loop {
            let before = self.position();
            let Err(halt) = self.follow(&stop).await;
            let go_on = match self.after(halt, &stop).await {
                Ok(()) if self.position() != before => {
                    backoff = Backoff::default();
                    Ok(())
                }
                Ok(()) => backoff.pause(&stop).await,
                Err(halt) => Err(halt),
            };
            match go_on {
                Ok(()) => {}
                Err(Halt::Failed(error)) => return Err(error),
                Err(_) => return Ok(()),
            }
        }
    }

    /// What follows from a halt; once it returns, following can be tried again.
    async fn after(&mut self, halt: Halt, stop: &CancellationToken) -> Result<(), Halt> {
        match halt {
            Halt::Stopped | Halt::Failed(_) => return Err(halt),
            Halt::For(trouble) => {
                self.board.halt(trouble, false);
                stop.cancelled().await;
                return Err(Halt::Stopped);
            }
            Halt::ForAll(trouble) => loop {
                // Its application may have restarted since, and a person may have given the log up: others go on then.
                let shared = self.look().is_ok() && !self.given_up();
                self.board.halt(trouble.clone(), shared);
                rest(stop, IDLE).await?;
            },
            Halt::Poisoned(trouble) => {
                self.board.halt(trouble, false);
                self.board.replayed();
                while self.look().is_ok() {
                    rest(stop, IDLE).await?;
                }
            }
            Halt::Unknown => {}
            Halt::Wait(trouble) => {
                tracing::warn!(reason = trouble.reason, message = trouble.message, "waiting");
                self.board.unheard();
                self.board.waits(Some(trouble));
                if self.look().is_ok() {
                    self.board.unknown(None);
                    return Ok(());
                }
            }
        }
        self.until_known(stop).await
    }

    /// Waits until the application's state is known, or another life can be built from the log's start.
    async fn until_known(&mut self, stop: &CancellationToken) -> Result<(), Halt> {
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

    /// The operator knows another log by now than the one that is followed.
    fn given_up(&self) -> bool {
        let bookmark = self.stands.as_ref().map(|(bookmark, _)| &bookmark.incarnation);
        let followed = bookmark.or(self.remembered.as_ref().map(|remembered| &remembered.incarnation));
        let expected = self.config.expected.borrow();
        followed.zip(expected.as_ref()).is_some_and(|(followed, expected)| followed != expected)
    }

    fn position(&self) -> Option<Position> {
        self.stands.as_ref().and_then(|(bookmark, _)| bookmark.position())
    }

    async fn follow(&mut self, stop: &CancellationToken) -> Result<Infallible, Halt> {
        self.look()?;
        let mut origin = self.open(stop).await?;
        if self.stands.is_none() {
            self.find_settings(&mut origin, stop).await?;
            origin = self.open(stop).await?;
        }
        if self.board.progress().borrow().start_head.is_none() {
            let head = self.log.head().await.map_err(|error| Halt::Wait(trouble::unreachable(&error)))?;
            self.board.start_head(head);
        }
        self.board.waits(None);
        let Origin { mut reader, ahead, .. } = origin;
        for stored in ahead {
            self.deal(stored, stop).await?;
        }
        let mut committed = (Instant::now(), None);
        loop {
            let batch = next(reader.as_mut(), stop).await?;
            self.batch(batch, stop).await?;
            self.look()?;
            self.commit(reader.as_mut(), &mut committed).await;
        }
    }

    async fn open(&self, stop: &CancellationToken) -> Result<Origin, Halt> {
        let expected = self.config.expected.borrow().clone();
        let bookmark = self.stands.as_ref().map(|(bookmark, _)| bookmark);
        let stood = match (bookmark, &self.remembered) {
            (Some(Bookmark { incarnation, last: Some(last), .. }), _) => {
                Some((incarnation, Stood::After(last)))
            }
            (_, Some(Remembered { incarnation, last, .. })) => Some((incarnation, Stood::Once(last))),
            (Some(Bookmark { incarnation, last: None, .. }), None) => Some((incarnation, Stood::Before)),
            (None, None) => None,
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => Err(Halt::Stopped),
            origin = origin::open(&*self.log, expected, stood) => origin,
        }
    }

    /// Reads from the log's start until its first settings, and stands before its first entry then.
    async fn find_settings(&mut self, origin: &mut Origin, stop: &CancellationToken) -> Result<(), Halt> {
        let mut stored = std::mem::take(&mut origin.ahead);
        loop {
            if let Some(settings) = origin::settings(&stored, &self.config.engine, &self.config.cluster)? {
                let incarnation = origin.incarnation.clone();
                let rebuilding = self.remembered.is_some();
                let bookmark = Bookmark { rebuilding, ..Bookmark::new(incarnation) };
                self.board.store.first(&bookmark, &settings)?;
                self.board.dealt(&bookmark, bookmark.next(), None, false);
                self.stands = Some((bookmark, settings));
                return Ok(());
            }
            let batch = next(origin.reader.as_mut(), stop).await?;
            if batch.end.is_some_and(|end| batch.next >= end) {
                self.board.waits(Some(trouble::waiting_for_settings()));
            }
            stored = batch.entries;
        }
    }

    async fn batch(&mut self, batch: Batch, stop: &CancellationToken) -> Result<(), Halt> {
        let Batch { entries, next, end } = batch;
        match end {
            Some(end) => self.board.end(end),
            None => self.board.at_least(next),
        }
        for stored in entries {
            self.deal(stored, stop).await?;
        }
        let chained = self.class().digest != DigestOf::None;
        let Some((bookmark, _)) = &mut self.stands else { return Ok(()) };
        self.board.dealt(bookmark, next, None, chained);
        if !bookmark.reached && self.board.progress().borrow().reached {
            (bookmark.reached, bookmark.rebuilding) = (true, false);
            self.board.store.note(bookmark)?;
        }
        Ok(())
    }

    /// Deals with one entry, and writes down what came of it in one piece.
    async fn deal(&mut self, stored: Stored, stop: &CancellationToken) -> Result<(), Halt> {
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
        Err(Halt::ForAll(trouble::replaced(&why)))
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

    /// Stops where the application that listens now is not the one that holds what was applied.
    fn look(&self) -> Result<(), Halt> {
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

    async fn commit(&self, reader: &mut dyn Reader, committed: &mut (Instant, Option<Position>)) {
        let next = self.board.progress().borrow().next;
        if committed.0.elapsed() < COMMIT || committed.1 == Some(next) {
            return;
        }
        *committed = (Instant::now(), Some(next));
        if let Err(error) = reader.commit(next).await {
            tracing::debug!(%error, "the position was not committed; the next one will be");
        }
    }

    fn class(&self) -> ClassSettings {
        let settings = self.stands.as_ref().map(|(_, settings)| settings);
        settings.and_then(|settings| settings.classes.get(&self.config.class)).cloned().unwrap_or_default()
    }

    fn context<'a>(&'a self, bookmark: &'a Bookmark, settings: &'a Settings) -> Context<'a> {
        Context {
            engine: &self.config.engine,
            cluster: &self.config.cluster,
            incarnation: &bookmark.incarnation,
            replicates: self.config.replicates,
            floor: bookmark.floor,
            settings,
        }
    }
}

async fn rest(stop: &CancellationToken, time: Duration) -> Result<(), Halt> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(Halt::Stopped),
        () = tokio::time::sleep(time) => Ok(()),
    }
}

async fn next(reader: &mut dyn Reader, stop: &CancellationToken) -> Result<Batch, Halt> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(Halt::Stopped),
        batch = reader.next(IDLE) => batch.map_err(|error| Halt::Wait(trouble::unreachable(&error))),
    }
}
