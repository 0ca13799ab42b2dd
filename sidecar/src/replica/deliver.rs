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
use super::trouble;
use crate::app::end::{Counted, Meaning, Way, meaning};
use crate::app::{App, Connected, Delivery, End, Outcome};
use crate::life;
use crate::life::verdict::{Standing, Verdict, verdict};

/// An application may open one listener after the other as it starts: its first life counts once they stay the same.
const SETTLED: Duration = Duration::from_millis(500);

/// Delivers commands, one at a time.
#[derive(Debug)]
pub(super) struct Courier {
    app: Arc<dyn App>,
    board: Arc<Board>,
    way: Way,
    attempts: Attempts,
    /// The life that the kept connection leads to.
    connected: Option<life::Incarnation>,
    /// The life that was seen, and since when, as long as nothing was applied to any.
    first: Option<(life::Incarnation, Instant)>,
}

/// A command that the application dealt with.
#[derive(Debug)]
pub(super) struct Delivered {
    pub(super) outcome: Outcome,
    /// To whom.
    pub(super) life: life::Incarnation,
}

impl Courier {
    pub(super) fn new(app: Arc<dyn App>, board: Arc<Board>, way: Way, attempts: Attempts) -> Self {
        Self { app, board, way, attempts, connected: None, first: None }
    }

    /// Delivers until there is an outcome; waits as long as that takes.
    pub(super) async fn deliver(
        &mut self,
        delivery: &Delivery<'_>,
        max_attempts: u32,
        stop: &CancellationToken,
    ) -> Result<Delivered, Halt> {
        let position = delivery.place.position;
        if self.attempts.position != position {
            self.attempts = Attempts { position, failed: 0 };
        }
        let mut backoff = Backoff::default();
        loop {
            if self.attempts.failed >= max_attempts.max(1) {
                return Err(Halt::For(trouble::poisoned(position, self.attempts.failed)));
            }
            let Some(life) = self.connect(stop).await? else {
                backoff.pause(stop).await?;
                continue;
            };
            let attempt = self.attempts.failed + 1;
            self.board.store.begin(&Begun { position, attempt, life: life.clone() })?;
            let end = self.answer(delivery).await;
            let status = end.as_ref().map(|outcome| outcome.status);
            match (meaning(self.way, status), end) {
                (Meaning::Outcome, Ok(outcome)) => {
                    self.board.delivery(None);
                    return Ok(Delivered { outcome, life });
                }
                (Meaning::InDoubt, end) => return Err(self.in_doubt(position, life, end)?),
                (Meaning::Again(counted), end) => self.again(position, counted, &end).await?,
                (Meaning::Outcome, Err(end)) => self.again(position, Counted::No, &Err(end)).await?,
            }
            backoff.pause(stop).await?;
        }
    }

    /// The life that the next delivery goes to; none where nobody is there yet.
    async fn connect(&mut self, stop: &CancellationToken) -> Result<Option<life::Incarnation>, Halt> {
        let connected = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(Halt::Stopped),
            connected = self.app.connect() => connected,
        };
        match connected {
            Ok(Connected::Kept) => {}
            Ok(Connected::Fresh) => self.connected = None,
            Err(unwell) => {
                self.connected = None;
                self.board.delivery(Some(Application::Unwell(trouble::unwell(&unwell))));
                return Ok(None);
            }
        }
        if self.connected.is_none() {
            self.connected = self.look()?;
        }
        Ok(self.connected.clone())
    }

    /// Whose connection it is, if that one may get the next command.
    fn look(&mut self) -> Result<Option<life::Incarnation>, Halt> {
        let now = match self.board.life.current() {
            Ok(None) => {
                self.board.delivery(Some(Application::Unwell(trouble::nothing_listens())));
                return Ok(None);
            }
            Ok(Some(now)) => Some(now),
            Err(error) => {
                tracing::warn!(%error, "the application's life can't be seen: this connection counts as a new one");
                None
            }
        };
        let standing = self.board.standing();
        match verdict(&standing, now.as_ref()) {
            Verdict::Known => {
                let now = now.unwrap_or_else(life::Incarnation::unseen);
                Ok((standing.life.is_some() || self.settled(&now)).then_some(now))
            }
            Verdict::Unknown(why) => Err(Halt::For(trouble::state_unknown(&why))),
        }
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
        counted: Counted,
        end: &Result<Outcome, End>,
    ) -> Result<(), Halt> {
        let counts = match counted {
            Counted::No => false,
            Counted::Yes => true,
            Counted::UnlessUnwell => self.app.healthy().await.is_ok(),
        };
        self.attempts.failed += u32::from(counts);
        self.board.store.not_processed(self.attempts)?;
        self.board.count(|counts| counts.retries += 1);
        let why = match end {
            Ok(outcome) => format!("it answered {}", outcome.status),
            Err(end) => end.to_string(),
        };
        self.board.delivery(Some(Application::Unwell(trouble::not_processed(position, &why))));
        Ok(())
    }

    fn in_doubt(
        &mut self,
        position: Position,
        life: life::Incarnation,
        end: Result<Outcome, End>,
    ) -> Result<Halt, Halt> {
        self.attempts.failed += 1;
        self.board.store.in_doubt(self.attempts)?;
        self.board.set_standing(Standing { life: Some(life), begun: Some(position) });
        let end = end.err().map(|end| end.to_string()).unwrap_or_default();
        let why = format!("the delivery of position {position} is in doubt ({end})");
        Ok(Halt::For(trouble::state_unknown(&why)))
    }
}
