//! What this process remembers of each engine between reconciles: all of it can be lost without harm.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use decree_kafka::Connection;
use decree_wire::position::EngineName;
use decree_wire::settings::Settings;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::care::memory::Memory;
use crate::topics::{self, Scan, Topic, Topics};

/// A provisioned engine's topics are looked at so often.
const SETTLED: Duration = Duration::from_secs(60);
/// Something that a person has to mend: so often.
const UNSETTLED: Duration = Duration::from_secs(10);
/// The longest wait after a failure.
const LONGEST: Duration = Duration::from_secs(30);
/// Numbers in the status are written at most so often.
const NUMBERS: Duration = Duration::from_secs(30);

/// The engine's topics, as they were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// How many brokers the cluster has.
    pub brokers: usize,
    /// The first position that the log still has.
    pub start: u64,
    /// The log, and what it begins with.
    pub log: Option<(Topic, Scan)>,
    /// The heartbeats topic.
    pub heartbeats: Option<Topic>,
}

/// How far the log was read for settings entries behind the one that is remembered, and what was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Read {
    /// The last one.
    pub last: Option<(u64, Box<Settings>)>,
    /// Where to go on.
    pub next: u64,
    /// Whether that was the log's end.
    pub end: bool,
    /// One is of a form that this build does not know, and why.
    pub unreadable: Option<String>,
}

impl Read {
    fn take(&mut self, scan: Scan) {
        match scan {
            Scan::Settings { position, settings } => {
                self.last = Some((position, settings));
                (self.next, self.end) = (position + 1, false);
            }
            Scan::Unreadable(reason) => self.unreadable = Some(reason),
            Scan::None { next } => (self.next, self.end) = (next, true),
            Scan::Unfinished { next, .. } => (self.next, self.end) = (next, false),
        }
    }
}

/// What Kafka said last.
pub type Answer = Result<Found, topics::Error>;

/// So many engines at once may ask a Kafka that did not answer them last time: those that wait for theirs must not hold
/// every worker, or one cluster's outage would delay the engines of all the others.
const DOUBTFUL: usize = 16;
/// Who finds them all taken comes back after this.
const NEXT_TURN: Duration = Duration::from_secs(2);

/// Whether an engine may ask its Kafka now.
#[derive(Debug)]
pub enum Turn {
    /// It may; until this is dropped.
    Ask(Option<OwnedSemaphorePermit>),
    /// Too many others wait for theirs; this is what it was answered last.
    Later(Answer),
}

/// Notes on every engine.
#[derive(Debug)]
pub struct Notes {
    turns: Arc<Semaphore>,
    engines: Mutex<HashMap<EngineName, Engine>>,
    /// Apart from the others: what was evicted lately, another generation of the spec doesn't undo.
    care: Mutex<HashMap<EngineName, Memory>>,
}

#[derive(Debug, Default)]
struct Engine {
    /// Uid and generation: the next ones are looked at anew.
    of: (String, i64),
    connection: Option<Connection>,
    cluster: Option<Arc<dyn Topics>>,
    answer: Option<Answer>,
    next: Option<Instant>,
    failures: u32,
    numbers: Option<Instant>,
    /// What our last write of it made of its resource version.
    written: Option<u64>,
    /// Of this incarnation of the log.
    read: Option<(String, Read)>,
    /// What a group's log of this incarnation begins with, as far as it was read.
    first: Option<(String, Scan)>,
}

impl Default for Notes {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(DOUBTFUL)), engines: Mutex::default(), care: Mutex::default() }
    }
}

impl Notes {
    /// Whether the engine may ask its Kafka now.
    pub fn turn(&self, name: &EngineName, now: Instant) -> Turn {
        let mut engines = self.engines();
        let doubtful = engines.get_mut(name).filter(|engine| engine.failures > 0);
        let Some((engine, answer)) = doubtful.and_then(|engine| {
            let answer = engine.answer.clone()?;
            Some((engine, answer))
        }) else {
            return Turn::Ask(None);
        };
        match Arc::clone(&self.turns).try_acquire_owned() {
            Ok(turn) => Turn::Ask(Some(turn)),
            Err(_) => {
                engine.next = Some(now + NEXT_TURN);
                Turn::Later(answer)
            }
        }
    }

