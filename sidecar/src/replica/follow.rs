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
use super::deliver::Courier;
use super::halt::{Backoff, Halt};
use super::handle::resolution;
use super::origin::{self, Origin};
use super::rows::{Bookmark, Fate, Last};
use super::step::{self, Action, Context};
use super::store::{Dealt, Error};
use super::trouble;
use crate::app::Delivery;
use crate::life::verdict::{Standing, Verdict, verdict};
use crate::log::{Batch, Log, Reader, Stored};

/// How often the application's life is looked at while the log is quiet.
const IDLE: Duration = Duration::from_millis(500);
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
}

impl Follower {
    /// Follows until `stop`, through everything that mends itself.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        let mut backoff = Backoff::default();
        loop {
            let before = self.position();
            let Err(halt) = self.follow(&stop).await;
            match halt {
                Halt::Stopped => return Ok(()),
                Halt::Failed(error) => return Err(error),
                Halt::For(trouble) => {
                    self.board.halt(trouble);
                    stop.cancelled().await;
                    return Ok(());
                }
                Halt::Wait(trouble) => {
                    tracing::warn!(reason = trouble.reason, message = trouble.message, "waiting");
                    self.board.unheard();
                    self.board.trouble(Some(trouble));
                }
            }
            if self.position() != before {
                backoff = Backoff::default();
            }
            if backoff.pause(&stop).await.is_err() {
                return Ok(());
            }
        }
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
        self.board.trouble(None);
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
        tokio::select! {
            biased;
            () = stop.cancelled() => Err(Halt::Stopped),
            origin = origin::open(&*self.log, expected, bookmark) => origin,
        }
    }

    /// Reads from the log's start until its first settings, and stands before its first entry then.
    async fn find_settings(&mut self, origin: &mut Origin, stop: &CancellationToken) -> Result<(), Halt> {
        let mut stored = std::mem::take(&mut origin.ahead);
        loop {
            if let Some(settings) = origin::settings(&stored, &self.config.engine, &self.config.cluster)? {
                let bookmark = Bookmark::new(origin.incarnation.clone());
                self.board.store.first(&bookmark, &settings)?;
                self.board.dealt(&bookmark, bookmark.next(), None, false);
                self.stands = Some((bookmark, settings));
                return Ok(());
            }
            let batch = next(origin.reader.as_mut(), stop).await?;
            if batch.end.is_some_and(|end| batch.next >= end) {
                self.board.trouble(Some(trouble::waiting_for_settings()));
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
            bookmark.reached = true;
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
        self.board.begins(entry.log_time);
        bookmark.log_time = bookmark.log_time.max(entry.log_time);
        let identity = step::identity(&entry, self.context(&bookmark, &settings));
        let found = match &identity {
            Some((identity, _)) => self.board.store.identity(identity)?,
            None => None,
        };
        let found = found.filter(|(at, _)| *at >= bookmark.floor);
        let fingerprint = identity.as_ref().map(|(_, fingerprint)| *fingerprint);
        let action = step::step(&entry, fingerprint, found, self.context(&bookmark, &settings));
        let mut holds = None;
        let fate = match action {
            Action::Deliver => Some(self.apply(&entry, identity.as_ref(), &mut bookmark, stop).await?),
            Action::Duplicate(of) => Some(Fate::Duplicate(of)),
            Action::Reused(of) => Some(Fate::Reused(of)),
            Action::Void(why) => Some(Fate::Void(why)),
            Action::Settings(settings) => {
                holds = Some(settings);
                None
            }
            Action::Pass => None,
            Action::Halt(trouble) => return Err(Halt::For(trouble)),
        };
        bookmark.chain.passed(bookmark.position(), position);
        bookmark.last = Some(Last { position, mark });
        let start_head = self.board.progress().borrow().start_head;
        bookmark.reached |= start_head.is_some_and(|head| bookmark.next() >= head);
        let applied = matches!(fate, Some(Fate::Applied(_)));
        let dealt = Dealt {
            position,
            fate: fate.as_ref(),
            identity: identity.as_ref().filter(|_| applied).map(|(identity, print)| (identity, *print)),
            settings: holds.as_ref(),
            bounds: settings.dedup,
        };
        self.board.store.record(&dealt, &mut bookmark)?;
        self.stands = Some((bookmark, holds.unwrap_or(settings)));
        self.show(position, fate)
    }

    /// Delivers a command; what it changes goes into `bookmark`.
    async fn apply(
        &mut self,
        entry: &Entry,
        identity: Option<&(Identity, Fingerprint)>,
        bookmark: &mut Bookmark,
        stop: &CancellationToken,
    ) -> Result<Fate, Halt> {
        let (Body::Command(command), Some((identity, _))) = (&entry.body, identity) else {
            return Ok(Fate::Void("it is no command".into()));
        };
        let class = self.class();
        let position = entry.position;
        let incarnation = bookmark.incarnation.clone();
        let place = Place { incarnation: &incarnation, position, log_time: bookmark.log_time };
        let delivery = Delivery { command, identity, place };
        let delivered = Box::pin(self.courier.deliver(&delivery, class.max_attempts, stop)).await?;
        let rejected = delivered.outcome.status >= 400;
        self.board.count(|counts| counts.rejected += u64::from(rejected));
        bookmark.chain.outcome(position, &delivered.outcome, class.digest);
        if bookmark.life.as_ref() != Some(&delivered.life) {
            bookmark.life = Some(delivered.life.clone());
            self.board.set_standing(Standing { life: Some(delivered.life), begun: None });
        }
        Ok(Fate::Applied(delivered.outcome))
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

    /// Halts where the application that listens now is not the one that holds what was applied.
    fn look(&self) -> Result<(), Halt> {
        let standing = self.board.standing();
        let now = match self.board.life.current() {
            Ok(Some(now)) => now,
            // Nobody there, or not to be seen: the next connection decides, unless it is settled already.
            Ok(None) | Err(_) if standing.begun.is_none() => return Ok(()),
            Ok(None) | Err(_) => crate::life::Incarnation::unseen(),
        };
        match verdict(&standing, Some(&now)) {
            Verdict::Known => Ok(()),
            Verdict::Unknown(why) => Err(Halt::For(trouble::state_unknown(&why))),
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

async fn next(reader: &mut dyn Reader, stop: &CancellationToken) -> Result<Batch, Halt> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(Halt::Stopped),
        batch = reader.next(IDLE) => batch.map_err(|error| Halt::Wait(trouble::unreachable(&error))),
    }
}
