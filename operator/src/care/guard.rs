//! Which PodDisruptionBudgets and NetworkPolicies an engine has, and where it has none for the sake of somebody else's.
//! Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use decree_crds::labels;
use decree_wire::pod::port;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::ResourceExt;
use serde::Serialize;

use super::pods;
use crate::engine::problem::Alert;
use crate::inject::marks::Status;
use crate::render;
use crate::spec::{Class, Engine};

/// What to write and what to delete.
#[derive(Debug, Default, PartialEq)]
pub struct Guards {
    /// Budgets to be written.
    pub budgets: Vec<PodDisruptionBudget>,
    /// Budgets to be deleted, by name and uid.
    pub budgets_gone: Vec<(String, String)>,
    /// Policies to be written.
    pub policies: Vec<NetworkPolicy>,
    /// Policies to be deleted, by name and uid.
    pub policies_gone: Vec<(String, String)>,
    /// What a person should know.
    pub alerts: Vec<Alert>,
}

/// Decides; `budgets` and `policies` are all of the engine's namespace. So many agents the engine's group can spare; none
/// where Kafka orders.
#[must_use]
pub fn guards(
    engine: &Engine,
    all: &[Arc<Pod>],
    budgets: &[Arc<PodDisruptionBudget>],
    policies: &[Arc<NetworkPolicy>],
    spared: Option<usize>,
) -> Guards {
    let mut guards = Guards::default();
    let mut wanted_budgets = vec![];
    if let Some(spared) = spared {
        let pods: Vec<&Pod> = all.iter().map(AsRef::as_ref).filter(|pod| !pods::has_ended(pod)).collect();
        let others = selecting(engine, &pods, budgets, |budget| budget.spec.as_ref()?.selector.as_ref());
        if !others.is_empty() {
            guards.alerts.push(other_budgets_of_group(spared, &others));
        } else if countable(&pods) {
            wanted_budgets.push(render::budget::of_group(engine, spared));
        }
    }
    let mut wanted_policies = vec![];
    for class in &engine.classes {
        let pods: Vec<&Pod> = all
            .iter()
            .map(AsRef::as_ref)
            .filter(|pod| !pods::has_ended(pod) && pods::class(pod, engine) == Some(class))
            .collect();
        if spared.is_none() {
            let others = selecting(engine, &pods, budgets, |budget| budget.spec.as_ref()?.selector.as_ref());
            if !others.is_empty() {
                guards.alerts.push(other_budgets(class, &others));
            } else if countable(&pods) {
                wanted_budgets.push(render::budget::of_class(engine, class));
            }
        }
        if !class.isolate {
            continue;
        }
        let others = selecting(engine, &pods, policies, |policy| {
            let spec = policy.spec.as_ref()?;
            let ingress = spec.policy_types.as_ref().is_none_or(|types| types.iter().any(|t| t == "Ingress"));
            spec.pod_selector.as_ref().filter(|_| ingress)
        });
        if others.is_empty() {
            wanted_policies.push(render::isolation::isolation(engine, class, &kept_ports(&pods)));
        } else {
            guards.alerts.push(isolation_missing(class, &kept_ports(&pods), &others));
        }
    }
    (guards.budgets, guards.budgets_gone) = difference(engine, wanted_budgets, budgets);
    (guards.policies, guards.policies_gone) = difference(engine, wanted_policies, policies);
    guards
}

/// Ports of applications whose pods were made before `app.port` changed: they listen there until they are made anew.
fn kept_ports(pods: &[&Pod]) -> BTreeSet<u16> {
    let injected = pods.iter().filter(|pod| pods::is_injected(pod));
    let pinned = injected.filter_map(|pod| u16::try_from(Status::of(pod)?.pinned?.port).ok());
    // The sidecar's own are never an application's, whatever an annotation says.
    pinned.filter(|port| *port > 0 && !(port::HEALTH..=port::PEERS).contains(port)).collect()
}

/// No budget over the pods of a Job or a DaemonSet: these can't be scaled, and Kubernetes refuses every eviction of a pod
/// whose budget it can't count.
fn countable(pods: &[&Pod]) -> bool {
    let countable =
        |pod: &&Pod| pods::owner(pod).is_none_or(|owner| !matches!(owner.kind.as_str(), "Job" | "DaemonSet"));
    pods.iter().all(countable)
}

/// How many agents a group with so many members can spare, if so many voters are wanted. One alone holds everything, and two
/// need each other; a learner takes the place of one that goes.
#[must_use]
pub fn spared(voters: usize, members: usize) -> usize {
    match (voters.min(members).saturating_sub(1) / 2, members > voters) {
        // Before it has begun there is nothing to be lost.
        _ if members == 0 => 1,
        (0, true) => 1,
        (spared, _) => spared,
    }
}

