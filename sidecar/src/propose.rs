//! A command's way to its answer: known already, or appended to the log and waited for until it is applied here.

use std::sync::Arc;
use std::time::Duration;

use decree_wire::command::{Command, Fingerprint, Identity, engine_source};
use decree_wire::heartbeat::{State, Trouble};
use decree_wire::position::{EngineName, Position};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::app::Outcome;
use crate::log::{self, Log, NewEntry};
use crate::metrics::{Metrics, Proposed};
use crate::replica::{self, Known, Resolution};

mod error;
mod ordered;

pub use error::Error;
use ordered::Own;

/// How many commands may be outstanding. (How many bytes of them, the intake decides.)
pub const OUTSTANDING: usize = 512;
/// A payload's limit: what brokers take by default, less the room for headers.
pub const MAX_PAYLOAD: usize = (1 << 20) - (16 << 10);
/// How long a proposer waits if it does not say.
pub const DEFAULT_WAIT: Duration = Duration::from_secs(30);
/// The longest wait that may be asked for.
pub const MAX_WAIT: Duration = Duration::from_secs(300);
/// A replica that was just opened finds its log in this time, or it is away.
const FIND_LIMIT: Duration = Duration::from_secs(2);

/// What a proposer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until it is applied here, so long.
    Applied(Duration),
    /// Until it is ordered and durable, so long.
    Ordered(Duration),
}

impl Wait {
    fn limit(self) -> Duration {
        match self {
            Self::Applied(limit) | Self::Ordered(limit) => limit.min(MAX_WAIT),
        }
    }
}

/// What a proposer is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The command's id: the client's own, or the one that was made up.
    pub id: String,
    /// Where the command stands.
    pub position: Position,
    /// The application's answer; none if only the order was waited for.
    pub outcome: Option<Outcome>,
    /// It was there already.
    pub duplicate: bool,
}

/// Where a command is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// Not seen here: never proposed, on its way to the log, or longer ago than the dedup window.
    Unknown,
    /// Ordered by this agent and not yet applied here.
    Ordered(Position),
    /// Applied here.
    Applied(Known),
}

/// Proposes commands for one engine.
#[derive(Debug)]
pub struct Proposer {
    engine: EngineName,
    version: u32,
    log: Arc<dyn Log>,
    replica: replica::Handle,
    metrics: Metrics,
    slots: Semaphore,
    /// From then on no outcome can come any more: the application has gone, and this agent is ending.
    given_up: CancellationToken,
    ordered: Own,
}

impl Proposer {
    /// A proposer that appends to `log` and is answered by `replica`. `version`: what this agent's application speaks.
    /// `given_up`: ends every wait for an outcome.
    #[must_use]
    pub fn new(
        engine: EngineName,
        version: u32,
        log: Arc<dyn Log>,
        replica: replica::Handle,
        metrics: Metrics,
        given_up: CancellationToken,
    ) -> Self {
        let slots = Semaphore::new(OUTSTANDING);
        Self { engine, version, log, replica, metrics, slots, given_up, ordered: Own::default() }
    }

