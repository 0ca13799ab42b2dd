//! Whether agents of one class agree: digests compared wherever two were reported at one position. Pure.

use std::collections::{BTreeMap, VecDeque};

use decree_wire::heartbeat::Digest;
use decree_wire::position::{Incarnation, Position};

/// So many of an agent's last digests are kept: agents report at the same multiples of positions, at different times.
const KEPT: usize = 16;

/// An agent's last digests, of one incarnation of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    incarnation: Option<Incarnation>,
    last: VecDeque<Digest>,
}

impl History {
    /// Takes what the agent now says. An agent that was rebuilt says the same positions anew: the newest word counts.
    pub fn note(&mut self, incarnation: Option<&Incarnation>, digest: Option<&Digest>) {
        if self.incarnation.as_ref() != incarnation {
            *self = Self { incarnation: incarnation.cloned(), last: VecDeque::new() };
        }
        let Some(digest) = digest else { return };
        self.last.retain(|kept| kept.position != digest.position);
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(digest.clone());
    }
}

/// What a comparison of a class gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// No two agents reported at one position.
    Unknown,
    /// Wherever two could be compared, they agree.
    Equal,
    /// They differ.
    Diverged {
        /// The first position where they do, as far as is known.
        position: Position,
        /// Pods by digest; at least two groups.
        groups: Vec<(String, Vec<String>)>,
    },
}

impl Agreement {
    /// The pods that differ; none where they don't.
    pub fn pods(&self) -> impl Iterator<Item = &String> {
        let groups = match self {
            Self::Diverged { groups, .. } => groups.as_slice(),
            Self::Unknown | Self::Equal => &[],
        };
        groups.iter().flat_map(|(_, pods)| pods)
    }
}

/// Compares the agents of one class.
#[must_use]
pub fn compare<'a>(agents: impl IntoIterator<Item = (&'a str, &'a History)>) -> Agreement {
    let mut at: BTreeMap<(&str, Position), BTreeMap<&str, Vec<String>>> = BTreeMap::new();
    for (pod, history) in agents {
        let Some(incarnation) = &history.incarnation else { continue };
        for Digest { position, hash } in &history.last {
            let groups = at.entry((&incarnation.0, *position)).or_default();
            groups.entry(hash).or_default().push(pod.to_owned());
        }
    }
    let differs = at.iter().find(|(_, groups)| groups.len() > 1);
    if let Some(((_, position), groups)) = differs {
        let groups = groups.iter().map(|(hash, pods)| ((*hash).to_owned(), pods.clone())).collect();
        return Agreement::Diverged { position: *position, groups };
    }
    let compared = at.values().any(|groups| groups.values().any(|pods| pods.len() > 1));
    if compared { Agreement::Equal } else { Agreement::Unknown }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(incarnation: &str, digests: &[(u64, &str)]) -> History {
        let mut history = History::default();
        for (position, hash) in digests {
            let digest = Digest { position: Position(*position), hash: (*hash).into() };
            history.note(Some(&Incarnation(incarnation.into())), Some(&digest));
        }
        history
    }

    #[test]
    fn agents_are_compared_at_equal_positions_only() {
        let (a, b) = (history("i", &[(1, "x")]), history("i", &[(2, "y")]));
        assert_eq!(compare([("a", &a), ("b", &b)]), Agreement::Unknown);
        assert_eq!(compare([("a", &a)]), Agreement::Unknown, "one agent agrees with nobody");
        let b = history("i", &[(1, "x"), (2, "y")]);
        assert_eq!(compare([("a", &a), ("b", &b)]), Agreement::Equal);
    }

    #[test]
    fn the_first_difference_is_named() {
        let a = history("i", &[(1, "x"), (2, "y"), (3, "z")]);
        let b = history("i", &[(1, "x"), (2, "q"), (3, "r")]);
        let Agreement::Diverged { position, groups } = compare([("a", &a), ("b", &b)]) else {
            panic!("they differ")
        };
        assert_eq!(position, Position(2));
        assert_eq!(groups, [("q".into(), vec!["b".into()]), ("y".into(), vec!["a".into()])]);
    }

    #[test]
    fn another_incarnation_is_another_log_and_the_newest_word_counts() {
        let (a, b) = (history("i", &[(1, "x")]), history("j", &[(1, "y")]));
        assert_eq!(compare([("a", &a), ("b", &b)]), Agreement::Unknown);
        let rebuilt = history("i", &[(1, "wrong"), (1, "x")]);
        assert_eq!(compare([("a", &a), ("b", &rebuilt)]), Agreement::Equal);
    }

    #[test]
    fn no_more_is_kept_than_needed() {
        let many: Vec<(u64, &str)> = (0..100).map(|position| (position, "x")).collect();
        assert_eq!(history("i", &many).last.len(), KEPT);
    }
}
