//! What the handlers of the local API share.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::agent::Agent;
use crate::intake::Intake;
use crate::problem::Problem;

/// How many streams of decisions at once: each costs a reader with its buffers.
const STREAMS: usize = 8;

/// What the handlers share.
#[derive(Clone, Debug)]
pub(super) struct Door {
    pub(super) agent: Agent,
    pub(super) intake: Intake,
    streams: Arc<Semaphore>,
}

impl Door {
    pub(super) fn new(agent: Agent, intake: Intake) -> Self {
        Self { agent, intake, streams: Arc::new(Semaphore::new(STREAMS)) }
    }

    /// Room for one more stream, to be held as long as it lasts.
    pub(super) fn stream(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.streams).try_acquire_owned().map_err(|_| {
            Problem::over_quota(format!("{STREAMS} streams are open at this agent already; close one"))
        })
    }
}