/// Names of objects that are not Decree's and select one of the pods.
fn selecting<K>(
    engine: &Engine,
    pods: &[&Pod],
    objects: &[Arc<K>],
    selector: impl Fn(&K) -> Option<&LabelSelector>,
) -> Vec<String>
where
    K: kube::Resource<DynamicType = ()>,
{
    let foreign = objects.iter().filter(|object| {
        !render::is_of(object.meta(), &engine.name.name)
            && pods.iter().any(|pod| pods::selects(selector(object), pod))
    });
    foreign.map(|object| object.name_any()).collect()
}

/// What of `wanted` is not there yet, and what of ours is there and not wanted.
fn difference<K>(engine: &Engine, wanted: Vec<K>, there: &[Arc<K>]) -> (Vec<K>, Vec<(String, String)>)
where
    K: kube::Resource<DynamicType = ()> + Serialize,
{
    let name = |meta: &ObjectMeta| meta.name.clone().unwrap_or_default();
    let gone = there.iter().filter(|object| {
        render::is_of(object.meta(), &engine.name.name)
            && !wanted.iter().any(|wanted| wanted.meta().name == object.meta().name)
    });
    let gone =
        gone.map(|object| (name(object.meta()), object.meta().uid.clone().unwrap_or_default())).collect();
    let differs = |wanted: &K| {
        let existing = there.iter().find(|object| object.meta().name == wanted.meta().name);
        existing.is_none_or(|existing| {
            // Somebody else's of that name, which selects none of our pods: not touched.
            render::is_of(existing.meta(), &engine.name.name) && !render::is_as(wanted, existing.as_ref())
        })
    };
    (wanted.into_iter().filter(differs).collect(), gone)
}

fn other_budgets(class: &Class, others: &[String]) -> Alert {
    let more = match others {
        [_] => {
            "see that it lets one of them be evicted at a time, even one that is not ready \
                (unhealthyPodEvictionPolicy: AlwaysAllow)"
        }
        _ => "they are several, and Kubernetes evicts no pod that two select: leave one",
    };
    Alert {
        reason: "OtherDisruptionBudget",
        message: format!(
            "PodDisruptionBudget {} selects agents of class {}, so that Decree keeps none of its own beside it; {more}",
            pods::named(others.iter().map(String::as_str)),
            class.name
        ),
    }
}

fn other_budgets_of_group(spared: usize, others: &[String]) -> Alert {
    Alert {
        reason: "OtherDisruptionBudget",
        message: format!(
            "PodDisruptionBudget {} selects agents of this engine, so that Decree keeps none of its own beside it; see that one \
             of them selects them all and lets at most {spared} be unavailable at a time: more, and the group orders nothing. \
             Kubernetes evicts no pod that two select",
            pods::named(others.iter().map(String::as_str)),
        ),
    }
}

fn isolation_missing(class: &Class, kept: &BTreeSet<u16>, others: &[String]) -> Alert {
    let closed: BTreeSet<u16> = kept.iter().copied().chain([class.port]).collect();
    let closed = closed.iter().map(u16::to_string).collect::<Vec<_>>().join(" and ");
    Alert {
        reason: "IsolationMissing",
        message: format!(
            "NetworkPolicy {} selects agents of class {}; policies add up, so that one of Decree's beside it would open \
             every port but {closed}, and none is made: see that yours leaves port {closed} out and lets {} to {} in, and set \
             replicate.isolate to false",
            pods::named(others.iter().map(String::as_str)),
            class.name,
            port::HEALTH,
            port::PEERS,
        ),
    }
}

