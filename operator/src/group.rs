//! The reconcile of one group, on one page: fetch, validate, plan, apply, status. Who belongs to the Raft membership that
//! orders an engine's commands, and what is to be done about it.
//!
//! ```text
//!  fetch ─▶ validate ─▶ facts ─▶ view: the leader, how each member does ─▶ plan: one step, or what is waited for
//!    │                                                                      └─ begin, change, gates
//!    └─ call ──mutual TLS──▶ sidecars ◀── apply: one step, then all is read anew
//! ```

pub mod apply;
pub mod bond;
pub mod call;
pub mod costs;
pub mod explain;
pub mod facts;
pub mod fetch;
pub mod genesis;
pub mod notes;
pub mod plan;
pub mod status;
pub mod step;
pub mod validate;
pub mod view;

use std::sync::Arc;
use std::time::{Duration, Instant};

use decree_crds::group::status::ConsensusGroupStatus;
use decree_crds::{ConsensusGroup, labels};
use decree_wire::position::EngineName;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;

use self::apply::Applied;
use self::fetch::Fetched;
use self::notes::GroupName;
use self::step::Plan;
use self::validate::Valid;
use self::view::View;
use crate::engine::context::Context;
use crate::engine::problem::{Alert, Problem};
use crate::metrics::Ended;

/// So many steps are taken before others get a turn.
const ROUNDS: usize = 8;
/// A round's limit: whatever hangs, hangs no longer than this, and only this group.
const LIMIT: Duration = Duration::from_secs(60);
/// A group that agrees, or whose learners catch up, has done so within this as a rule.
const SOON: Duration = Duration::from_millis(300);
/// While a group can order nothing, it is looked at so often.
const OUTSTANDING: Duration = Duration::from_secs(1);
/// And at rest: leaders change by themselves.
const AT_REST: Duration = Duration::from_secs(5);
/// After a reconcile that could not even write the status.
const RETRY: Duration = Duration::from_secs(5);

