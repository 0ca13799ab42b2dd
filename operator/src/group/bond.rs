//! Which engine a group orders for: one, and it stays that one. Pure.

use std::sync::Arc;

use decree_crds::DecisionEngine;
use decree_crds::group::status::EngineStatus;
use kube::ResourceExt;

/// The name of the group that an engine names.
#[must_use]
pub fn group_of(engine: &DecisionEngine) -> Option<&str> {
    engine.spec.consensus_group.as_ref().map(|group| group.name.as_str())
}

/// The engine that the group orders for, of those that name it: the one that it is bound to; else the one of that name,
/// which was deleted and made again; else the one that was there first.
#[must_use]
pub fn bond(bound: Option<&EngineStatus>, naming: &[Arc<DecisionEngine>]) -> Option<EngineStatus> {
    let uid = |engine: &DecisionEngine| engine.uid().unwrap_or_default();
    let of = |engine: &Arc<DecisionEngine>| EngineStatus { name: engine.name_any(), uid: uid(engine) };
    let is_bound = |engine: &&Arc<DecisionEngine>| bound.is_some_and(|bound| bound.uid == uid(engine));
    let is_again = |engine: &&Arc<DecisionEngine>| bound.is_some_and(|bound| bound.name == engine.name_any());
    let first = || {
        naming.iter().min_by_key(|engine| {
            let made = engine.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (made.is_none(), made, engine.name_any())
        })
    };
    naming.iter().find(is_bound).or_else(|| naming.iter().find(is_again)).or_else(first).map(of)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn engine(name: &str, uid: &str, second: u32) -> Arc<DecisionEngine> {
        let engine = json!({
            "apiVersion": "decree.dev/v1alpha1", "kind": "DecisionEngine",
            "metadata": {"name": name, "uid": uid, "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z")},
            "spec": {"kafka": {"bootstrapServers": ["a:1"]}, "consensusGroup": {"name": "g"}, "agents": []},
        });
        Arc::new(serde_json::from_value(engine).unwrap())
    }

    fn bound(name: &str, uid: &str) -> EngineStatus {
        EngineStatus { name: name.into(), uid: uid.into() }
    }

    #[test]
    fn the_first_is_bound_and_stays_so() {
        let (old, new) = (engine("b", "1", 1), engine("a", "2", 2));
        let all = [new.clone(), old.clone()];
        assert_eq!(group_of(&old), Some("g"));
        assert_eq!(bond(None, &[]), None);
        assert_eq!(bond(None, &all), Some(bound("b", "1")));
        assert_eq!(bond(Some(&bound("a", "2")), &all), Some(bound("a", "2")));
        assert_eq!(bond(Some(&bound("b", "1")), &[new]), Some(bound("a", "2")), "it is gone");
    }

    #[test]
    fn an_engine_that_was_made_again_goes_on_with_its_group() {
        let all = [engine("a", "2", 1), engine("b", "3", 9)];
        assert_eq!(bond(Some(&bound("b", "1")), &all), Some(bound("b", "3")));
    }
}