    /// Whether this generation of the engine is met for the first time.
    pub fn first_sight(&self, name: &EngineName, of: &(String, i64)) -> bool {
        let mut engines = self.engines();
        let engine = engines.entry(name.clone()).or_default();
        if engine.of == *of {
            return false;
        }
        // The cluster stays open until the next question, in case that it is the same one.
        *engine = Engine {
            of: of.clone(),
            cluster: engine.cluster.take(),
            written: engine.written,
            ..Engine::default()
        };
        true
    }

    /// How the engine's brokers are reached; another way than before has no answer yet.
    pub fn connects(&self, name: &EngineName, connection: &Connection) {
        if let Some(engine) = self.engines().get_mut(name)
            && engine.connection.as_ref() != Some(connection)
        {
            let known = engine.connection.replace(connection.clone()).is_some();
            if known {
                (engine.next, engine.failures) = (None, 0);
            }
        }
    }

    /// Whether Kafka took our credentials for wrong, so that they should be looked at again.
    pub fn refused(&self, name: &EngineName) -> bool {
        let engines = self.engines();
        let answer = engines.get(name).and_then(|engine| engine.answer.as_ref());
        matches!(answer, Some(Err(error)) if error.refuses())
    }

    /// What Kafka said, if it need not be asked again yet.
    pub fn fresh(&self, name: &EngineName, now: Instant) -> Option<Answer> {
        let engines = self.engines();
        let engine = engines.get(name)?;
        let fresh = engine.next.is_some_and(|next| now < next);
        engine.answer.clone().filter(|_| fresh)
    }

    /// What the log was found to begin with: that never changes for an incarnation.
    pub fn scanned(&self, name: &EngineName, id: &str) -> Option<Scan> {
        match self.engines().get(name)?.answer.as_ref()? {
            Ok(Found { log: Some((topic, scan)), .. }) if topic.id == id => Some(scan.clone()),
            Ok(_) | Err(_) => None,
        }
    }

    /// Whether what the watch has seen is not older than our own last write. Versions of one object are numbers that grow.
    pub fn is_current(&self, name: &EngineName, version: &str) -> bool {
        let written = self.engines().get(name).and_then(|engine| engine.written);
        written.is_none_or(|written| version.parse::<u64>().is_ok_and(|version| version >= written))
    }

    /// The engine was written, and has this resource version now.
    pub fn wrote(&self, name: &EngineName, version: &str) {
        if let Some(engine) = self.engines().get_mut(name) {
            // One that is no number is never reached: then the API server is asked each time.
            engine.written = Some(version.parse().unwrap_or(u64::MAX));
        }
    }

    /// What a group's log of this incarnation begins with, as far as it was read.
    pub fn first(&self, name: &EngineName, id: &str) -> Option<Scan> {
        let engines = self.engines();
        let (of, first) = engines.get(name)?.first.as_ref()?;
        (of == id).then(|| first.clone())
    }

    /// A group's log was read from its start on.
    pub fn has_first(&self, name: &EngineName, id: &str, first: Scan) {
        if let Some(engine) = self.engines().get_mut(name) {
            engine.first = Some((id.to_owned(), first));
        }
    }

    /// Nothing is asked of Kafka, since a group orders: the next look is due in its own time.
    pub fn rests(&self, name: &EngineName, now: Instant) {
        if let Some(engine) = self.engines().get_mut(name) {
            engine.next = engine.next.filter(|next| *next > now).or(Some(now + SETTLED));
        }
    }

