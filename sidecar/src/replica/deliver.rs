//! Delivers one command until the application has dealt with it, and never twice in the hope that it does no harm.

use std::sync::Arc;
use std::time::Duration;

use decree_wire::position::Position;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::halt::{Backoff, Halt};
use super::progress::Application;
use super::rows::{Attempts, Begun};
use super::store;
use super::trouble;
use crate::app::end::{Counted, Meaning, Way, meaning};
use crate::app::{App, Connected, Delivery, End, Outcome, Unwell};
use crate::life;
use crate::life::verdict::{Seen, Standing, Verdict, verdict};

/// An application may open one listener after the other as it starts: its first life counts once they stay the same.
const SETTLED: Duration = Duration::from_millis(500);

/// Delivers commands, one at a time.
#[derive(Debug)]
pub(super) struct Courier {
    app: Arc<dyn App>,
    board: Arc<Board>,
    way: Way,
    pub(super) attempts: Attempts,
    /// The life that the kept connection leads to: read once, when the connection had just been made.
    connected: Option<life::Incarnation>,
    /// The life that was seen, and since when, as long as nothing was applied to any.
    first: Option<(life::Incarnation, Instant)>,
}

/// What the settings allow for a command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) max_attempts: u32,
    pub(super) idempotent: bool,
}

/// A command that the application dealt with.
#[derive(Debug)]
pub(super) struct Delivered {
    pub(super) outcome: Outcome,
    /// Its failed attempts are forgotten.
    pub(super) forgotten: bool,
}

impl Courier {
    pub(super) fn new(app: Arc<dyn App>, board: Arc<Board>, way: Way, attempts: Attempts) -> Self {
        Self { app, board, way, attempts, connected: None, first: None }
    }

    /// Takes up what the last life of the sidecar left: a delivery that it began and did not end counts.
    pub(super) fn resume(&mut self, begun: Option<&Begun>, max_attempts: u32) -> Result<(), store::Error> {
        self.board.tally(self.attempts.tally);
        if let Some(poison) = self.attempts.poisoned {
            self.board.halt(trouble::poisoned(poison, self.attempts.at(poison)), false);
        }
        match begun {
            Some(begun) => self.doubted(begun, max_attempts),
            None => Ok(()),
        }
    }

    /// The kept connection led to a life that is not known any more.
    pub(super) async fn disconnect(&mut self) {
        self.app.disconnect().await;
        (self.connected, self.first) = (None, None);
    }

    /// Delivers until there is an outcome; waits as long as that takes.
    pub(super) async fn deliver(
        &mut self,
        delivery: &Delivery<'_>,
        terms: Terms,
        stop: &CancellationToken,
    ) -> Result<Delivered, Halt> {
        let position = delivery.place.position;
        let mut backoff = Backoff::default();
        loop {
            let failed = self.attempts.at(position);
            if self.attempts.poisoned == Some(position) || failed >= terms.max_attempts.max(1) {
                return Err(Halt::Poisoned(trouble::poisoned(position, failed)));
            }
            self.connect(stop).await?;
            let Some(life) = self.connected.clone() else {
                backoff.absent(stop).await?;
                continue;
            };
            let begun = Begun { position, attempt: failed + 1, life, idempotent: terms.idempotent };
            self.board.store.begin(&begun)?;
            if self.board.in_doubt() {
                self.attempts.tally.redelivered += 1;
                self.board.tally(self.attempts.tally);
            }
            let end = self.answer(delivery).await;
            let status = end.as_ref().map(|outcome| outcome.status);
            match (meaning(self.way, status), end) {
                (Meaning::Outcome, Ok(outcome)) => {
                    self.board.delivery(None);
                    let forgotten = self.attempts.passed(position);
                    return Ok(Delivered { outcome, forgotten });
                }
                (Meaning::InDoubt, end) => self.in_doubt(&begun, terms, end)?,
                (Meaning::Again(counted), end) => self.again(position, terms, counted, &end).await?,
                (Meaning::Outcome, Err(end)) => {
                    self.again(position, terms, Counted::No, &Err(end)).await?;
                }
            }
            backoff.pause(stop).await?;
        }
    }

    /// The life that the kept connection leads to.
    pub(super) fn connected(&self) -> Option<&life::Incarnation> {
        self.connected.as_ref()
    }

    /// Makes sure that the next delivery leads to a life that may get it; to none where nobody is there yet.
    async fn connect(&mut self, stop: &CancellationToken) -> Result<(), Halt> {
        let mut connected = self.reach(stop).await?;
        if connected == Ok(Connected::Kept) && self.connected.is_none() {
            // Who listens now says nothing of a connection that stood before.
            self.app.disconnect().await;
            connected = self.reach(stop).await?;
        }
        match connected {
            Ok(Connected::Kept) => {}
            Ok(Connected::Fresh) => self.connected = None,
            Err(unwell) => {
                self.connected = None;
                self.board.delivery(Some(Application::Unwell(trouble::unwell(&unwell))));
                return Ok(());
            }
        }
        if self.connected.is_none() {
            self.connected = self.look()?;
        }
        Ok(())
    }

