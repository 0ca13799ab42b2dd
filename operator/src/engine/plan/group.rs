//! Whether the group that an engine names is its own and well, and what its log begins with. Pure.

use decree_crds::ConsensusGroup;
use decree_wire::settings::Settings;
use kube::ResourceExt;

use crate::engine::ledger::Ledger;
use crate::engine::problem::Problem;
use crate::spec::Engine;
use crate::topics::Scan;

/// What the group is to the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is none, or it is left as it is.
    Refused(Problem),
    /// The engine's: it has no member yet, or nobody leads it now.
    Unled,
    /// Nobody knows yet what its log begins with: it is to be read from here, or from its start.
    Reading(Option<u64>),
    /// Its log has no settings entry.
    Unsettled,
    /// Its log begins with these, at this position.
    Settled(u64, Box<Settings>),
}

/// Judges the group of that name.
#[must_use]
pub fn judge(engine: &Engine, cluster: &str, name: &str, ledger: &Ledger) -> Verdict {
    let Some(object) = &ledger.object else {
        return Verdict::Refused(Problem::time(
            "GroupMissing",
            format!(
                "there is no ConsensusGroup {name} in this namespace, which spec.consensusGroup names; apply one of that name"
            ),
        ));
    };
    if let Some(problem) = unbound(engine, name, object).or_else(|| unwell(object)) {
        return Verdict::Refused(problem);
    }
    if ledger.begun.is_none() || ledger.leader.is_none() {
        return Verdict::Unled;
    }
    match &ledger.first {
        None => Verdict::Reading(None),
        Some(Scan::Unfinished { next, .. }) => Verdict::Reading(Some(*next)),
        Some(Scan::None { .. }) => Verdict::Unsettled,
        Some(Scan::Unreadable(why)) => Verdict::Refused(Problem::person(
            "SettingsUnreadable",
            format!("the settings entry of group {name}'s log can't be read ({why}); upgrade the operator"),
        )),
        Some(Scan::Settings { position, settings })
            if settings.engine == engine.name && settings.cluster == cluster =>
        {
            Verdict::Settled(*position, settings.clone())
        }
        Some(Scan::Settings { settings, .. }) => Verdict::Refused(Problem::person(
            "GroupInUse",
            format!(
                "the log of group {name} is that of engine {} on the cluster whose kube-system has uid {}; make a new engine \
                 with another ConsensusGroup",
                settings.engine, settings.cluster
            ),
        )),
    }
}

/// A group orders for one engine.
fn unbound(engine: &Engine, name: &str, group: &ConsensusGroup) -> Option<Problem> {
    let bound = group.status.as_ref().and_then(|status| status.engine.as_ref());
    match bound {
        Some(bound) if bound.uid == engine.uid => None,
        Some(bound) if bound.name != engine.name.name => Some(Problem::person(
            "GroupInUse",
            format!(
                "ConsensusGroup {name} orders for engine {}, and a group orders for one engine; make another group and a new \
                 engine that names it, or delete engine {} if nobody needs it",
                bound.name, bound.name
            ),
        )),
        // Of this name, and made anew; or nobody's yet.
        Some(_) | None => Some(Problem::time(
            "GroupNotBound",
            format!(
                "ConsensusGroup {name} is not bound to this engine yet; see its conditions if that lasts"
            ),
        )),
    }
}

