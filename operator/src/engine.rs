//! The reconcile of one engine, on one page: fetch, validate, plan, apply, status.

pub mod apply;
pub mod aside;
pub mod context;
pub mod documents;
pub mod explain;
pub mod fetch;
pub mod ledger;
pub mod notes;
pub mod plan;
pub mod problem;
pub mod secrets;
pub mod status;
pub mod tend;
pub mod validate;

use std::sync::Arc;
use std::time::{Duration, Instant};

use decree_crds::DecisionEngine;
use decree_crds::engine::status::DecisionEngineStatus;
use decree_wire::position::EngineName;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};

use self::context::Context;
use self::fetch::Fetched;
use self::plan::Plan;
use self::problem::Problem;
use crate::metrics::Ended;

/// A new topic has to be looked at before its log can begin, and so on: so many rounds a reconcile at most.
const ROUNDS: usize = 6;
/// A round's limit: whatever hangs, hangs no longer than this, and only this engine.
const LIMIT: Duration = Duration::from_secs(60);
/// After a reconcile that could not even write the status.
const RETRY: Duration = Duration::from_secs(10);

/// Why a reconcile could not be finished: nothing is known, or nothing can be written. The rest is in the status.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is known.
    #[error("look at engine {0}")]
    Fetch(EngineName, #[source] Box<fetch::Error>),
    /// Nothing can be written.
    #[error("write the status of engine {0}")]
    Status(EngineName, #[source] Box<apply::Error>),
    /// Something hangs.
    #[error("reconcile engine {0}: no end within {LIMIT:?}")]
    Late(EngineName),
}

impl Error {
    /// One word for metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Fetch(..) => "FetchFailed",
            Self::Status(..) => "StatusFailed",
            Self::Late(_) => "TimedOut",
        }
    }
}

/// Brings one engine a step nearer to what is wanted of it, and says how far it is.
///
/// # Errors
/// If the API server can't be read or written.
pub async fn reconcile(object: Arc<DecisionEngine>, context: Arc<Context>) -> Result<Action, Error> {
    let begun = Instant::now();
    let name = name_of(object.as_ref());
    let result = tokio::select! {
        biased;
        // Another operator acts, or is about to.
        () = context.leads.lost() => return Ok(Action::await_change()),
        result = looked_at(&object, &name, &context) => result,
    };
    context.metrics.reconcile_seconds.observe(begun.elapsed().as_secs_f64());
    let ended = match &result {
        Ok(Next::Gone | Next::Again | Next::Done { problem: None, .. }) => "ok",
        Ok(Next::Done { problem: Some(reason), .. }) => reason,
        Err(error) => error.reason(),
    };
    context.metrics.reconciles.get_or_create(&Ended { result: ended }).inc();
    Ok(match result? {
        Next::Gone => Action::await_change(),
        Next::Again => Action::requeue(Duration::from_millis(500)),
        Next::Done { agents, again, .. } => {
            let due = context.notes.due(&name, agents, Instant::now());
            Action::requeue(again.map_or(due, |again| again.min(due)))
        }
    })
}

async fn looked_at(object: &DecisionEngine, name: &EngineName, context: &Context) -> Result<Next, Error> {
    if object.metadata.deletion_timestamp.is_none() && !aside::is_paused(object) {
        return rounds(name, context).await;
    }
    let looked = tokio::time::timeout(LIMIT, Box::pin(aside::look(name, context))).await;
    match looked.map_err(|_| Error::Late(name.clone()))? {
        Ok(Some(again)) => Ok(Next::Done { problem: None, agents: false, again: Some(again) }),
        Ok(None) => Ok(Next::Gone),
        Err(error) => Err(Error::Status(name.clone(), Box::new(error))),
    }
}

async fn rounds(name: &EngineName, context: &Context) -> Result<Next, Error> {
    for _ in 0..ROUNDS {
        let round = tokio::time::timeout(LIMIT, Box::pin(round(name, context))).await;
        let next = round.unwrap_or_else(|_| Err(Error::Late(name.clone())))?;
        if !matches!(next, Next::Again) {
            return Ok(next);
        }
    }
    Ok(Next::Again)
}

