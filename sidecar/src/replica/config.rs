//! What a replica is told when it is made.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use decree_wire::position::{EngineName, Incarnation};
use tokio::sync::watch;

/// What a replica is told when it is made.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whose log is followed.
    pub engine: EngineName,
    /// The uid of the cluster's `kube-system` namespace.
    pub cluster: String,
    /// The agent class.
    pub class: String,
    /// Whether the class replicates HTTP requests: a command that is none is void there.
    pub replicates: bool,
    /// The folder of the journal and the dedup window.
    pub state: PathBuf,
    /// The log's incarnation as the operator has it in the document; none until it is known. The replica waits for it.
    pub expected: watch::Receiver<Option<Incarnation>>,
    /// Who is told how long things took.
    pub observer: Arc<dyn Observer>,
}

/// Is told how long things took.
pub trait Observer: Send + Sync + fmt::Debug {
    /// A command was applied. MUST return at once.
    fn applied(&self, timing: Timing);
}

/// How long a command took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From the beginning of the delivery to its answer.
    pub apply: Duration,
    /// From log time to the outcome; zero where the clocks say that it was before.
    pub ordered_to_applied: Duration,
}

/// Tells nobody.
impl Observer for () {
    fn applied(&self, _: Timing) {}
}
