//! Between apply and status: care for agents that run. Looks, has [`crate::care`] decide, and obeys.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use decree_crds::{ConsensusGroup, labels};
use decree_wire::heartbeat::Trouble;
use decree_wire::position::EngineName;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};

use super::apply;
use super::context::Context;
use super::fetch::Fetched;
use super::problem::{Alert, Problem};
use crate::care::evict::{Cause, Decision, Eviction, Outstanding, called, decide, stranded};
use crate::care::memory::Awaited;
use crate::care::{bare, bypass, groups, guard, outdated, pods};
use crate::events::Note;
use crate::evictor;
use crate::group::bond::group_of;
use crate::spec::Engine;
use crate::topics::{self, Topics};

/// What another look is put off for, where the one before an eviction showed something else than the watch.
const SOON: Duration = Duration::from_secs(1);

/// What came of it.
#[derive(Debug, Default)]
pub struct Tended {
    /// What a person should know of the engine.
    pub alerts: Vec<Alert>,
    /// What was done, and why something was not.
    pub notes: Vec<Note>,
    /// What could not be written.
    pub problems: Vec<Problem>,
    /// When there is something to do, if nothing happens sooner.
    pub again: Option<Duration>,
    /// Agents that are halted though they can't know it, by uid, and why.
    pub poisoned: BTreeMap<String, Trouble>,
}

/// Cares for one engine's agents: one step, everything is looked at anew after it.
pub async fn tend(engine: &Engine, fetched: &Fetched, context: &Context) -> Tended {
    let mut tended = Tended::default();
    guard(engine, fetched, context, &mut tended).await;
    let services = of_namespace(&context.stores.services, engine);
    tended.alerts.extend(bypass::bypassed(engine, &fetched.pods, &services));
    tended.alerts.extend(outdated::sidecars(&fetched.view));
    tended.alerts.extend(outdated::pods(&fetched.object, &fetched.pods, &context.installed));
    replace(engine, fetched, context, &mut tended).await;
    clean(engine, fetched, context, &mut tended).await;
    tended
}

fn of_namespace<K>(store: &Store<K>, engine: &Engine) -> Vec<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let namespace = &engine.name.namespace;
    store.state_filter(|object| object.meta().namespace.as_ref() == Some(namespace))
}

async fn guard(engine: &Engine, fetched: &Fetched, context: &Context, tended: &mut Tended) {
    let budgets = of_namespace(&context.stores.budgets, engine);
    let policies = of_namespace(&context.stores.policies, engine);
    let guards = guard::guards(engine, &fetched.pods, &budgets, &policies, spared(engine, fetched, context));
    let mut results = vec![];
    for budget in &guards.budgets {
        results.push(apply::put(&engine.name, budget, context).await);
    }
    for policy in &guards.policies {
        results.push(apply::put(&engine.name, policy, context).await);
    }
    for (name, uid) in &guards.budgets_gone {
        results.push(apply::delete::<PodDisruptionBudget>(&engine.name, name, uid, context).await);
    }
    for (name, uid) in &guards.policies_gone {
        results.push(apply::delete::<NetworkPolicy>(&engine.name, name, uid, context).await);
    }
    let failed = results.into_iter().filter_map(Result::err);
    tended.problems.extend(failed.map(|message| Problem::time("ApplyFailed", message)));
    tended.alerts.extend(guards.alerts);
}

/// How many agents the engine's group can spare; none where Kafka orders.
fn spared(engine: &Engine, fetched: &Fetched, context: &Context) -> Option<usize> {
    let group = group_of(&fetched.object)?;
    let group = context.stores.groups.get(&ObjectRef::new(group).within(&engine.name.namespace));
    let voters = |group: &ConsensusGroup| usize::try_from(group.spec.voters).unwrap_or(1);
    let members = |group: &ConsensusGroup| group.status.as_ref().map_or(0, |status| status.members.len());
    Some(group.map_or(1, |group| guard::spared(voters(&group), members(&group))))
}