/// Which engine an object of Decree's belongs to, by its labels.
#[must_use]
pub fn engine_of(meta: &ObjectMeta) -> Option<&String> {
    let labels = meta.labels.as_ref()?;
    let ours = labels.get(labels::MANAGED_BY).is_some_and(|by| by == labels::FIELD_MANAGER);
    labels.get(labels::ENGINE).filter(|_| ours)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    use serde_json::json;

    use super::super::pods::example;
    use super::*;
    use crate::spec::example as engine;

    fn budget_(name: &str, selector: serde_json::Value) -> Arc<PodDisruptionBudget> {
        let budget = json!({
            "metadata": {"name": name, "namespace": "shop", "uid": name}, "spec": {"selector": selector, "minAvailable": 1},
        });
        Arc::new(serde_json::from_value(budget).unwrap())
    }

    #[test]
    fn a_budget_for_each_class_is_made_once() {
        let pods = [Arc::new(example("a", true))];
        let first = guards(&engine(), &pods, &[], &[], None);
        assert_eq!(first.budgets.len(), 1);
        assert!(first.alerts.is_empty() && first.policies.is_empty());
        let there = Arc::new(first.budgets[0].clone());
        assert_eq!(guards(&engine(), &pods, &[there], &[], None), Guards::default());
    }

    #[test]
    fn beside_a_users_own_budget_there_is_none() {
        let pods = [Arc::new(example("a", true))];
        let ours = Arc::new(guards(&engine(), &pods, &[], &[], None).budgets[0].clone());
        let theirs = budget_("mine", json!({"matchLabels": {"app": "opa"}}));
        let elsewhere = budget_(
            "another",
            json!({"matchExpressions": [
                {"key": "app", "operator": "NotIn", "values": ["opa"]},
            ]}),
        );
        let beside = guards(&engine(), &pods, &[ours, theirs.clone(), elsewhere.clone()], &[], None);
        assert!(beside.budgets.is_empty());
        assert_eq!(beside.budgets_gone[0].0, "decree-policy.opa");
        assert!(beside.alerts[0].message.contains("mine selects"), "{}", beside.alerts[0].message);
        let several = budget_("all", json!({}));
        let two = guards(&engine(), &pods, &[theirs, several], &[], None);
        assert!(two.alerts[0].message.contains("all, mine") && two.alerts[0].message.contains("leave one"));
        assert_eq!(guards(&engine(), &pods, &[elsewhere], &[], None).budgets.len(), 1);
    }

    #[test]
    fn a_groups_agents_have_one_budget_together() {
        let pods = [Arc::new(example("a", true))];
        let of_group = guards(&engine(), &pods, &[], &[], Some(spared(3, 3)));
        assert_eq!(of_group.budgets.len(), 1);
        let spec = of_group.budgets[0].spec.as_ref().unwrap();
        assert_eq!(spec.max_unavailable, Some(IntOrString::Int(1)));
        assert_eq!(spec.selector.as_ref().unwrap().match_labels.as_ref().unwrap().len(), 1);
        let theirs = budget_("mine", json!({"matchLabels": {"app": "opa"}}));
        let beside = guards(&engine(), &pods, &[theirs], &[], Some(0));
        assert!(beside.budgets.is_empty() && beside.alerts[0].message.contains("at most 0"));
    }

    #[test]
    fn a_quorum_is_never_spared() {
        let cases = [
            ((3, 0), 1),
            ((3, 1), 0),
            ((3, 2), 0),
            ((3, 3), 1),
            ((3, 9), 1),
            ((5, 4), 1),
            ((5, 5), 2),
            ((1, 1), 0),
            ((1, 3), 1),
        ];
        for ((voters, members), most) in cases {
            assert_eq!(spared(voters, members), most, "{voters} voters, {members} members");
        }
    }

    #[test]
    fn a_jobs_pods_have_none() {
        let mut job = example("a", true);
        job.metadata.owner_references.as_mut().unwrap()[0].kind = "Job".into();
        assert!(guards(&engine(), &[Arc::new(job)], &[], &[], None).budgets.is_empty());
    }

    #[test]
    fn isolation_is_asked_for_and_gives_way_to_a_policy_that_would_be_opened() {
        let mut engine = engine();
        let pods = [Arc::new(example("a", true))];
        engine.classes[0].isolate = true;
        let isolated = guards(&engine, &pods, &[], &[], None);
        assert_eq!(isolated.policies.len(), 1);
        let ours = Arc::new(isolated.policies[0].clone());
        let deny = json!({"metadata": {"name": "deny", "namespace": "shop"}, "spec": {"podSelector": {}}});
        let deny = Arc::new(serde_json::from_value::<NetworkPolicy>(deny).unwrap());
        let beside = guards(&engine, &pods, &[], &[ours.clone(), deny], None);
        assert!(beside.policies.is_empty() && beside.policies_gone.len() == 1);
        assert!(beside.alerts[0].message.contains("NetworkPolicy deny"));
        engine.classes[0].isolate = false;
        assert_eq!(guards(&engine, &pods, &[], &[ours], None).policies_gone[0].0, "decree-policy.opa");
    }

    #[test]
    fn a_port_stays_closed_while_a_pod_was_made_with_it() {
        let mut engine = engine();
        engine.classes[0].isolate = true;
        let made_with = |port: i32| {
            let status = json!({
                "operator": "1", "engine": "policy", "class": "opa", "application": "opa", "container": "decree",
                "image": "image:1", "volumes": [], "pinned": {"port": port, "container": "opa", "mode": "replicate",
                "scratch": [], "image": "image:1", "resources": {}},
            });
            let mut pod = example("a", true);
            pod.annotations_mut().insert(labels::STATUS.into(), status.to_string());
            [Arc::new(pod)]
        };
        let policy = |port| guards(&engine, &made_with(port), &[], &[], None).policies;
        let current = policy(engine.classes[0].port.into());
        assert_eq!(policy(4000), [render::isolation::isolation(&engine, &engine.classes[0], &[4000].into())]);
        assert_ne!(policy(4000), current);
        assert_eq!(policy(port::HEALTH.into()), current, "the sidecar's own port is never closed");
        let deny = json!({"metadata": {"name": "deny", "namespace": "shop"}, "spec": {"podSelector": {}}});
        let deny = Arc::new(serde_json::from_value::<NetworkPolicy>(deny).unwrap());
        let alerts = guards(&engine, &made_with(4000), &[], &[deny], None).alerts;
        let both = format!("leaves port 4000 and {} out", engine.classes[0].port);
        assert!(alerts[0].message.contains(&both), "{}", alerts[0].message);
    }
}