    /// How many are outstanding.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        OUTSTANDING - self.slots.available_permits()
    }

    /// Proposes a command; made up are the id if there is none, the source, and what a sidecar adds.
    ///
    /// # Errors
    /// As [`Error`] lists; after a 504 the same id may be proposed again.
    pub async fn propose(&self, command: Command, wait: Wait) -> Result<Answer, Error> {
        let begun = Instant::now();
        let result = self.answer(command, wait, begun + wait.limit()).await;
        self.metrics.proposed(proposed(&result), begun.elapsed());
        result
    }

    async fn answer(&self, mut command: Command, wait: Wait, deadline: Instant) -> Result<Answer, Error> {
        let size = command.payload.len();
        if size > MAX_PAYLOAD {
            return Err(Error::TooLarge(format!("{size} bytes, of {MAX_PAYLOAD} at most")));
        }
        let _slot =
            self.slots.try_acquire().map_err(|_| Error::Busy { what: "as many commands as may be" })?;
        // An id that is made up here can't be known.
        let named = command.id.is_some();
        let identity = self.complete(&mut command);
        if named && let Some(known) = self.replica.known(&identity)? {
            return already(&command, identity.id, known);
        }
        self.following(deadline).await?;
        command.head = Some(self.head());
        // A repeat of what this agent ordered and has not applied yet needs no second entry.
        let fingerprint = command.fingerprint();
        let ordered = match named {
            true => self.ordered.same(&identity, fingerprint, self.next()),
            false => None,
        };
        let (position, duplicate) = match ordered {
            Some(position) => (position, true),
            None => (self.append(command, &identity, fingerprint, deadline).await?, false),
        };
        match wait {
            Wait::Ordered(_) => Ok(Answer { id: identity.id, position, outcome: None, duplicate }),
            Wait::Applied(_) => {
                let answer = self.applied(identity.id, position, deadline).await?;
                Ok(Answer { duplicate: duplicate || answer.duplicate, ..answer })
            }
        }
    }

    /// Fills in what the client left out and what a sidecar adds.
    fn complete(&self, command: &mut Command) -> Identity {
        let id = command.id.get_or_insert_with(|| uuid::Uuid::now_v7().to_string()).clone();
        let source = command.source.get_or_insert_with(|| engine_source(&self.engine)).clone();
        command.version = Some(self.version);
        Identity { source, id }
    }

    /// The head as far as it is known. Before the log is followed that is nought, and a command would be void.
    fn head(&self) -> Position {
        let progress = self.replica.progress();
        let progress = progress.borrow();
        // The end of a log that can't be heard at present is forgotten; where it ended at the start still holds.
        [progress.end, progress.start_head].into_iter().flatten().fold(progress.next, Position::max)
    }

    /// A halted replica would let every proposer wait in vain; one that waits does not know yet whose log this is, but
    /// a sidecar that was just started again knows in a moment.
    async fn following(&self, deadline: Instant) -> Result<(), Error> {
        let mut progress = self.replica.progress();
        let limit = deadline.min(Instant::now() + FIND_LIMIT);
        let _ = timeout_at(limit, progress.wait_for(|progress| progress.state != State::Waiting)).await;
        let progress = progress.borrow();
        match progress.state {
            State::CatchingUp | State::Running | State::Draining => Ok(()),
            State::Halted | State::Waiting | State::Rebuilding => {
                Err(Error::NotFollowing(progress.trouble.clone().unwrap_or_else(|| Trouble {
                    reason: "WaitingForLog".into(),
                    message: "the log was not found yet".into(),
                })))
            }
        }
    }

    async fn append(
        &self,
        command: Command,
        identity: &Identity,
        fingerprint: Fingerprint,
        deadline: Instant,
    ) -> Result<Position, Error> {
        let id = || identity.id.clone();
        let entry = NewEntry::Command(command);
        let dealt = self.next();
        match timeout_at(deadline, self.log.append(&entry)).await {
            // A producer knows topics by name: made again, the log gives positions that were dealt with in another.
            Ok(Ok(position)) if position < dealt => Err(Error::NotOrdered {
                id: id(),
                why: format!(
                    "the log gave position {position}, and {dealt} was reached before: it is another log"
                ),
            }),
            Ok(Ok(position)) => {
                self.ordered.remember(identity, fingerprint, position, self.next());
                Ok(position)
            }
            Ok(Err(log::Error::Unknown(why))) => Err(Error::NotOrdered { id: id(), why }),
            Ok(Err(log::Error::TooLarge(why))) => Err(Error::TooLarge(why)),
            Ok(Err(log::Error::Full)) => {
                Err(Error::Busy { what: "as many commands as the log's queue holds" })
            }
            Ok(Err(source)) => Err(Error::Log { id: id(), source }),
            Err(_) => Err(Error::NotOrdered { id: id(), why: "the log did not answer in time".into() }),
        }
    }

    async fn applied(&self, id: String, position: Position, deadline: Instant) -> Result<Answer, Error> {
        let resolution = tokio::select! {
            biased;
            resolution = timeout_at(deadline, self.replica.resolved(position)) => resolution,
            () = self.given_up.cancelled() => {
                let why = "this agent is ending; ask another one".into();
                return Err(Error::NotApplied { id, position, why });
            }
        };
        let Ok(resolution) = resolution else {
            return Err(Error::NotApplied { id, position, why: self.waiting_for() });
        };
        match resolution? {
            Resolution::Applied { outcome } => {
                Ok(Answer { id, position, outcome: Some(outcome), duplicate: false })
            }
            Resolution::Duplicate { of, outcome: Some(outcome) } => {
                Ok(Answer { id, position: of, outcome: Some(outcome), duplicate: true })
            }
            Resolution::Duplicate { of, outcome: None } => Err(Error::Gone { id, of }),
            Resolution::Forgotten => Err(Error::Gone { id, of: position }),
            Resolution::Reused { of } => Err(Error::Reused { id, of }),
            Resolution::Void(why) => Err(Error::Void { id, position, why }),
            Resolution::Passed => {
                // The log returned a position at which no command stands: it is not the log that is followed.
                Err(Error::NotOrdered { id, why: format!("no command stands at position {position}") })
            }
            Resolution::Halted(trouble) => Err(Error::NotApplied { id, position, why: trouble.message }),
            Resolution::TooManyWaiters => {
                Err(Error::NotApplied { id, position, why: "too many wait for an outcome here".into() })
            }
        }
    }

    fn waiting_for(&self) -> String {
        let progress = self.replica.progress();
        let progress = progress.borrow();
        match &progress.trouble {
            Some(trouble) => trouble.message.clone(),
            None => format!("this agent goes on at position {}", progress.next),
        }
    }

    /// Where the command of that identity is, as far as this agent knows.
    ///
    /// # Errors
    /// If the replica's store can't be read.
    pub fn whereabouts(&self, id: String, source: Option<String>) -> Result<Whereabouts, Error> {
        let identity = Identity { source: source.unwrap_or_else(|| engine_source(&self.engine)), id };
        // Looked up first: a command that is applied between the two look-ups is then found in the second.
        let ordered = self.ordered.position(&identity);
        Ok(match (self.replica.known(&identity)?, ordered) {
            (Some(known), _) => Whereabouts::Applied(known),
            (None, Some(position)) => Whereabouts::Ordered(position),
            (None, None) => Whereabouts::Unknown,
        })
    }

    /// Before it everything was dealt with here.
    fn next(&self) -> Position {
        self.replica.progress().borrow().next
    }
}

fn already(command: &Command, id: String, known: Known) -> Result<Answer, Error> {
    let of = known.position;
    if known.fingerprint != command.fingerprint() {
        return Err(Error::Reused { id, of });
    }
    match known.outcome {
        Some(outcome) => Ok(Answer { id, position: of, outcome: Some(outcome), duplicate: true }),
        None => Err(Error::Gone { id, of }),
    }
}

fn proposed(result: &Result<Answer, Error>) -> Proposed {
    match result {
        Ok(Answer { duplicate: true, .. }) => Proposed::Duplicate,
        Ok(Answer { outcome: Some(_), .. }) => Proposed::Applied,
        Ok(Answer { outcome: None, .. }) => Proposed::Ordered,
        Err(Error::NotOrdered { .. } | Error::NotApplied { .. }) => Proposed::Unknown,
        Err(Error::Busy { .. }) => Proposed::OverQuota,
        Err(Error::Draining | Error::NotFollowing(_) | Error::Log { .. } | Error::Replica(_)) => {
            Proposed::Unavailable
        }
        Err(Error::TooLarge(_) | Error::Reused { .. } | Error::Gone { .. } | Error::Void { .. }) => {
            Proposed::Refused
        }
    }
}
