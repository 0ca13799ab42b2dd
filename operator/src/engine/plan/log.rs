//! Whose log is this: the engine's own, somebody else's, or one that was lost. Pure.

use decree_crds::engine::status::TopicStatus;
use decree_wire::settings::Settings;

use crate::engine::problem::{Alert, Problem};
use crate::spec::Engine;
use crate::topics::{Scan, Topic};

/// What the topic is to the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is none, and there never was.
    Absent,
    /// Nobody knows yet: it has been read so far.
    Reading(u64),
    /// It is left as it is.
    Refused(Problem),
    /// The engine's log.
    Ours {
        /// To be remembered.
        topic: TopicStatus,
        /// What it begins with; none before that was written.
        settings: Option<Box<Settings>>,
    },
}

/// Judges the topic by its incarnation, and where none is remembered, by what stands in it.
#[must_use]
pub fn judge(
    engine: &Engine,
    cluster: &str,
    remembered: Option<&TopicStatus>,
    found: Option<&(Topic, Scan)>,
) -> Verdict {
    let name = &engine.kafka.topic;
    let (topic, scan) = match (remembered, found) {
        (None, None) => return Verdict::Absent,
        (Some(remembered), None) => return Verdict::Refused(lost(remembered)),
        (Some(remembered), Some((topic, _))) if remembered.id != topic.id => {
            return Verdict::Refused(replaced(remembered, topic));
        }
        (_, Some((topic, scan))) => (topic, scan),
    };
    if topic.partitions != 1 {
        return conflict(format!(
            "topic {name} has {} partitions, and only one keeps an order; delete the topic, or name another in \
             spec.kafka.topic.name of a new engine",
            topic.partitions
        ));
    }
    let ours = |settings| {
        let of_found = TopicStatus { name: name.clone(), id: topic.id.clone(), created: false };
        Verdict::Ours { topic: remembered.cloned().unwrap_or(of_found), settings }
    };
    match scan {
        Scan::Unfinished { next, .. } => Verdict::Reading(*next),
        Scan::Settings(settings) if settings.engine == engine.name && settings.cluster == cluster => {
            ours(Some(settings.clone()))
        }
        Scan::Settings(settings) => conflict(format!(
            "topic {name} is the log of engine {} on the cluster whose kube-system has uid {}; name another topic in \
             spec.kafka.topic.name of a new engine",
            settings.engine, settings.cluster
        )),
        Scan::Unreadable(reason) => Verdict::Refused(Problem::person(
            "SettingsUnreadable",
            format!("the settings entry of topic {name} can't be read ({reason}); upgrade the operator"),
        )),
        // Made by us a moment ago, or by an operator that ended before it could say so.
        Scan::None { empty: true } => ours(None),
        // A plain producer was quicker than the settings entry.
        Scan::None { empty: false } if remembered.is_some() => ours(None),
        Scan::None { empty: false } => conflict(format!(
            "topic {name} has records and no settings entry of this engine, so it is somebody else's; name another in \
             spec.kafka.topic.name of a new engine, or delete the topic if nobody needs it"
        )),
    }
}

/// What the spec says and the log's settings entry does not.
#[must_use]
pub fn settings_pending(engine: &Engine, settings: &Settings) -> Option<Alert> {
    let differs = |class: &crate::spec::Class| match settings.classes.get(&class.name) {
        None => Some(format!("class {} is not in it", class.name)),
        Some(begun) if *begun != class.settings => {
            Some(format!("agents[{}].digest is {:?} there", class.name, begun.digest))
        }
        Some(_) => None,
    };
    let differences: Vec<String> = engine.classes.iter().filter_map(differs).collect();
    (!differences.is_empty()).then(|| Alert {
        reason: "SettingsPending",
        message: format!(
            "the settings entry that the log began with stays in force, and the spec differs from it: {}; put the spec \
             back, or make a new engine",
            differences.join(", ")
        ),
    })
}