/// Why a reconcile could not be finished: nothing is known, or nothing can be written. The rest is in the status.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is known.
    #[error("look at group {0}")]
    Fetch(GroupName, #[source] Box<fetch::Error>),
    /// Nothing can be written.
    #[error("write the status of group {0}")]
    Status(GroupName, #[source] Box<apply::Error>),
    /// Something hangs.
    #[error("reconcile group {0}: no end within {LIMIT:?}")]
    Late(GroupName),
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

/// Brings one group a step nearer to what is wanted of it, and says how far it is.
///
/// # Errors
/// If the API server can't be read or written.
pub async fn reconcile(object: Arc<ConsensusGroup>, context: Arc<Context>) -> Result<Action, Error> {
    let begun = Instant::now();
    let name = name_of(object.as_ref());
    let result = tokio::select! {
        biased;
        // Another operator acts, or is about to.
        () = context.leads.lost() => return Ok(Action::await_change()),
        result = rounds(&name, &context) => result,
    };
    context.metrics.group_reconcile_seconds.observe(begun.elapsed().as_secs_f64());
    let ended = match &result {
        Ok(Next::Gone | Next::Again | Next::Done { problem: None, .. }) => "ok",
        Ok(Next::Done { problem: Some(reason), .. }) => reason,
        Err(error) => error.reason(),
    };
    context.metrics.group_reconciles.get_or_create(&Ended { result: ended }).inc();
    Ok(match result? {
        Next::Gone => Action::await_change(),
        Next::Again => Action::requeue(Duration::from_millis(100)),
        Next::Done { again, .. } => Action::requeue(again),
    })
}

async fn rounds(name: &GroupName, context: &Context) -> Result<Next, Error> {
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
    /// The group does not exist any more, or nothing is done to it until it changes.
    Gone,
    /// What was done has to be looked at.
    Again,
    /// Nothing more can be done for now.
    Done { problem: Option<&'static str>, again: Duration },
}

async fn round(name: &GroupName, context: &Context) -> Result<Next, Error> {
    let fetched = fetch::fetch(name, context).await;
    let fetched = fetched.map_err(|error| Error::Fetch(name.clone(), Box::new(error)))?;
    let Some(fetched) = fetched else {
        context.group_notes.forget(name);
        return Ok(Next::Gone);
    };
    if fetched.object.annotations().get(labels::PAUSED).is_some_and(|value| value == "true") {
        pause(name, &fetched, context).await?;
        return Ok(Next::Gone);
    }
    let (valid, plan, applied) = match validate::validate(&fetched) {
        Err(problem) => (None, refused(problem), Applied::default()),
        Ok(valid) if is_bound(&valid, &fetched) => {
            let plan = plan::plan(&valid.facts);
            let costs = view(&valid).map(|view| costs::costs(&view, &fetched.pods)).unwrap_or_default();
            let applied = apply::apply(name, &plan, &costs, &fetched, context).await;
            (Some(valid), plan, applied)
        }
        Ok(valid) => {
            let bound = apply::bind(name, &valid.engine, &fetched, context).await;
            bound.map_err(|error| Error::Status(name.clone(), Box::new(error)))?;
            context.nudge(EngineName { namespace: name.namespace.clone(), name: valid.engine.name });
            return Ok(Next::Again);
        }
    };
    let outcome = Outcome { valid, plan, applied };
    write(name, &fetched, &outcome, context).await?;
    Ok(outcome.next())
}

struct Outcome {
    valid: Option<Valid>,
    plan: Plan,
    applied: Applied,
}

impl Outcome {
    fn problems(&self) -> Vec<Problem> {
        [self.plan.problems.as_slice(), &self.applied.problems].concat()
    }

    fn alerts(&self) -> Vec<Alert> {
        [self.plan.alerts.as_slice(), &self.applied.alerts].concat()
    }

    /// What is outstanding.
    fn waiting(&self) -> Option<&'static str> {
        let step = self.plan.step.as_ref().map(|_| "the membership changes");
        self.plan.waiting.or(step)
    }

    fn next(&self) -> Next {
        if self.applied.look_again && self.applied.problems.is_empty() {
            return Next::Again;
        }
        let problem = self.problems().first().map(|problem| problem.reason);
        let pods = self.valid.as_ref().is_some_and(|valid| !valid.facts.pods.is_empty());
        let again = match (self.waiting(), &self.plan.no_quorum) {
            _ if problem.is_some() || !pods => AT_REST,
            (Some(_), None) => SOON,
            (_, Some(_)) => OUTSTANDING,
            (None, None) => AT_REST,
        };
        Next::Done { problem, again }
    }
}

fn refused(problem: Problem) -> Plan {
    let no_quorum = Some((problem.reason, problem.message.clone()));
    Plan { problems: vec![problem], no_quorum, ..Plan::default() }
}

/// Whether it is written already which engine the group orders for: before that nothing is done.
fn is_bound(valid: &Valid, fetched: &Fetched) -> bool {
    let bound = fetched.object.status.as_ref().and_then(|status| status.engine.as_ref());
    bound == Some(&valid.engine)
}

fn view(valid: &Valid) -> Option<View<'_>> {
    View::of(&valid.facts, valid.facts.genesis.as_ref()?)
}

/// Says that the group is paused, and leaves all else as it is.
async fn pause(name: &GroupName, fetched: &Fetched, context: &Context) -> Result<(), Error> {
    let message = format!(
        "the annotation {} is set: nobody is added to this group, promoted or removed, and its other conditions are those of \
         before; remove the annotation to go on",
        labels::PAUSED
    );
    let previous = fetched.object.status.clone().unwrap_or_default();
    let generation = fetched.object.metadata.generation;
    let paused = status::with(&previous, "Paused", &message, generation, Timestamp::now());
    if paused == previous {
        return Ok(());
    }
    let written = apply::status(name, &paused, context).await;
    written.map_err(|error| Error::Status(name.clone(), Box::new(error)))
}

/// Writes the status if it differs, and tells what changed.
async fn write(
    name: &GroupName,
    fetched: &Fetched,
    outcome: &Outcome,
    context: &Context,
) -> Result<(), Error> {
    let none = ConsensusGroupStatus::default();
    let previous = fetched.object.status.as_ref().unwrap_or(&none);
    let numbers = context.group_notes.numbers_due(name, Instant::now());
    let view = outcome.valid.as_ref().and_then(view);
    let genesis = outcome.valid.as_ref().and_then(|valid| valid.facts.genesis.as_ref());
    let (problems, alerts) = (outcome.problems(), outcome.alerts());
    let status = status::status(&status::Facts {
        previous,
        generation: fetched.object.metadata.generation,
        engine: outcome.valid.as_ref().map(|valid| &valid.engine),
        voters: usize::try_from(fetched.object.spec.voters).unwrap_or(1),
        led: view.as_ref().zip(genesis),
        no_quorum: outcome.plan.no_quorum.as_ref().map(|(reason, message)| (*reason, message.as_str())),
        problems: &problems,
        alerts: &alerts,
        waiting: outcome.waiting(),
        numbers,
        now: Timestamp::now(),
    });
    let mut notes = explain::deeds(&fetched.object, &outcome.applied.told);
    if *previous != status && !passes(outcome, previous, &status) {
        let written = apply::status(name, &status, context).await;
        written.map_err(|error| Error::Status(name.clone(), Box::new(error)))?;
        if numbers {
            context.group_notes.numbers_written(name, Instant::now());
        }
        notes.extend(explain::changes(&fetched.object, previous, &status));
        // Whom the engine asks, and what its sidecars are told, may be another now.
        let engine = outcome.valid.as_ref().map(|valid| valid.engine.name.clone());
        if let Some(engine) = engine.filter(|_| concerns_engine(previous, &status)) {
            context.nudge(EngineName { namespace: name.namespace.clone(), name: engine });
        }
    }
    context.events.tell(notes).await;
    Ok(())
}

/// Whether a status is true for a moment only: the next step follows at once. Who leads is told always.
fn passes(outcome: &Outcome, previous: &ConsensusGroupStatus, status: &ConsensusGroupStatus) -> bool {
    outcome.applied.look_again
        && outcome.applied.problems.is_empty()
        && previous.observed_generation == status.observed_generation
        && previous.leader == status.leader
        && previous.members.is_empty() == status.members.is_empty()
}

fn concerns_engine(previous: &ConsensusGroupStatus, status: &ConsensusGroupStatus) -> bool {
    let is = |status: &ConsensusGroupStatus, type_: &str| {
        status.conditions.iter().any(|c| c.type_ == type_ && c.status == "True")
    };
    let differs = |type_: &str| is(previous, type_) != is(status, type_);
    previous.leader != status.leader
        || previous.members.len() != status.members.len()
        || differs("Quorum")
        || differs("Ready")
}

/// When to try again after an error.
#[must_use]
#[allow(clippy::needless_pass_by_value)] // as the controller calls it
pub fn on_error(object: Arc<ConsensusGroup>, error: &Error, _: Arc<Context>) -> Action {
    let causes = std::iter::successors(std::error::Error::source(error), |error| error.source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    tracing::warn!(group = %name_of(object.as_ref()), %error, cause = causes.join(": "), "reconcile failed");
    Action::requeue(RETRY)
}

/// Namespace and name.
#[must_use]
pub fn name_of(object: &ConsensusGroup) -> GroupName {
    GroupName { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
}