    async fn reach(&self, stop: &CancellationToken) -> Result<Result<Connected, Unwell>, Halt> {
        tokio::select! {
            biased;
            () = stop.cancelled() => Err(Halt::Stopped),
            connected = self.app.connect() => Ok(connected),
        }
    }

    /// Whose connection it is, if that one may get the next command.
    fn look(&mut self) -> Result<Option<life::Incarnation>, Halt> {
        let seen = Seen::of(self.board.life.current());
        let standing = self.board.standing();
        match verdict(&standing, &seen) {
            Verdict::Known => {}
            Verdict::New(_) | Verdict::Alive(_) | Verdict::Gone(_) | Verdict::Hidden(_) => {
                return Err(Halt::Unknown);
            }
        }
        let now = match seen {
            Seen::Nobody => {
                self.board.delivery(Some(Application::Unwell(trouble::nothing_listens())));
                return Ok(None);
            }
            Seen::Life(now) => now,
            Seen::Hidden => life::Incarnation::unseen(),
        };
        let met = standing.life.is_some() || standing.begun.is_some();
        Ok((met || self.settled(&now)).then_some(now))
    }

    /// Whether the application's first life has been the same for a while.
    fn settled(&mut self, now: &life::Incarnation) -> bool {
        match &self.first {
            Some((seen, since)) if seen == now => since.elapsed() >= SETTLED,
            _ => {
                self.first = Some((now.clone(), Instant::now()));
                false
            }
        }
    }

    /// Waits for the answer as long as the connection lives, and says when that takes long.
    async fn answer(&self, delivery: &Delivery<'_>) -> Result<Outcome, End> {
        let began = Instant::now();
        let overdue_after = self.app.overdue_after();
        let answer = self.app.deliver(delivery);
        tokio::pin!(answer);
        loop {
            let wait = if began.elapsed() < overdue_after { overdue_after } else { Duration::from_secs(1) };
            match tokio::time::timeout(wait, &mut answer).await {
                Ok(end) => return end,
                Err(_) => {
                    let overdue = trouble::overdue(delivery.place.position, began.elapsed().as_secs());
                    self.board.delivery(Some(Application::Overdue(overdue)));
                }
            }
        }
    }

    async fn again(
        &mut self,
        position: Position,
        terms: Terms,
        counted: Counted,
        end: &Result<Outcome, End>,
    ) -> Result<(), Halt> {
        let counts = match counted {
            Counted::No => false,
            Counted::Yes => true,
            Counted::UnlessUnwell => self.app.healthy().await.is_ok(),
        };
        if counts {
            self.attempts.fail(position, self.attempts.at(position) + 1, terms.max_attempts);
        }
        self.board.store.not_processed(&self.attempts)?;
        self.board.retries();
        let why = match end {
            Ok(outcome) => format!("it answered {}", outcome.status),
            Err(end) => end.to_string(),
        };
        self.board.delivery(Some(Application::Unwell(trouble::not_processed(position, &why))));
        Ok(())
    }

    /// Counts a delivery that nobody can say the end of. It may be repeated only where that does no harm.
    fn in_doubt(&mut self, begun: &Begun, terms: Terms, end: Result<Outcome, End>) -> Result<(), Halt> {
        let end = end.err().map(|end| end.to_string()).unwrap_or_default();
        tracing::warn!(position = %begun.position, attempt = begun.attempt, end, "a delivery is in doubt");
        self.connected = None;
        self.board.delivery(None);
        self.doubted(begun, terms.max_attempts)?;
        let standing = self.board.standing();
        self.board.set_standing(Standing { begun: Some(begun.standing()), ..standing });
        if begun.idempotent { Ok(()) } else { Err(Halt::Unknown) }
    }

    /// Counts it as an attempt; says at once if it was the last one.
    pub(super) fn doubted(&mut self, begun: &Begun, max_attempts: u32) -> Result<(), store::Error> {
        if self.attempts.at(begun.position) >= begun.attempt {
            return Ok(()); // was counted when it ended, or at an earlier start
        }
        self.attempts.tally.doubts += 1;
        let poison = self.attempts.fail(begun.position, begun.attempt, max_attempts);
        self.board.store.in_doubt(&self.attempts)?;
        self.board.tally(self.attempts.tally);
        if poison {
            self.board.halt(trouble::poisoned(begun.position, begun.attempt), false);
        }
        Ok(())
    }
}
