//! Which settings entry is in force at the log's end, and whether another has to follow it. Pure.

use std::hash::{DefaultHasher, Hash, Hasher};

use decree_crds::engine::status::SettingsStatus;
use decree_wire::settings::Settings;

use crate::engine::notes::Read;
use crate::engine::problem::Problem;

/// What is to be done about the settings.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// What is in force is what the spec says.
    Settled,
    /// The same, and the status does not say so yet.
    Remember(SettingsStatus),
    /// Nobody knows what is in force: the log is read from here.
    Read(u64),
    /// The spec says something else than what is in force.
    Append,
    /// The log says something that can't be followed.
    Refused(Problem),
}

/// Decides. `first` is the settings entry that the log began with, `remembered` what the status says is in force, `read`
/// how far the log was read behind that.
///
/// An entry that was appended by an operator that ended before it could write the status is found by reading, and not
/// appended again.
#[must_use]
pub fn step(
    wanted: &Settings,
    first: (u64, &Settings),
    remembered: Option<&SettingsStatus>,
    read: Option<&Read>,
) -> Step {
    let hash = hash(wanted);
    if remembered.is_some_and(|remembered| remembered.hash == hash) {
        return Step::Settled;
    }
    // What is remembered is read again: a build that words or hashes it otherwise finds it to be the same.
    let behind = remembered.map_or(first.0 + 1, |remembered| u64::try_from(remembered.position).unwrap_or(0));
    let Some(read) = read else { return Step::Read(behind) };
    if let Some(reason) = &read.unreadable {
        return Step::Refused(Problem::person(
            "SettingsUnreadable",
            format!("a settings entry of the log can't be read ({reason}); upgrade the operator"),
        ));
    }
    if !read.end {
        return Step::Read(read.next);
    }
    let begun = remembered.is_none().then_some(first);
    let last = read.last.as_ref().map(|(position, settings)| (*position, settings.as_ref())).or(begun);
    match last {
        Some((position, last)) if last.engine != wanted.engine || last.cluster != wanted.cluster => {
            Step::Refused(foreign(position, last))
        }
        Some((position, last)) if last == wanted => {
            Step::Remember(SettingsStatus { position: i64::try_from(position).unwrap_or(i64::MAX), hash })
        }
        Some(_) | None => Step::Append,
    }
}

fn foreign(position: u64, settings: &Settings) -> Problem {
    Problem::person(
        "TopicConflict",
        format!(
            "engine {} of the cluster whose kube-system has uid {} wrote a settings entry at position {position} of this \
             engine's log; see that no two engines name one topic, and make a new engine",
            settings.engine, settings.cluster
        ),
    )
}

/// Of what a settings entry says. That of another build may differ: then the log is read once more.
fn hash(settings: &Settings) -> String {
    let mut hasher = DefaultHasher::new();
    serde_json::to_string(settings).unwrap_or_default().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::example;

    fn settings(attempts: u32) -> Settings {
        let mut engine = example();
        engine.classes[0].settings.max_attempts = attempts;
        engine.settings("cluster")
    }

    fn read(last: Option<(u64, u32)>, next: u64, end: bool) -> Read {
        let last = last.map(|(position, attempts)| (position, Box::new(settings(attempts))));
        Read { last, next, end, unreadable: None }
    }

    fn remembered(step: Step) -> SettingsStatus {
        match step {
            Step::Remember(status) => status,
            other => panic!("to be remembered, not {other:?}"),
        }
    }

    #[test]
    fn what_is_in_force_is_found_once_and_then_remembered() {
        let (first, wanted) = (settings(8), settings(8));
        assert_eq!(step(&wanted, (4, &first), None, None), Step::Read(5));
        assert_eq!(step(&wanted, (4, &first), None, Some(&read(None, 7, false))), Step::Read(7));
        let status = remembered(step(&wanted, (4, &first), None, Some(&read(None, 9, true))));
        assert_eq!(status.position, 4);
        assert_eq!(step(&wanted, (4, &first), Some(&status), None), Step::Settled);
    }

    #[test]
    fn a_changed_spec_is_appended_once() {
        let (first, wanted) = (settings(8), settings(3));
        let before = remembered(step(&first, (0, &first), None, Some(&read(None, 1, true))));
        assert_eq!(step(&wanted, (0, &first), Some(&before), None), Step::Read(0));
        assert_eq!(step(&wanted, (0, &first), Some(&before), Some(&read(None, 9, true))), Step::Append);
        // The operator appended it and ended: the next one finds it.
        let found = read(Some((9, 3)), 10, true);
        let after = remembered(step(&wanted, (0, &first), Some(&before), Some(&found)));
        assert_eq!(after.position, 9);
        assert_eq!(step(&wanted, (0, &first), Some(&after), Some(&found)), Step::Settled);
        // And back again, which is another entry.
        let behind = read(None, 12, true);
        assert_eq!(step(&first, (0, &first), Some(&after), Some(&behind)), Step::Append);
    }

    #[test]
    fn another_build_that_hashes_otherwise_appends_nothing() {
        let wanted = settings(3);
        let before = SettingsStatus { position: 9, hash: "of another build".into() };
        assert_eq!(step(&wanted, (0, &settings(8)), Some(&before), None), Step::Read(9));
        let found = read(Some((9, 3)), 12, true);
        assert_eq!(remembered(step(&wanted, (0, &settings(8)), Some(&before), Some(&found))).position, 9);
    }

    #[test]
    fn an_engine_that_was_applied_again_goes_by_the_last_entry_and_not_the_first() {
        let first = settings(8);
        let found = read(Some((5, 3)), 6, true);
        assert_eq!(step(&first, (0, &first), None, Some(&found)), Step::Append);
        assert_eq!(remembered(step(&settings(3), (0, &first), None, Some(&found))).position, 5);
    }

    #[test]
    fn what_another_engine_wrote_is_not_overwritten() {
        let first = settings(8);
        let mut foreign = settings(8);
        foreign.cluster = "another".into();
        let found = Read { last: Some((5, Box::new(foreign))), next: 6, end: true, unreadable: None };
        assert!(matches!(step(&first, (0, &first), None, Some(&found)), Step::Refused(_)));
        let newer = Read { last: None, next: 6, end: true, unreadable: Some("a field".into()) };
        assert!(matches!(step(&first, (0, &first), None, Some(&newer)), Step::Refused(_)));
    }
}
