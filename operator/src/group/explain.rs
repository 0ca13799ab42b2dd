//! What to tell in Events of a group: what became true of it, and what was done. Pure.

use decree_crds::ConsensusGroup;
use decree_crds::group::status::ConsensusGroupStatus;
use kube::Resource;

use crate::events::Note;

/// Conditions whose coming is no trouble by itself; the problem behind them has a condition of its own.
const USUAL: [&str; 4] = ["Ready", "Reconciling", "Stalled", "Quorum"];

/// Conditions that became true, and a quorum that is there no more.
#[must_use]
pub fn changes(
    group: &ConsensusGroup,
    previous: &ConsensusGroupStatus,
    status: &ConsensusGroupStatus,
) -> Vec<Note> {
    let is = |status: &ConsensusGroupStatus, type_: &str, value: &str| {
        status.conditions.iter().any(|c| c.type_ == type_ && c.status == value)
    };
    let news = status.conditions.iter().filter(|c| !is(previous, &c.type_, &c.status));
    let told = news.filter_map(|condition| {
        let warning = match (condition.type_.as_str(), condition.status.as_str()) {
            ("Ready" | "Quorum", "True") => false,
            // A group that has not begun has none yet.
            ("Quorum", _) => is(previous, "Quorum", "True"),
            (type_, "True") => !USUAL.contains(&type_),
            _ => return None,
        };
        let tells =
            warning || condition.status == "True" && matches!(condition.type_.as_str(), "Ready" | "Quorum");
        tells.then(|| Note {
            about: group.object_ref(&()),
            warning,
            reason: condition.reason.clone(),
            message: condition.message.clone(),
        })
    });
    told.collect()
}

/// What was done.
#[must_use]
pub fn deeds(group: &ConsensusGroup, told: &[(&'static str, String)]) -> Vec<Note> {
    let note = |(reason, message): &(&str, String)| Note {
        about: group.object_ref(&()),
        warning: false,
        reason: (*reason).into(),
        message: message.clone(),
    };
    told.iter().map(note).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
    use k8s_openapi::jiff::Timestamp;
    use serde_json::json;

    use super::*;

    fn status(types: &[(&str, &str)]) -> ConsensusGroupStatus {
        let condition = |(type_, status): &(&str, &str)| Condition {
            type_: (*type_).into(),
            status: (*status).into(),
            reason: format!("{type_}{status}"),
            message: String::new(),
            observed_generation: None,
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        };
        let conditions = types.iter().map(condition).collect();
        ConsensusGroupStatus { conditions, ..ConsensusGroupStatus::default() }
    }

    #[test]
    fn what_a_person_should_know_is_told_once() {
        let group: ConsensusGroup = serde_json::from_value(json!({
            "apiVersion": "decree.dev/v1alpha1", "kind": "ConsensusGroup",
            "metadata": {"name": "g", "namespace": "shop", "uid": "u"}, "spec": {},
        }))
        .unwrap();
        let told = |before: &[(&str, &str)], after: &[(&str, &str)]| {
            let notes = changes(&group, &status(before), &status(after));
            notes.into_iter().map(|note| (note.warning, note.reason)).collect::<Vec<_>>()
        };
        let led = [("Quorum", "True"), ("Ready", "True")];
        assert_eq!(told(&[("Ready", "True")], &[("Quorum", "False"), ("Ready", "True")]), []);
        assert_eq!(told(&[("Quorum", "False"), ("Ready", "True")], &led), [(false, "QuorumTrue".into())]);
        let lost = [("Quorum", "False"), ("QuorumLost", "True"), ("Ready", "False"), ("Stalled", "True")];
        assert_eq!(told(&led, &lost), [(true, "QuorumFalse".into()), (true, "QuorumLostTrue".into())]);
        assert_eq!(told(&lost, &lost), []);
    }
}
