//! What a replica is told when it is made.

use std::borrow::Cow;
use std::path::PathBuf;

use decree_wire::position::{EngineName, Incarnation};
use decree_wire::probe::Restart;
use decree_wire::settings::{ClassSettings, Settings};
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
    /// What gives the application an empty state again.
    pub restart: Restart,
    /// The folder of the journal and the dedup window.
    pub state: PathBuf,
    /// The log's incarnation as the operator has it in the document; none until it is known. The replica waits for it.
    pub expected: watch::Receiver<Option<Incarnation>>,
}

impl Config {
    /// What the class does, where these settings hold.
    pub(super) fn class_in<'a>(&self, settings: &'a Settings) -> Cow<'a, ClassSettings> {
        settings.classes.get(&self.class).map_or_else(Cow::default, Cow::Borrowed)
    }
}
