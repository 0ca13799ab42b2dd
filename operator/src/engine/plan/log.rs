//! Whose log is this: the engine's own, somebody else's, or one that was lost. Pure.

use decree_crds::engine::status::TopicStatus;
use decree_crds::labels;
use decree_wire::position::EngineName;
use decree_wire::settings::Settings;

use crate::engine::problem::Problem;
use crate::spec::Kafka;
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
        /// Where what it begins with stands, and what that is; none before it was written.
        settings: Option<(u64, Box<Settings>)>,
    },
}

/// What is known of the topic.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// What the status says.
    pub remembered: Option<&'a TopicStatus>,
    /// What Kafka says.
    pub found: Option<&'a (Topic, Scan)>,
    /// The first position that the log still has.
    pub start: u64,
    /// The log that a person gave up.
    pub accepted: Option<&'a str>,
}

/// Judges the topic by its incarnation, and where none is remembered, by what stands in it.
#[must_use]
pub fn judge(engine: &EngineName, kafka: &Kafka, cluster: &str, known: &Known<'_>) -> Verdict {
    let name = &kafka.topic;
    let given_up = |remembered: &TopicStatus| known.accepted == Some(&remembered.id);
    let (remembered, topic, scan) = match (known.remembered, known.found) {
        (None, None) => return Verdict::Absent,
        (Some(remembered), None) if given_up(remembered) => return Verdict::Absent,
        (Some(remembered), None) => return Verdict::Refused(lost(remembered)),
        (Some(remembered), Some((topic, scan))) if remembered.id != topic.id => {
            // Only the id that is given up counts: the word stays in the annotation, and must not speak of a later log.
            if !given_up(remembered) {
                return Verdict::Refused(replaced(remembered, topic));
            }
            (None, topic, scan)
        }
        (remembered, Some((topic, scan))) => (remembered, topic, scan),
    };
    if topic.partitions != 1 {
        return conflict(format!(
            "topic {name} has {} partitions, and only one keeps an order; delete the topic, or name another in \
             spec.kafka.topic.name of a new engine",
            topic.partitions
        ));
    }
    // What a person put in the place of the old log is taken as it is.
    let adopts = kafka.adopt || known.remembered.is_some();
    let ours = |settings| {
        if known.start > 0 {
            return Verdict::Refused(trimmed(name, known.start));
        }
        let of_found =
            TopicStatus { name: name.clone(), id: topic.id.clone(), created: false, settings: None };
        Verdict::Ours { topic: remembered.cloned().unwrap_or(of_found), settings }
    };
    match scan {
        Scan::Unfinished { next, .. } => Verdict::Reading(*next),
        Scan::Settings { position, settings }
            if settings.engine == *engine && settings.cluster == cluster =>
        {
            ours(Some((*position, settings.clone())))
        }
        Scan::Settings { settings, .. } => conflict(format!(
            "topic {name} is the log of engine {} on the cluster whose kube-system has uid {}; name another topic in \
             spec.kafka.topic.name of a new engine",
            settings.engine, settings.cluster
        )),
        Scan::Unreadable(reason) => Verdict::Refused(Problem::person(
            "SettingsUnreadable",
            format!("the settings entry of topic {name} can't be read ({reason}); upgrade the operator"),
        )),
        // Made by us a moment ago, or by an operator that ended before it could say so.
        Scan::None { next: 0 } => ours(None),
        // A plain producer was quicker than the settings entry, or somebody's topic is to become the log.
        Scan::None { .. } if adopts => ours(None),
        Scan::None { .. } => conflict(format!(
            "topic {name} has records and no settings entry of this engine, so it is somebody else's; set \
             spec.kafka.topic.adopt: true if they are to be this engine's commands, name another topic in \
             spec.kafka.topic.name of a new engine, or delete the topic if nobody needs it"
        )),
    }
}

fn conflict(message: String) -> Verdict {
    Verdict::Refused(Problem::person("TopicConflict", message))
}

fn lost(remembered: &TopicStatus) -> Problem {
    let TopicStatus { name, id, .. } = remembered;
    Problem::person(
        "LogLost",
        format!(
            "topic {name} (id {id}) is gone, and with it every command that only it held; it is not made again by itself. \
             If it is really lost, accept an empty log, from which every agent is built anew: kubectl annotate \
             decisionengine NAME {}={id}",
            labels::ACCEPT_NEW_LOG
        ),
    )
}

