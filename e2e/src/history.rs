//! An oracle for order and loss: from what clients attempted and heard, what an agent's state may be.
//!
//! An attempt that nobody answered is *unknown*: it may have happened, also later than what its client did next.

use std::collections::{BTreeMap, BTreeSet};

/// What a client wanted to change. Keys belong to one client each, which goes on when it knows a change's fate or
/// has given it up; tokens are appended by all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Set { key: String, value: String },
    Remove { key: String },
    Append { token: String },
}

/// What the client heard of it in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Acknowledged,
    /// It certainly changed nothing.
    Refused,
    Unknown,
}

/// What an agent's state was found to be.
#[derive(Debug, Default)]
pub struct Found {
    pub values: BTreeMap<String, String>,
    pub tokens: Vec<String>,
}

/// Attempts of all clients, those of one client in its order.
#[derive(Debug, Default)]
pub struct History {
    attempts: Vec<(Change, Fate)>,
}

impl History {
    pub fn record(&mut self, change: Change, fate: Fate) {
        self.attempts.push((change, fate));
    }

    pub fn append(&mut self, other: Self) {
        self.attempts.extend(other.attempts);
    }

    pub fn count(&self, fate: Fate) -> usize {
        self.attempts.iter().filter(|(_, each)| *each == fate).count()
    }

    /// Every way in which the state contradicts the history; empty if it does not.
    pub fn contradictions(&self, found: &Found) -> Vec<String> {
        let mut wrong = self.wrong_tokens(&found.tokens);
        let possible = self.possible_values();
        for (key, values) in &possible {
            let value = found.values.get(key);
            if !values.contains(&value.cloned()) {
                wrong.push(format!("{key} is {value:?}, not one of {values:?}"));
            }
        }
        let strange = found.values.keys().filter(|key| !possible.contains_key(*key));
        wrong.extend(strange.map(|key| format!("nobody set {key}")));
        wrong
    }

    fn wrong_tokens(&self, found: &[String]) -> Vec<String> {
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        found.iter().for_each(|token| *times.entry(token).or_default() += 1);
        let mut wrong = Vec::new();
        for (change, fate) in &self.attempts {
            let Change::Append { token } = change else { continue };
            match (fate, times.remove(token.as_str()).unwrap_or(0)) {
                (Fate::Acknowledged | Fate::Unknown, 1) | (Fate::Refused | Fate::Unknown, 0) => {}
                (fate, times) => wrong.push(format!("{token}, {fate:?}, is there {times} times")),
            }
        }
        wrong.extend(times.keys().map(|token| format!("nobody appended {token}")));
        wrong
    }

    fn possible_values(&self) -> BTreeMap<String, BTreeSet<Option<String>>> {
        let mut keys: BTreeMap<String, Possible> = BTreeMap::new();
        for (change, fate) in &self.attempts {
            let (key, value) = match change {
                Change::Set { key, value } => (key, Some(value.clone())),
                Change::Remove { key } => (key, None),
                Change::Append { .. } => continue,
            };
            let possible = keys.entry(key.clone()).or_default();
            match fate {
                Fate::Acknowledged => possible.last = value,
                Fate::Refused => {}
                Fate::Unknown => drop(possible.late.insert(value)),
            }
        }
        keys.into_iter().map(|(key, possible)| (key, possible.all())).collect()
    }
}

/// What a key may hold: what was last acknowledged, or what an unanswered change brings, whenever it comes.
#[derive(Debug, Default)]
struct Possible {
    last: Option<String>,
    late: BTreeSet<Option<String>>,
}

impl Possible {
    fn all(mut self) -> BTreeSet<Option<String>> {
        self.late.insert(self.last);
        self.late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(value: &str) -> Change {
        Change::Set { key: "k".into(), value: value.into() }
    }

    fn history(attempts: &[(Change, Fate)]) -> History {
        History { attempts: attempts.to_vec() }
    }

    fn found(value: Option<&str>, tokens: &[&str]) -> Found {
        let values = value.map(|value| ("k".to_owned(), value.to_owned())).into_iter().collect();
        Found { values, tokens: tokens.iter().map(|token| (*token).to_owned()).collect() }
    }

    #[test]
    fn an_acknowledged_change_must_be_there() {
        let history = history(&[(set("1"), Fate::Acknowledged), (set("2"), Fate::Refused)]);
        assert!(history.contradictions(&found(Some("1"), &[])).is_empty());
        assert_eq!(history.contradictions(&found(Some("2"), &[])).len(), 1);
        assert_eq!(history.contradictions(&found(None, &[])).len(), 1);
    }

    #[test]
    fn an_unknown_change_may_be_there_also_late() {
        let history = history(&[
            (set("1"), Fate::Acknowledged),
            (Change::Remove { key: "k".into() }, Fate::Unknown),
            (set("3"), Fate::Acknowledged),
        ]);
        assert!(history.contradictions(&found(Some("3"), &[])).is_empty());
        assert!(history.contradictions(&found(None, &[])).is_empty());
        assert_eq!(history.contradictions(&found(Some("1"), &[])).len(), 1);
    }

    #[test]
    fn a_token_is_there_once_or_if_unknown_not_at_all() {
        let append = |token: &str, fate| (Change::Append { token: token.into() }, fate);
        let history = history(&[
            append("a", Fate::Acknowledged),
            append("b", Fate::Unknown),
            append("c", Fate::Refused),
        ]);
        assert!(history.contradictions(&found(None, &["a"])).is_empty());
        assert!(history.contradictions(&found(None, &["b", "a"])).is_empty());
        for wrong in [&["b"][..], &["a", "a"], &["a", "b", "b"], &["a", "c"], &["a", "d"]] {
            assert_eq!(history.contradictions(&found(None, wrong)).len(), 1, "{wrong:?}");
        }
    }

    #[test]
    fn what_nobody_set_is_strange() {
        assert_eq!(history(&[]).contradictions(&found(Some("1"), &[])), ["nobody set k"]);
    }
}