fn conflict(message: String) -> Verdict {
    Verdict::Refused(Problem::person("TopicConflict", message))
}

fn lost(remembered: &TopicStatus) -> Problem {
    let TopicStatus { name, id, .. } = remembered;
    Problem::person(
        "LogLost",
        format!(
            "topic {name} (id {id}) is gone, and with it every command that only it held; it is not made again by \
             itself. If it is really lost, delete this engine and apply it again"
        ),
    )
}

fn replaced(remembered: &TopicStatus, topic: &Topic) -> Problem {
    let TopicStatus { name, id, .. } = remembered;
    Problem::person(
        "LogReplaced",
        format!(
            "topic {name} was deleted and made again: its id was {id} and is {}; agents don't go on with another log. If \
             the old one is really lost, delete this engine and apply it again",
            topic.id
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::spec::example;

    fn topic(id: &str, partitions: i32) -> Topic {
        Topic { id: id.into(), partitions, replication: 3, config: BTreeMap::new() }
    }

    fn remembered() -> TopicStatus {
        TopicStatus { name: "decree.shop.policy".into(), id: "one".into(), created: true }
    }

    fn own() -> Scan {
        Scan::Settings(Box::new(example().settings("cluster")))
    }

    fn verdict(remembered: Option<&TopicStatus>, found: Option<(Topic, Scan)>) -> Verdict {
        judge(&example(), "cluster", remembered, found.as_ref())
    }

    fn reason(verdict: Verdict) -> &'static str {
        match verdict {
            Verdict::Refused(problem) => problem.reason,
            other => panic!("refused, not {other:?}"),
        }
    }

    #[test]
    fn a_log_that_is_remembered_is_known_by_its_id() {
        assert_eq!(verdict(None, None), Verdict::Absent);
        assert_eq!(reason(verdict(Some(&remembered()), None)), "LogLost");
        assert_eq!(reason(verdict(Some(&remembered()), Some((topic("two", 1), own())))), "LogReplaced");
        for scan in [own(), Scan::None { empty: true }, Scan::None { empty: false }] {
            let settings = if let Scan::Settings(settings) = &scan { Some(settings.clone()) } else { None };
            assert_eq!(
                verdict(Some(&remembered()), Some((topic("one", 1), scan))),
                Verdict::Ours { topic: remembered(), settings }
            );
        }
    }

    #[test]
    fn a_log_met_for_the_first_time_is_known_by_what_stands_in_it() {
        let adopted = TopicStatus { created: false, ..remembered() };
        let first = |scan| verdict(None, Some((topic("one", 1), scan)));
        assert!(matches!(first(own()), Verdict::Ours { topic, settings: Some(_) } if topic == adopted));
        assert!(matches!(first(Scan::None { empty: true }), Verdict::Ours { settings: None, .. }));
        assert_eq!(reason(first(Scan::None { empty: false })), "TopicConflict");
        assert_eq!(first(Scan::Unfinished { next: 7, end: 9 }), Verdict::Reading(7));
        let foreign = |settings: Settings| reason(first(Scan::Settings(Box::new(settings))));
        assert_eq!(foreign(example().settings("another")), "TopicConflict", "the same name elsewhere");
        let mut other = example().settings("cluster");
        other.engine.name = "other".into();
        assert_eq!(foreign(other), "TopicConflict");
    }

    #[test]
    fn several_partitions_are_refused() {
        for known in [None, Some(&remembered())] {
            assert_eq!(reason(verdict(known, Some((topic("one", 2), own())))), "TopicConflict");
        }
    }

    #[test]
    fn a_changed_digest_is_said() {
        let mut engine = example();
        let begun = engine.settings("cluster");
        assert_eq!(settings_pending(&engine, &begun), None);
        engine.classes[0].settings.digest = decree_wire::settings::DigestOf::None;
        assert!(settings_pending(&engine, &begun).unwrap().message.contains("agents[opa].digest is Outcome"));
    }
}