fn replaced(remembered: &TopicStatus, topic: &Topic) -> Problem {
    let TopicStatus { name, id, .. } = remembered;
    Problem::person(
        "LogReplaced",
        format!(
            "topic {name} was deleted and made again: its id was {id} and is {new}; agents don't go on with another log. If \
             the old one is really lost, accept the new one, from whose start every agent is built anew: kubectl annotate \
             decisionengine NAME {}={id}",
            labels::ACCEPT_NEW_LOG,
            new = topic.id
        ),
    )
}

fn trimmed(name: &str, start: u64) -> Problem {
    Problem::person(
        "LogTrimmed",
        format!(
            "topic {name} begins at position {start}: what stood before was dropped, and without it no agent can be built. \
             Agents that have applied it go on, new ones can't begin; find out who trimmed the topic (retention, \
             kafka-delete-records), and make a new engine"
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::spec::{example, example_kafka};

    fn topic(id: &str, partitions: i32) -> Topic {
        Topic { id: id.into(), partitions, replication: 3, config: BTreeMap::new() }
    }

    fn remembered() -> TopicStatus {
        TopicStatus { name: "decree.shop.policy".into(), id: "one".into(), created: true, settings: None }
    }

    fn of(settings: Settings) -> Scan {
        Scan::Settings { position: 0, settings: Box::new(settings) }
    }

    fn own() -> Scan {
        of(example().settings("cluster"))
    }

    fn verdict(remembered: Option<&TopicStatus>, found: Option<(Topic, Scan)>) -> Verdict {
        let known = Known { remembered, found: found.as_ref(), start: 0, accepted: None };
        judge(&example().name, &example_kafka(), "cluster", &known)
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
        for scan in [own(), Scan::None { next: 0 }, Scan::None { next: 7 }] {
            let settings = match &scan {
                Scan::Settings { position, settings } => Some((*position, settings.clone())),
                _ => None,
            };
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
        assert!(matches!(first(Scan::None { next: 0 }), Verdict::Ours { settings: None, .. }));
        assert_eq!(reason(first(Scan::None { next: 7 })), "TopicConflict");
        assert_eq!(first(Scan::Unfinished { next: 7, end: 9 }), Verdict::Reading(7));
        let foreign = |settings: Settings| reason(first(of(settings)));
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
    fn a_persons_word_puts_a_new_log_in_the_place_of_the_old_one() {
        let old = remembered();
        let judged = |accepted, found: Option<&(Topic, Scan)>| {
            let known = Known { remembered: Some(&old), found, start: 0, accepted };
            judge(&example().name, &example_kafka(), "cluster", &known)
        };
        assert_eq!(judged(Some("one"), None), Verdict::Absent);
        assert_eq!(reason(judged(Some("other"), None)), "LogLost");
        let strange = (topic("two", 1), Scan::None { next: 7 });
        assert_eq!(reason(judged(None, Some(&strange))), "LogReplaced");
        let taken = judged(Some("one"), Some(&strange));
        assert!(
            matches!(&taken, Verdict::Ours { topic, settings: None } if topic.id == "two" && !topic.created),
            "{taken:?}"
        );
        // The word of then, still in the annotation, says nothing of the log that came after.
        assert_eq!(reason(judged(Some("two"), Some(&strange))), "LogReplaced");
        let mut other = example().settings("cluster");
        other.engine.name = "other".into();
        let foreign = (topic("two", 1), of(other));
        assert_eq!(
            reason(judged(Some("one"), Some(&foreign))),
            "TopicConflict",
            "another engine's stays its own"
        );
    }

    #[test]
    fn somebodys_topic_is_adopted_where_the_spec_says_so() {
        let (engine, mut kafka) = (example().name, example_kafka());
        let found = (topic("one", 1), Scan::None { next: 7 });
        let known = Known { remembered: None, found: Some(&found), start: 0, accepted: None };
        assert_eq!(reason(judge(&engine, &kafka, "cluster", &known)), "TopicConflict");
        kafka.adopt = true;
        let adopted = judge(&engine, &kafka, "cluster", &known);
        assert!(matches!(&adopted, Verdict::Ours { topic, settings: None } if !topic.created), "{adopted:?}");
        let trimmed = Known { start: 3, ..known };
        assert_eq!(reason(judge(&engine, &kafka, "cluster", &trimmed)), "LogTrimmed", "its history is gone");
    }

    #[test]
    fn a_log_without_its_beginning_is_not_begun_again() {
        for scan in [own(), Scan::None { next: 7 }] {
            let found = (topic("one", 1), scan);
            let known =
                Known { remembered: Some(&remembered()), found: Some(&found), start: 5, accepted: None };
            assert_eq!(reason(judge(&example().name, &example_kafka(), "cluster", &known)), "LogTrimmed");
        }
    }
}