/// Evicts the next pod that has to be made anew, if one may go.
async fn replace(engine: &Engine, fetched: &Fetched, context: &Context, tended: &mut Tended) {
    let mut decision = decided(engine, fetched, &fetched.pods, context);
    if let Some(next) = decision.next.take() {
        let uid = next.uid.clone();
        let went = evict(engine, fetched, &next, context).await;
        match went {
            Ok(Some(note)) => tended.notes.push(note),
            Ok(None) => tended.again = Some(SOON),
            Err(why) => {
                let told = decision.outstanding.iter_mut().filter(|out| out.uid == uid);
                told.for_each(|out| out.hindrance = Some(why.clone()));
                context.notes.care(&engine.name, |memory| memory.refused(&uid, why.clone(), Instant::now()));
                tended.again = Some(Duration::from_secs(10));
            }
        }
    }
    tended.again = [tended.again, decision.again].into_iter().flatten().min();
    let about = |uid: &str| fetched.pods.iter().find(|pod| pod.uid().as_deref() == Some(uid));
    for out in decision.outstanding.iter().filter(|out| out.hindrance.is_some() && !out.cause.bare) {
        let Some(pod) = about(&out.uid) else { continue };
        tended.notes.push(Note {
            about: pod.object_ref(&()),
            warning: true,
            reason: "EvictionCalledFor".into(),
            message: said(out),
        });
    }
    for (uid, trouble) in &decision.poisoned {
        let Some(pod) = about(uid) else { continue };
        let (reason, message) = (trouble.reason.clone(), trouble.message.clone());
        tended.notes.push(Note { about: pod.object_ref(&()), warning: true, reason, message });
    }
    tended.poisoned = decision.poisoned;
    tended.alerts.extend(evictions(&decision.outstanding));
    tended.alerts.extend(without_sidecar(&fetched.pods, &decision.outstanding));
}

fn decided(engine: &Engine, fetched: &Fetched, all: &[Arc<Pod>], context: &Context) -> Decision {
    let now = Instant::now();
    context.notes.care(&engine.name, |memory| {
        memory.look(all, now);
        memory.settle(engine, all);
        let mut causes = called(&fetched.view);
        let poisoned = memory.attempts.poisoned(engine, &fetched.view, now);
        causes.retain(|uid, _| !poisoned.contains_key(uid));
        let status = fetched.object.status.as_ref();
        let topic = status.and_then(|status| Some(status.topic.as_ref()?.id.as_str()));
        let log = topic.or(status.and_then(|status| Some(status.log.as_ref()?.incarnation.as_str())));
        causes.extend(stranded(&fetched.view, log));
        for pod in bare::replaceable(all, memory) {
            let cause = Cause { why: "it has no sidecar".to_owned(), bare: true, doubt: None };
            causes.insert(pod.uid().unwrap_or_default(), cause);
        }
        Decision { poisoned, ..decide(engine, all, &causes, memory, now) }
    })
}

/// Evicts, if it is still right by what the API server has now; nothing where that says otherwise.
async fn evict(
    engine: &Engine,
    fetched: &Fetched,
    next: &Eviction,
    context: &Context,
) -> Result<Option<Note>, String> {
    let all = context.evictor.pods(&engine.name).await.map_err(|error| error.to_string())?;
    if decided(engine, fetched, &all, context).next.as_ref() != Some(next) {
        return Ok(None);
    }
    let Some(pod) = all.iter().find(|pod| pod.uid().as_deref() == Some(&next.uid)) else { return Ok(None) };
    bare::would_be_injected(pod, &fetched.object, &context.installed)?;
    if next.cause.bare {
        let injects = context.evictor.injects().await;
        injects.map_err(|why| format!("it stays until it is shown that injection works: {why}"))?;
    }
    match context.evictor.evict(&engine.name.namespace, &next.pod, &next.uid).await {
        Ok(()) => {}
        Err(evictor::Error::Gone) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    }
    tracing::info!(engine = %engine.name, pod = next.pod, why = next.cause.why, "evicted");
    let there: BTreeSet<String> = all.iter().filter_map(|pod| pod.uid()).collect();
    context.notes.care(&engine.name, |memory| {
        memory.evicted(&next.uid, &next.owner, Instant::now());
        if let Some(doubt) = &next.cause.doubt {
            memory.attempts.evicted(doubt, &next.uid, &there, Instant::now());
        }
        if next.cause.bare {
            memory.tried(&next.owner, there);
        } else {
            let (pod, owner, class) = (next.pod.clone(), next.owned_by.clone(), next.class.clone());
            memory.awaits(&next.uid, Awaited { pod, owner, class, there });
        }
    });
    Ok(Some(Note {
        about: pod.object_ref(&()),
        warning: true,
        reason: "Evicted".into(),
        message: format!("evicted by Decree, so that its controller makes it anew: {}", next.cause.why),
    }))
}