    /// How far the log of this incarnation was read.
    pub fn read(&self, name: &EngineName, id: &str) -> Option<Read> {
        let engines = self.engines();
        let (of, read) = engines.get(name)?.read.as_ref()?;
        (of == id).then(|| read.clone())
    }

    /// More of the log was read.
    pub fn has_read(&self, name: &EngineName, id: &str, scan: Scan) {
        if let Some(engine) = self.engines().get_mut(name) {
            let mut read =
                engine.read.take().filter(|(of, _)| of == id).map(|(_, read)| read).unwrap_or_default();
            read.take(scan);
            engine.read = Some((id.to_owned(), read));
        }
    }

    /// A settings entry was appended: it stands behind what was read.
    pub fn appended(&self, name: &EngineName) {
        let mut engines = self.engines();
        let Some(engine) = engines.get_mut(name) else { return };
        if let Some((_, read)) = &mut engine.read {
            read.end = false;
        }
        engine.first = engine.first.take().filter(|(_, first)| matches!(first, Scan::Settings { .. }));
    }

    /// Takes an answer; after failures in a row the next question comes later and later. The first silence after a good
    /// answer changes nothing: one broker of several that restarts is no outage, and the next question goes to another.
    pub fn answered(
        &self,
        name: &EngineName,
        cluster: Option<Arc<dyn Topics>>,
        answer: Answer,
        now: Instant,
    ) {
        let mut engines = self.engines();
        let engine = engines.entry(name.clone()).or_default();
        engine.failures = if answer.is_ok() { 0 } else { engine.failures.saturating_add(1) };
        engine.next = Some(now + pause(&answer, engine.failures));
        engine.cluster = cluster.or(engine.cluster.take());
        let silent = matches!(answer, Err(topics::Error::Unreachable(_)));
        if !(silent && engine.failures == 1 && matches!(engine.answer, Some(Ok(_)))) {
            engine.answer = Some(answer);
        }
    }

    /// The topics were changed: they are looked at again at once.
    pub fn changed(&self, name: &EngineName) {
        if let Some(engine) = self.engines().get_mut(name) {
            engine.next = None;
        }
    }

    /// A person has to mend something: a look at it is due sooner.
    pub fn unsettled(&self, name: &EngineName, now: Instant) {
        if let Some(engine) = self.engines().get_mut(name) {
            // Also where nothing was asked at all: an engine without credentials must not come back at once for ever.
            let soon = now + UNSETTLED;
            engine.next = Some(engine.next.filter(|next| *next > now).map_or(soon, |next| next.min(soon)));
        }
    }

    /// When to come back, if nothing happens sooner.
    pub fn due(&self, name: &EngineName, agents: bool, now: Instant) -> Duration {
        let next = self.engines().get(name).and_then(|engine| engine.next);
        let due = next.map_or(Duration::ZERO, |next| next.saturating_duration_since(now));
        due.min(if agents { NUMBERS } else { SETTLED }).max(Duration::from_millis(100))
    }

    /// Whether numbers may be written now.
    pub fn numbers_due(&self, name: &EngineName, now: Instant) -> bool {
        let last = self.engines().get(name).and_then(|engine| engine.numbers);
        last.is_none_or(|last| now.saturating_duration_since(last) >= NUMBERS)
    }

    /// Numbers have been written.
    pub fn numbers_written(&self, name: &EngineName, now: Instant) {
        if let Some(engine) = self.engines().get_mut(name) {
            engine.numbers = Some(now);
        }
    }

    /// What is remembered of the engine's evictions.
    pub fn care<T>(&self, name: &EngineName, with: impl FnOnce(&mut Memory) -> T) -> T {
        let mut care = self.care.lock().unwrap_or_else(PoisonError::into_inner);
        with(care.entry(name.clone()).or_default())
    }

    /// The cluster that was asked last.
    pub fn cluster(&self, name: &EngineName) -> Option<Arc<dyn Topics>> {
        self.engines().get(name)?.cluster.clone()
    }

