//! What to do for an engine that a group orders for. Pure.

use decree_crds::ConsensusGroup;
use decree_crds::engine::status::LogStatus;
use kube::ResourceExt;

use super::{Action, Plan, in_force};
use crate::engine::fetch::Fetched;
use crate::engine::ledger::Ledger;
use crate::engine::problem::Problem;
use crate::spec::Engine;
use crate::topics::Scan;

/// Whether the group is this engine's and well, and what its log's settings should be.
pub(super) fn group(
    engine: &Engine,
    name: &str,
    fetched: &Fetched,
    plan: &mut Plan,
    actions: &mut Vec<Action>,
) {
    plan.log = fetched.object.status.as_ref().and_then(|status| status.log.clone());
    let none = Ledger::default();
    let ledger = fetched.group.as_ref().unwrap_or(&none);
    let Some(object) = &ledger.object else {
        plan.problems.push(Problem::time(
            "GroupMissing",
            format!("there is no ConsensusGroup {name} in this namespace, which spec.consensusGroup names; apply one of that name"),
        ));
        return;
    };
    if let Some(problem) = unbound(engine, name, object).or_else(|| unwell(object)) {
        plan.problems.push(problem);
        return;
    }
    plan.leader.clone_from(&ledger.leader);
    let Some(begun) = &ledger.begun else { return };
    let id = &begun.incarnation.0;
    // Of another incarnation nothing is remembered.
    if plan.log.as_ref().is_none_or(|log| log.incarnation != *id) {
        plan.log = Some(LogStatus { incarnation: id.clone(), settings: None });
    }
    if plan.leader.is_none() {
        return;
    }
    match &ledger.first {
        None => actions.push(Action::FindSettings { id: id.clone(), from: None }),
        Some(Scan::Unfinished { next, .. }) => {
            actions.push(Action::FindSettings { id: id.clone(), from: Some(*next) });
        }
        Some(Scan::None { .. }) => {
            actions.push(Action::AppendSettings(Box::new(engine.settings(&fetched.cluster))));
        }
        Some(Scan::Unreadable(why)) => plan.problems.push(Problem::person(
            "SettingsUnreadable",
            format!("the settings entry of group {name}'s log can't be read ({why}); upgrade the operator"),
        )),
        Some(Scan::Settings { settings, .. })
            if settings.engine != engine.name || settings.cluster != fetched.cluster =>
        {
            plan.problems.push(Problem::person(
                "GroupInUse",
                format!(
                    "the log of group {name} is that of engine {} on the cluster whose kube-system has uid {}; make a new \
                     engine with another ConsensusGroup",
                    settings.engine, settings.cluster
                ),
            ));
        }
        Some(Scan::Settings { position, settings }) => {
            let known = plan.log.as_ref().and_then(|log| log.settings.clone());
            let settings = in_force(engine, fetched, (*position, settings), (id, known), plan, actions);
            plan.log = Some(LogStatus { incarnation: id.clone(), settings });
        }
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