fn unwell(group: &ConsensusGroup) -> Option<Problem> {
    let ready = group.status.iter().flat_map(|status| &status.conditions).find(|c| c.type_ == "Ready")?;
    (ready.status != "True").then(|| {
        Problem::time(
            "GroupNotReady",
            format!("ConsensusGroup {} is not ready: {} ({})", group.name_any(), ready.message, ready.reason),
        )
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::super::tests::{deeds, fetched};
    use super::super::{Plan, plan};
    use super::*;
    use crate::engine::fetch::Fetched;
    use crate::group::call::Agent;
    use crate::group::genesis;
    use crate::spec::{Order, example};

    fn engine() -> Engine {
        Engine { order: Order::Group("policy".into()), ..example() }
    }

    fn begun(uid: &str, members: bool) -> Value {
        let members = if members { json!([{"id": "000000000000001f", "pod": "opa-0"}]) } else { json!([]) };
        json!({
            "engine": {"name": if uid == "engine-uid" { "policy" } else { "other" }, "uid": uid},
            "genesis": {"incarnation": "one", "base": 0, "first": "000000000000001f", "durability": "Quorum"},
            "members": members,
        })
    }

    /// As the group and its log are.
    fn of(status: Option<Value>, first: Option<Scan>) -> Fetched {
        let group = status.map(|status| {
            let group = json!({"apiVersion": "decree.dev/v1alpha1", "kind": "ConsensusGroup",
                "metadata": {"name": "policy", "namespace": "shop"}, "spec": {}, "status": status});
            Arc::new(serde_json::from_value::<ConsensusGroup>(group).unwrap())
        });
        let status = group.as_ref().and_then(|group| group.status.clone()).unwrap_or_default();
        let begun = status.genesis.as_ref().filter(|_| !status.members.is_empty());
        let begun = begun.map(|begun| genesis::read(begun).unwrap());
        let leader = begun.as_ref().map(|_| Agent {
            namespace: "shop".into(),
            engine: "policy".into(),
            pod: "opa-0".into(),
            uid: "u".into(),
            address: "10.0.0.1:7073".into(),
        });
        let issuer = "decree-webhook.decree.svc:443".into();
        let ledger = Ledger { object: group, begun, leader, first, issuer };
        Fetched { group: Some(ledger), ..fetched(None) }
    }

    fn planned(status: Option<Value>, first: Option<Scan>) -> Plan {
        plan(&engine(), &of(status, first))
    }

    fn reason(plan: &Plan) -> Option<&'static str> {
        plan.problems.first().map(|problem| problem.reason)
    }

    #[test]
    fn without_its_group_an_engine_has_its_secret_and_says_what_is_missing() {
        let missing = planned(None, None);
        assert_eq!(deeds(&missing), ["secret", "service"]);
        assert_eq!(reason(&missing), Some("GroupMissing"));
        assert!(missing.problems[0].message.contains("apply one"));
        assert_eq!(reason(&planned(Some(json!({})), None)), Some("GroupNotBound"));
        let taken = planned(Some(begun("another", true)), None);
        assert_eq!(reason(&taken), Some("GroupInUse"));
        assert!(taken.leader.is_none(), "and it is asked nothing");
    }

    #[test]
    fn a_group_without_members_is_well() {
        let empty = planned(Some(begun("engine-uid", false)), None);
        assert!(empty.problems.is_empty() && empty.waiting.is_none(), "{empty:?}");
        assert_eq!(deeds(&empty), ["secret", "service"]);
        assert_eq!(empty.log, None);
    }

    #[test]
    fn a_log_gets_its_settings_once_somebody_leads() {
        let status = || Some(begun("engine-uid", true));
        assert_eq!(deeds(&planned(status(), None)), ["secret", "service", "find"]);
        let none = planned(status(), Some(Scan::None { next: 3 }));
        assert_eq!(deeds(&none), ["secret", "service", "settings"]);
        let own = || Scan::Settings { position: 3, settings: Box::new(engine().settings("cluster")) };
        let settled = planned(status(), Some(own()));
        assert_eq!(deeds(&settled), ["secret", "service"]);
        let log = settled.log.unwrap();
        assert_eq!((log.incarnation.as_str(), log.settings.unwrap().position), ("one", 3));
        let foreign = Scan::Settings { position: 3, settings: Box::new(engine().settings("another")) };
        assert_eq!(reason(&planned(status(), Some(foreign))), Some("GroupInUse"));
    }
}