fn said(out: &Outstanding) -> String {
    let hindrance = out.hindrance.as_deref().unwrap_or("it is being evicted");
    format!("it calls for its eviction ({}): {hindrance}", out.cause.why)
}

fn evictions(outstanding: &[Outstanding]) -> Option<Alert> {
    const MOST: usize = 5;
    let calls: Vec<&Outstanding> = outstanding.iter().filter(|out| !out.cause.bare).collect();
    let some = calls.iter().take(MOST).map(|out| format!("{}: {}", out.pod, said(out)));
    let more = calls.len().saturating_sub(MOST);
    let more = if more == 0 { String::new() } else { format!("; and {more} more") };
    (!calls.is_empty()).then(|| Alert {
        reason: "EvictionCalledFor",
        message: format!("{}{more}", some.collect::<Vec<_>>().join("; ")),
    })
}

fn without_sidecar(all: &[Arc<Pod>], outstanding: &[Outstanding]) -> Option<Alert> {
    let names: Vec<String> = bare::bare(all).map(|pod| pod.name_any()).collect();
    let hindrances: BTreeSet<String> = outstanding
        .iter()
        .filter(|out| out.cause.bare)
        .filter_map(|out| Some(format!("{}: {}", out.pod, out.hindrance.as_ref()?)))
        .collect();
    let hindrances: String = hindrances.iter().take(3).map(|hindrance| format!("; {hindrance}")).collect();
    (!names.is_empty()).then(|| Alert {
        reason: "BareAgents",
        message: format!(
            "labelled pods without a sidecar, which get no command and are not counted as ready: {}; they were made while the \
             webhook was not there, or labelled afterwards: delete them, so that their controllers make them anew from a \
             template with the label (Decree does so itself with one of each controller, and with the others once that \
             helped){hindrances}",
            pods::named(names.iter().map(String::as_str))
        ),
    })
}

/// Deletes consumer groups of pods that are gone: of those whose end was seen at once, of others when the groups are
/// listed now and then.
async fn clean(engine: &Engine, fetched: &Fetched, context: &Context, tended: &mut Tended) {
    let has_log = fetched.object.status.as_ref().is_some_and(|status| status.topic.is_some());
    let Some(cluster) = context.notes.cluster(&engine.name).filter(|_| has_log) else { return };
    if !matches!(fetched.topics, Some(Ok(_))) {
        return;
    }
    let name = &engine.name;
    let (gone, list) =
        context.notes.care(name, |memory| (memory.gone(&fetched.pods), memory.groups_due(Instant::now())));
    let deleted = groups_of_gone_pods(name, fetched, &gone, list, cluster.as_ref()).await;
    match deleted {
        Ok(groups) if groups.is_empty() => {}
        Ok(groups) => {
            tracing::info!(engine = %name, ?groups, "deleted consumer groups of pods that are gone")
        }
        Err(error) => tended.notes.push(Note {
            about: fetched.object.object_ref(&()),
            warning: true,
            reason: "GroupsNotDeleted".into(),
            message: format!(
                "consumer groups of pods that are gone are not deleted, and do no harm: {error}"
            ),
        }),
    }
}

async fn groups_of_gone_pods(
    name: &EngineName,
    fetched: &Fetched,
    gone: &BTreeSet<String>,
    list: bool,
    cluster: &dyn Topics,
) -> Result<Vec<String>, topics::Error> {
    let mut deleted: Vec<String> =
        gone.iter().map(|pod| labels::consumer_group(&name.namespace, &name.name, pod)).collect();
    if list {
        let there = fetched.pods.iter().map(|pod| pod.name_any()).collect();
        deleted.extend(groups::orphaned(name, &cluster.groups(&groups::prefix(name)).await?, &there));
    }
    if !deleted.is_empty() {
        cluster.delete_groups(&deleted).await?;
    }
    Ok(deleted)
}
