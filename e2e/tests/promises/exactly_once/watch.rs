//! Watches all agents while faults fall on them: which deliveries were in doubt, and what became of each.

use std::collections::{BTreeMap, BTreeSet};
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
    state: String,
    calls_for: Option<String>,
    /// A delivery that was begun and not ended.
    in_doubt: Option<u64>,
    ready: bool,
}

/// One delivery in doubt.
#[derive(Debug)]
pub(crate) struct Doubt {
    pub(crate) pod: String,
    pub(crate) position: u64,
    pub(crate) resolved: String,
    pub(crate) took: Duration,
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
            if let Ok(status) = agent.status() {
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
            let taken = faults.iter().find(|fault| fault.is_of_pod() && fault.pod == *pod);
            let mut last = None;
            for (number, (at, now)) in history.iter().enumerate() {
                let Some(position) = now.in_doubt else {
                    last = None;
                    continue;
                };
                if last.replace(position) == Some(position) {
                    continue;
                }
                let later = &history[number..];
                let well = later.iter().find(|(_, said)| said.in_doubt != Some(position) && said.ready);
                let evicted = later.iter().any(|(_, said)| said.calls_for.as_deref() == Some("Eviction"));
                let (resolved, until) = match (well, gone.get(pod), taken) {
                    (Some((until, _)), ..) => ("application restarted and rebuilt", *until),
                    (None, Some(until), Some(_)) => ("pod deleted by this test meanwhile", *until),
                    (None, Some(until), None) if evicted => ("pod evicted", *until),
                    (None, Some(until), None) => ("pod went away", *until),
                    (None, None, _) => ("NOT RESOLVED", Instant::now()),
                };
                let took = until.saturating_duration_since(*at);
                doubts.push(Doubt { pod: pod.clone(), position, resolved: resolved.to_owned(), took });
            }
        }
        let open: Vec<&Doubt> = doubts.iter().filter(|doubt| doubt.resolved == "NOT RESOLVED").collect();
        ensure!(open.is_empty(), "in doubt to the end: {open:?}");
        Ok(doubts)
    }
}

impl Said {
    fn of(status: &Value) -> Self {
        let replica = &status["replica"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Self {
            state: text(&replica["state"]).unwrap_or_default(),
            calls_for: text(&replica["callsFor"]),
            in_doubt: replica["inDoubt"].as_u64(),
            ready: status["ready"] == true,
        }
    }
}
