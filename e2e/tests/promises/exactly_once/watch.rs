//! Watches all agents while faults fall on them: which deliveries were in doubt, and what became of each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use decree_e2e::Namespace;
use decree_e2e::agents::{Agent, status_of};
use decree_e2e::manifests::ENGINE_LABEL;
use serde_json::Value;

use super::faults::Fault;

const LIST: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(100);

/// What a sidecar said at a moment, as far as it differs from what it said before.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    /// Since the pod's beginning.
    doubts: u64,
    rebuilds: u64,
    calls_for: Option<String>,
    ready: bool,
}

/// A delivery in doubt, and what became of it.
#[derive(Debug)]
pub(crate) struct Doubt {
    pub(crate) pod: String,
    pub(crate) resolution: Resolution,
    pub(crate) took: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Resolution {
    /// The application had died: its next life was built from the log.
    Rebuilt,
    /// The liveness probe had its container restarted first.
    RestartedAndRebuilt,
    Evicted,
    /// By the test, before anything else came of it.
    PodDeleted,
    PodGone,
    Open,
}

/// The agents' history, by pod.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    namespace: &'a Namespace,
    engine: &'a str,
    over: AtomicBool,
    said: Mutex<BTreeMap<String, Vec<(Instant, Said)>>>,
    gone: Mutex<BTreeMap<String, Instant>>,
    diverged: Mutex<Option<Value>>,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(namespace: &'a Namespace, engine: &'a str) -> Self {
        let over = AtomicBool::new(false);
        let (said, gone, diverged) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { namespace, engine, over, said, gone, diverged }
    }

    pub(crate) fn stop(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    /// Looks at all pods of the engine, whichever they are, until [`Watch::stop`].
    pub(crate) fn run(&self) {
        let mut known: BTreeSet<String> = BTreeSet::new();
        std::thread::scope(|scope| {
            while !self.over.load(Ordering::SeqCst) {
                if let Ok(pods) = self.namespace.list_json("pods", &format!("{ENGINE_LABEL}={}", self.engine))
                {
                    let agents: Vec<Agent> = pods.iter().filter_map(|pod| Agent::of_pod(pod).ok()).collect();
                    for agent in &agents {
                        if known.insert(agent.pod.clone()) {
                            let agent = agent.clone();
                            scope.spawn(move || self.follow(&agent));
                        }
                    }
                    let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
                    for pod in known.iter().filter(|pod| agents.iter().all(|agent| agent.pod != **pod)) {
                        gone.entry(pod.clone()).or_insert_with(Instant::now);
                    }
                }
                self.look_at_engine();
                std::thread::sleep(LIST);
            }
        });
    }

    fn look_at_engine(&self) {
        let Ok(engine) = self.namespace.get_json("decisionengine", self.engine) else { return };
        if engine["status"]["digests"] == "diverged" || status_of(&engine, "Diverged") == Some("True") {
            let mut diverged = self.diverged.lock().unwrap_or_else(PoisonError::into_inner);
            diverged.get_or_insert_with(|| engine["status"].clone());
        }
    }

    fn follow(&self, agent: &Agent) {
        let is_gone = || self.gone.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&agent.pod);
        while !self.over.load(Ordering::SeqCst) && !is_gone() {
            // Before it has opened its journal it can't tell.
            if let Some(status) = agent.status().ok().filter(|status| status["replica"].is_object()) {
                let said = Said::of(&status);
                let mut all = self.said.lock().unwrap_or_else(PoisonError::into_inner);
                let history = all.entry(agent.pod.clone()).or_default();
                if history.last().is_none_or(|(_, last)| *last != said) {
                    history.push((Instant::now(), said));
                }
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Fails if two agents ever disagreed.
    pub(crate) fn ensure_never_diverged(&self) -> Result<()> {
        match &*self.diverged.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(status) => bail!("agents diverged: {status}"),
            None => Ok(()),
        }
    }

    /// Every delivery that was in doubt, and how that ended.
    pub(crate) fn doubts(&self, faults: &[Fault]) -> Result<Vec<Doubt>> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        let mut doubts = Vec::new();
        for (pod, history) in said.iter() {
            let deleted = faults.iter().any(|fault| fault.is_of_pod() && fault.pod == *pod);
            let mut before = 0;
            for (number, (at, now)) in history.iter().enumerate() {
                let (resolution, until) = resolved(&history[number..], gone.get(pod), deleted);
                let took = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(*at));
                for _ in before..now.doubts {
                    doubts.push(Doubt { pod: pod.clone(), resolution, took });
                }
                before = now.doubts;
            }
        }
        let open: Vec<&Doubt> = doubts.iter().filter(|doubt| doubt.resolution == Resolution::Open).collect();
        ensure!(open.is_empty(), "in doubt to the end: {open:?}");
        Ok(doubts)
    }
}

/// What followed from a doubt that the first of these tells of, and when.
fn resolved(
    later: &[(Instant, Said)],
    gone: Option<&Instant>,
    deleted: bool,
) -> (Resolution, Option<Instant>) {
    let rebuilds = later.first().map_or(0, |(_, said)| said.rebuilds);
    let well = later.iter().position(|(_, said)| said.ready && said.rebuilds > rebuilds);
    let called = |what: &str| {
        later[..well.unwrap_or(later.len())].iter().any(|(_, said)| said.calls_for.as_deref() == Some(what))
    };
    match (well.map(|well| later[well].0), gone) {
        (Some(until), _) if called("ContainerRestart") => (Resolution::RestartedAndRebuilt, Some(until)),
        (Some(until), _) => (Resolution::Rebuilt, Some(until)),
        (None, Some(until)) if deleted => (Resolution::PodDeleted, Some(*until)),
        (None, Some(until)) if called("Eviction") => (Resolution::Evicted, Some(*until)),
        (None, Some(until)) => (Resolution::PodGone, Some(*until)),
        (None, None) => (Resolution::Open, None),
    }
}

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rebuilt => "application had died, its next life was rebuilt from the log",
            Self::RestartedAndRebuilt => "application was alive, restarted by its liveness probe and rebuilt",
            Self::Evicted => "pod was evicted",
            Self::PodDeleted => "pod was deleted by this test before anything else",
            Self::PodGone => "pod went away",
            Self::Open => "never resolved",
        })
    }
}

impl Said {
    fn of(status: &Value) -> Self {
        let replica = &status["replica"];
        Self {
            doubts: replica["tally"]["doubts"].as_u64().unwrap_or(0),
            rebuilds: replica["tally"]["rebuilds"].as_u64().unwrap_or(0),
            calls_for: replica["callsFor"].as_str().map(str::to_owned),
            ready: status["ready"] == true,
        }
    }
}