    /// The engine is gone.
    pub fn forget(&self, name: &EngineName) {
        self.engines().remove(name);
        self.care.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    fn engines(&self) -> MutexGuard<'_, HashMap<EngineName, Engine>> {
        self.engines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pause(answer: &Answer, failures: u32) -> Duration {
    match answer {
        Ok(Found { log: Some((_, Scan::Unfinished { .. })), .. }) => Duration::ZERO,
        Ok(_) => SETTLED,
        Err(_) => Duration::from_secs(1 << failures.min(5)).min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> EngineName {
        EngineName { namespace: "a".into(), name: "b".into() }
    }

    fn away() -> Answer {
        Err(topics::Error::Unreachable("away".into()))
    }

    #[test]
    fn failures_are_asked_about_less_and_less_often_and_a_success_forgets_them() {
        let (notes, now) = (Notes::default(), Instant::now());
        let waits: Vec<u64> = (0..6)
            .map(|_| {
                notes.answered(&name(), None, away(), now);
                notes.due(&name(), true, now).as_secs()
            })
            .collect();
        assert_eq!(waits, [2, 4, 8, 16, 30, 30]);
        notes.answered(&name(), None, Ok(Found { brokers: 3, start: 0, log: None, heartbeats: None }), now);
        assert_eq!(notes.due(&name(), false, now), SETTLED);
        notes.answered(&name(), None, away(), now);
        assert_eq!(notes.due(&name(), false, now).as_secs(), 2);
    }

    #[test]
    fn an_engine_that_nothing_was_asked_for_comes_back_later_and_not_at_once() {
        let (notes, now) = (Notes::default(), Instant::now());
        notes.first_sight(&name(), &("uid".into(), 1));
        notes.unsettled(&name(), now);
        assert_eq!(notes.due(&name(), false, now), UNSETTLED);
        let later = now + UNSETTLED;
        notes.unsettled(&name(), later);
        assert_eq!(notes.due(&name(), false, later), UNSETTLED);
    }

    #[test]
    fn the_first_silence_after_a_good_answer_is_none_yet() {
        let (notes, now) = (Notes::default(), Instant::now());
        let good = Ok(Found { brokers: 3, start: 0, log: None, heartbeats: None });
        notes.answered(&name(), None, good.clone(), now);
        notes.answered(&name(), None, away(), now);
        assert_eq!(notes.fresh(&name(), now), Some(good));
        assert_eq!(notes.due(&name(), false, now).as_secs(), 2, "but it is asked again soon");
        notes.answered(&name(), None, away(), now);
        assert_eq!(notes.fresh(&name(), now), Some(away()));
    }

    #[test]
    fn what_the_watch_saw_before_our_own_write_is_old() {
        let notes = Notes::default();
        assert!(notes.is_current(&name(), "7"));
        notes.first_sight(&name(), &("uid".into(), 1));
        notes.wrote(&name(), "9");
        assert!(!notes.is_current(&name(), "8"));
        assert!(notes.is_current(&name(), "9") && notes.is_current(&name(), "10"));
        notes.first_sight(&name(), &("uid".into(), 2));
        assert!(!notes.is_current(&name(), "8"), "whatever generation is looked at");
        notes.wrote(&name(), "no number");
        assert!(!notes.is_current(&name(), "no number"));
    }

    #[test]
    fn an_answer_holds_until_it_is_due_or_the_engine_is_another() {
        let (notes, now) = (Notes::default(), Instant::now());
        assert!(notes.first_sight(&name(), &("uid".into(), 1)));
        notes.answered(&name(), None, away(), now);
        assert!(!notes.first_sight(&name(), &("uid".into(), 1)));
        assert_eq!(notes.fresh(&name(), now), Some(away()));
        assert_eq!(notes.fresh(&name(), now + LONGEST), None);
        assert!(notes.first_sight(&name(), &("uid".into(), 2)));
        assert_eq!(notes.fresh(&name(), now), None);
    }
}
