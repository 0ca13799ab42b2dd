//! Follows the log: feeds each entry to the pure step, obeys what it says, and writes down what came of it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use decree_wire::position::Position;
use decree_wire::settings::{DigestOf, Settings};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::config::Config;
use super::deliver::Courier;
use super::halt::{Backoff, Halt};
use super::origin::{self, Origin, Stood};
use super::rows::{Bookmark, Remembered};
use super::step::Context;
use super::store::Error;
use super::trouble;
use crate::log::{Batch, Log, Reader};

mod deal;
mod known;

/// How often the application's life is looked at.
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
        if self.board.known_start_head().is_none() {
            let head = self.log.head().await.map_err(|error| Halt::Wait(trouble::unreachable(&error)))?;
            self.board.start_head(head);
        }
        self.board.waits(None);
        let Origin { mut reader, ahead, .. } = origin;
        for stored in ahead {
            self.deal(stored, stop).await?;
        }
        let mut committed = (Instant::now(), None);
        let mut looked = Instant::now();
        loop {
            let batch = next(reader.as_mut(), stop).await?;
            self.batch(batch, stop).await?;
            // Not after each: a busy log's batches are small, and every new connection is looked at anyway.
            if looked.elapsed() >= IDLE {
                self.look()?;
                looked = Instant::now();
            }
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
                self.board.stands(&bookmark, bookmark.next(), false);
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
        let Some((bookmark, settings)) = &mut self.stands else { return Ok(()) };
        let chained = self.config.class_in(settings).digest != DigestOf::None;
        self.board.stands(bookmark, next, chained);
        if !bookmark.reached && self.board.reached() {
            (bookmark.reached, bookmark.rebuilding) = (true, false);
            self.board.store.note(bookmark)?;
        }
        Ok(())
    }

    async fn commit(&self, reader: &mut dyn Reader, committed: &mut (Instant, Option<Position>)) {
        if committed.0.elapsed() < COMMIT {
            return;
        }
        let next = self.board.next();
        if committed.1 == Some(next) {
            return;
        }
        *committed = (Instant::now(), Some(next));
        if let Err(error) = reader.commit(next).await {
            tracing::debug!(%error, "the position was not committed; the next one will be");
        }
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
