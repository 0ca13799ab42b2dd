//! What this process remembers of each group between reconciles: all of it can be lost without harm.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Numbers in the status are written at most so often.
const NUMBERS: Duration = Duration::from_secs(30);

/// A group's namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupName {
    /// Its namespace, which is also its engine's.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Notes on every group.
#[derive(Debug, Default)]
pub struct Notes(Mutex<HashMap<GroupName, Note>>);

#[derive(Debug, Default)]
struct Note {
    numbers: Option<Instant>,
    /// What our last write of it made of its resource version.
    written: Option<u64>,
}

impl Notes {
    /// Whether numbers may be written now.
    pub fn numbers_due(&self, name: &GroupName, now: Instant) -> bool {
        let last = self.all().get(name).and_then(|note| note.numbers);
        last.is_none_or(|last| now.saturating_duration_since(last) >= NUMBERS)
    }

    /// Numbers have been written.
    pub fn numbers_written(&self, name: &GroupName, now: Instant) {
        self.all().entry(name.clone()).or_default().numbers = Some(now);
    }

    /// Whether what the watch has seen is not older than our own last write. Versions of one object are numbers that grow.
    pub fn is_current(&self, name: &GroupName, version: &str) -> bool {
        let written = self.all().get(name).and_then(|note| note.written);
        written.is_none_or(|written| version.parse::<u64>().is_ok_and(|version| version >= written))
    }

    /// The group was written, and has this resource version now.
    pub fn wrote(&self, name: &GroupName, version: &str) {
        // One that is no number is never reached: then the API server is asked each time.
        let version = version.parse().unwrap_or(u64::MAX);
        self.all().entry(name.clone()).or_default().written = Some(version);
    }

    /// The group is gone.
    pub fn forget(&self, name: &GroupName) {
        self.all().remove(name);
    }

    fn all(&self) -> MutexGuard<'_, HashMap<GroupName, Note>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_seldom_and_old_sights_are_not_believed() {
        let (notes, now) = (Notes::default(), Instant::now());
        let name = GroupName { namespace: "a".into(), name: "b".into() };
        assert!(notes.numbers_due(&name, now) && notes.is_current(&name, "7"));
        notes.numbers_written(&name, now);
        notes.wrote(&name, "9");
        assert!(!notes.numbers_due(&name, now + NUMBERS / 2) && notes.numbers_due(&name, now + NUMBERS));
        assert!(!notes.is_current(&name, "8") && notes.is_current(&name, "9"));
        notes.forget(&name);
        assert!(notes.is_current(&name, "1"));
    }
}
