//! An agent in one process: a log in memory, an application that does what a test says, and a replica between them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use decree_sidecar::app::App;
use decree_sidecar::app::scripted::ScriptedApp;
use decree_sidecar::life::Life;
use decree_sidecar::life::scripted::ScriptedLife;
use decree_sidecar::log::memory::MemoryLog;
use decree_sidecar::log::{Log, NewEntry};
use decree_sidecar::replica::{Config, Handle, Progress, Replica};
use decree_wire::command::{Command, Identity, engine_source};
use decree_wire::control::Control;
use decree_wire::heartbeat::{State, Trouble};
use decree_wire::position::{EngineName, Incarnation, Position};
use decree_wire::probe::Restart;
use decree_wire::settings::{ClassSettings, Dedup, DigestOf, Settings};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Of paused time: long enough for every back-off.
const LIMIT: Duration = Duration::from_secs(600);

pub(crate) fn engine() -> EngineName {
    EngineName { namespace: "shop".into(), name: "policy".into() }
}

pub(crate) fn settings() -> Settings {
    let class = ClassSettings { digest: DigestOf::Outcome, max_attempts: 3, ..ClassSettings::default() };
    Settings {
        engine: engine(),
        cluster: "cluster".into(),
        dedup: Dedup { window: 1000, outcomes: 100, outcome_bytes: 1 << 20 },
        classes: [("opa".to_owned(), class)].into(),
    }
}

pub(crate) fn command(id: &str, payload: &'static str) -> Command {
    Command { id: Some(id.to_owned()), payload: Bytes::from_static(payload.as_bytes()), ..Command::default() }
}

pub(crate) fn identity(id: &str) -> Identity {
    Identity { source: engine_source(&engine()), id: id.to_owned() }
}

/// What outlives the sidecar.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) log: MemoryLog,
    pub(crate) app: Arc<ScriptedApp>,
    pub(crate) life: Arc<ScriptedLife>,
    pub(crate) expected: watch::Sender<Option<Incarnation>>,
    folder: TempDir,
}

impl World {
    /// With nothing in the log.
    pub(crate) fn empty() -> Self {
        Self::with(MemoryLog::new())
    }

    /// With a log that is there already.
    pub(crate) fn with(log: MemoryLog) -> Self {
        Self {
            log,
            app: Arc::new(ScriptedApp::default()),
            life: Arc::new(ScriptedLife::new(1)),
            expected: watch::Sender::new(Some(Incarnation("memory-1".into()))),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// With settings at position 0.
    pub(crate) async fn new() -> Self {
        let world = Self::empty();
        world.control(Control::Settings(settings())).await;
        world
    }

    pub(crate) async fn command(&self, id: &str, payload: &'static str) -> Position {
        self.log.append(&NewEntry::Command(command(id, payload))).await.unwrap()
    }

    pub(crate) async fn control(&self, control: Control) -> Position {
        self.log.append(&NewEntry::Control(control)).await.unwrap()
    }

    pub(crate) fn start(&self) -> Agent {
        self.start_as(false, self.folder.path())
    }

    pub(crate) fn start_as(&self, replicates: bool, state: &Path) -> Agent {
        self.start_with(Restart::Container, replicates, state)
    }

    /// In a pod that has to go before its application is empty again.
    pub(crate) fn start_in_pod(&self) -> Agent {
        self.start_with(Restart::Pod, false, self.folder.path())
    }

    /// The container restarts: its application is empty, and another socket listens.
    pub(crate) fn restart_application(&self, inode: u32) {
        self.app.restart();
        self.life.restart(inode);
    }

    /// With an application that is its own life.
    pub(crate) fn start_living<A: App + Life + 'static>(&self, app: &Arc<A>, state: &Path) -> Agent {
        self.open(Restart::Container, false, state, app.clone(), app.clone())
    }

    fn start_with(&self, restart: Restart, replicates: bool, state: &Path) -> Agent {
        self.open(restart, replicates, state, self.app.clone(), self.life.clone())
    }

    fn open(
        &self,
        restart: Restart,
        replicates: bool,
        state: &Path,
        app: Arc<dyn App>,
        life: Arc<dyn Life>,
    ) -> Agent {
        let config = Config {
            engine: engine(),
            cluster: "cluster".into(),
            class: "opa".into(),
            replicates,
            restart,
            state: state.to_owned(),
            expected: self.expected.subscribe(),
        };
        let (replica, handle) = Replica::open(config, Arc::new(self.log.clone()), app, life).unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(replica.run(stop.clone()));
        Agent { handle, stop, task }
    }
}

/// One life of the sidecar.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) handle: Handle,
    stop: CancellationToken,
    task: JoinHandle<Result<(), decree_sidecar::replica::Error>>,
}

impl Agent {
    pub(crate) async fn until(&self, what: impl Fn(&Progress) -> bool) -> Progress {
        let mut progress = self.handle.progress();
        let seen = tokio::time::timeout(LIMIT, progress.wait_for(|p| what(p))).await;
        match seen {
            Ok(progress) => progress.unwrap().clone(),
            Err(_) => panic!("it never came to that: {:#?}", self.handle.progress().borrow().clone()),
        }
    }

    pub(crate) async fn at(&self, position: Position) -> Progress {
        self.until(|progress| progress.position >= Some(position)).await
    }

    pub(crate) async fn halted(&self) -> Trouble {
        self.until(|progress| progress.state == State::Halted).await.trouble.unwrap()
    }

    /// Ends it as SIGTERM does.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// Ends it in the middle of whatever it does.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}