/// What comes after a round.
enum Next {
    /// The engine does not exist any more, or nothing is done to it until it changes.
    Gone,
    /// What was done has to be looked at.
    Again,
    /// Nothing more can be done for now.
    Done { problem: Option<&'static str>, agents: bool, again: Option<Duration> },
}

async fn round(name: &EngineName, context: &Context) -> Result<Next, Error> {
    let fetched =
        fetch::fetch(name, context).await.map_err(|error| Error::Fetch(name.clone(), Box::new(error)))?;
    let Some(fetched) = fetched else {
        context.forget(name);
        return Ok(Next::Gone);
    };
    let held = aside::hold(name, &fetched.object, context).await;
    held.map_err(|error| Error::Status(name.clone(), Box::new(error)))?;
    let mut tended = tend::Tended::default();
    let (mut plan, applied) = match validate::validate(&fetched.object) {
        Ok(engine) => {
            let plan = plan::plan(&engine, &fetched);
            let mut applied = apply::apply(&engine, &plan, &fetched, context).await;
            tended = tend::tend(&engine, &fetched, context).await;
            applied.problems.append(&mut tended.problems);
            (plan, applied)
        }
        Err(problem) => (refused(&fetched, problem), apply::Applied::default()),
    };
    plan.alerts.append(&mut tended.alerts);
    let problems = [plan.problems.as_slice(), &applied.problems].concat();
    let waiting = applied.look_again.then_some("the log is being made").or(plan.waiting);
    let outcome = Outcome { plan, applied, tended, problems, waiting };
    write(name, &fetched, &outcome, context).await?;
    Ok(outcome.next(&fetched, name, context))
}

struct Outcome {
    plan: Plan,
    applied: apply::Applied,
    tended: tend::Tended,
    problems: Vec<Problem>,
    waiting: Option<&'static str>,
}

impl Outcome {
    fn next(&self, fetched: &Fetched, name: &EngineName, context: &Context) -> Next {
        if self.waiting.is_some() && self.applied.problems.is_empty() {
            return Next::Again;
        }
        if !self.problems.is_empty() {
            context.notes.unsettled(name, Instant::now());
        }
        let problem = self.problems.first().map(|problem| problem.reason);
        let agents = plan::agents(&fetched.pods).next().is_some();
        Next::Done { problem, agents, again: self.tended.again }
    }
}

/// Of an engine that can't be, only what is remembered is known.
fn refused(fetched: &Fetched, problem: Problem) -> Plan {
    let status = fetched.object.status.as_ref();
    let (topic, log) = status.map(|status| (status.topic.clone(), status.log.clone())).unwrap_or_default();
    Plan { problems: vec![problem], topic, log, ..Plan::default() }
}

/// Writes the status if it differs, and tells what changed.
async fn write(
    name: &EngineName,
    fetched: &Fetched,
    outcome: &Outcome,
    context: &Context,
) -> Result<(), Error> {
    let previous = fetched.object.status.as_ref();
    let numbers = context.notes.numbers_due(name, Instant::now());
    let now = Timestamp::now();
    let status = status::status(&status::Facts {
        previous,
        generation: fetched.object.metadata.generation,
        problems: &outcome.problems,
        alerts: &outcome.plan.alerts,
        waiting: outcome.waiting,
        order: if fetched.object.spec.consensus_group.is_some() { "raft" } else { "kafka" },
        topic: outcome.applied.made.clone().or(outcome.plan.topic.clone()),
        log: outcome.plan.log.clone(),
        pods: &fetched.pods,
        view: &fetched.view,
        poisoned: &outcome.tended.poisoned,
        numbers,
        now,
    });
    let passing = passes(fetched, outcome, previous, &status);
    if previous != Some(&status) && !passing {
        let written = apply::status(name, &status, context).await;
        written.map_err(|error| Error::Status(name.clone(), Box::new(error)))?;
        if numbers {
            context.notes.numbers_written(name, Instant::now());
        }
    }
    let mut notes = if passing { vec![] } else { explain::changes(&fetched.object, previous, &status) };
    notes.extend(explain::deeds(&fetched.object, outcome.applied.told.clone()));
    notes.extend(outcome.tended.notes.clone());
    notes.extend(explain::pods(&fetched.pods, &fetched.view, now));
    context.events.tell(notes).await;
    Ok(())
}

/// Whether a status is true for a moment only and says nothing new: work on an engine that is ready, or the first look
/// of an operator that was started anew.
fn passes(
    fetched: &Fetched,
    outcome: &Outcome,
    previous: Option<&DecisionEngineStatus>,
    status: &DecisionEngineStatus,
) -> bool {
    let known = previous.filter(|previous| {
        previous.observed_generation == status.observed_generation
            && previous.topic == status.topic
            && previous.log == status.log
    });
    let work = outcome.waiting.is_some() && outcome.problems.is_empty();
    work && known.is_some_and(|previous| fetched.topics.is_none() || status::is_ready(previous))
}

/// When to try again after an error.
#[must_use]
#[allow(clippy::needless_pass_by_value)] // as the controller calls it
pub fn on_error(object: Arc<DecisionEngine>, error: &Error, _: Arc<Context>) -> Action {
    let causes = std::iter::successors(std::error::Error::source(error), |error| error.source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    tracing::warn!(engine = %name_of(object.as_ref()), %error, cause = causes.join(": "), "reconcile failed");
    Action::requeue(RETRY)
}

/// Namespace and name.
#[must_use]
pub fn name_of<K: Resource>(object: &K) -> EngineName {
    EngineName { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
}
