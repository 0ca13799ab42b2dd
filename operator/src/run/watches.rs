//! The watches: what is kept in memory, how little of it, and what sets off a reconcile.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::Hash;

use decree_crds::{ConsensusGroup, DecisionEngine, labels};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Container, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{Predicate, PredicateConfig, WatchStreamExt, predicates, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::care::guard;
use crate::engine::context::Stores;
use crate::group::bond::group_of;
use crate::group::notes::GroupName;

/// Below the 240 s after which idle load balancers cut a watch.
const WATCH_SECONDS: u32 = 200;

pub(super) type Watch<K> = (Store<K>, BoxStream<'static, Result<K, watcher::Error>>);

/// What is watched. A stream fills its store while it is polled.
pub(super) struct Watches {
    pub(super) engines: Watch<DecisionEngine>,
    pub(super) groups: Watch<ConsensusGroup>,
    pub(super) pods: Watch<Pod>,
    pub(super) services: Watch<Service>,
    pub(super) budgets: Watch<PodDisruptionBudget>,
    pub(super) policies: Watch<NetworkPolicy>,
}

impl Watches {
    /// The groups' own, and the others, which tell `touch` which groups are to be looked at.
    pub(super) fn divided(
        self,
        engines: &Store<DecisionEngine>,
        touch: &mpsc::Sender<GroupName>,
    ) -> (Watch<ConsensusGroup>, EngineWatches) {
        let Self { engines: (store, stream), groups, pods: (pods, changes), services, budgets, policies } =
            self;
        let (touched, known) = (touch.clone(), engines.clone());
        let changes = changes.inspect(move |pod| {
            let engine = pod.as_ref().ok().and_then(|pod| known.get(&engine_of(pod.clone())?));
            tell(engine.as_deref(), &touched);
        });
        let touched = touch.clone();
        let stream = stream.inspect(move |engine| tell(engine.as_ref().ok(), &touched));
        let rest = EngineWatches {
            engines: (store, stream.boxed()),
            pods: (pods, changes.boxed()),
            services,
            budgets,
            policies,
        };
        (groups, rest)
    }
}

/// What sets off a reconcile of engines.
pub(super) struct EngineWatches {
    pub(super) engines: Watch<DecisionEngine>,
    pub(super) pods: Watch<Pod>,
    pub(super) services: Watch<Service>,
    pub(super) budgets: Watch<PodDisruptionBudget>,
    pub(super) policies: Watch<NetworkPolicy>,
}

/// Where too many wait already, the group is looked at in its own time.
fn tell(engine: Option<&DecisionEngine>, touch: &mpsc::Sender<GroupName>) {
    let Some((engine, group)) = engine.and_then(|engine| Some((engine, group_of(engine)?))) else { return };
    let name = GroupName { namespace: engine.namespace().unwrap_or_default(), name: group.to_owned() };
    if touch.try_send(name).is_err() {
        tracing::debug!("many groups wait to be looked at");
    }
}

/// Watches that begin when they are polled.
pub(super) fn begin(client: &Client, namespace: Option<&str>) -> Watches {
    let every = || watcher::Config::default().timeout(WATCH_SECONDS);
    let (engines, stream) = watch::<DecisionEngine>(client, namespace, every(), |_| {});
    // Our own status changes neither.
    let changed = predicates::generation.combine(predicates::annotations);
    let stream = stream.predicate_filter(changed, PredicateConfig::default()).boxed();
    let (groups, group_stream) = watch::<ConsensusGroup>(client, namespace, every(), |_| {});
    let changed = predicates::generation.combine(predicates::annotations);
    let group_stream = group_stream.predicate_filter(changed, PredicateConfig::default()).boxed();
    Watches {
        engines: (engines, stream),
        groups: (groups, group_stream),
        pods: watch(client, namespace, every().labels(labels::ENGINE), slim),
        services: watch(
            client,
            namespace,
            every(),
            foreign(|service: &mut Service| {
                let Some(spec) = service.spec.take() else { return };
                let kept = service.spec.insert(Default::default());
                (kept.selector, kept.ports) = (spec.selector, spec.ports);
                service.status = None;
            }),
        ),
        budgets: watch(
            client,
            namespace,
            every(),
            foreign(|budget: &mut PodDisruptionBudget| budget.status = None),
        ),
        policies: watch(
            client,
            namespace,
            every(),
            foreign(|policy: &mut NetworkPolicy| {
                let Some(spec) = &mut policy.spec else { return };
                (spec.ingress, spec.egress) = (None, None);
            }),
        ),
    }
}

fn watch<K>(
    client: &Client,
    namespace: Option<&str>,
    config: watcher::Config,
    mut keep: impl FnMut(&mut K) + Send + 'static,
) -> Watch<K>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone + Send + Sync,
{
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let (store, writer) = reflector::store();
    let stream = watcher(api, config)
        .default_backoff()
        .modify(move |object| {
            object.managed_fields_mut().clear();
            keep(object);
        })
        .reflect(writer)
        .touched_objects();
    (store, logged(stream).boxed())
}

/// A broken watch tries again by itself; passed on, its errors would slow down all the others.
fn logged<K: Send>(
    stream: impl Stream<Item = Result<K, watcher::Error>> + Send,
) -> impl Stream<Item = Result<K, watcher::Error>> + Send {
    stream.filter_map(async |item| match item {
        Ok(object) => Some(Ok(object)),
        Err(error) => {
            tracing::warn!(%error, kind = std::any::type_name::<K>(), "a watch broke");
            None
        }
    })
}

/// What is somebody else's is kept with less in it.
fn foreign<K: Resource>(slim: impl Fn(&mut K)) -> impl FnMut(&mut K) {
    move |object| {
        if guard::engine_of(object.meta()).is_none() {
            object.annotations_mut().clear();
            slim(object);
        }
    }
}

/// Of a pod: its name, labels, owner and state, what the injection did, what its deletion costs, its node, and which
/// containers it has with which ports.
fn slim(pod: &mut Pod) {
    pod.annotations_mut().retain(|key, _| key == labels::STATUS || key == labels::POD_DELETION_COST);
    if let Some(spec) = pod.spec.take() {
        let slim = |container: Container| Container {
            name: container.name,
            ports: container.ports,
            ..Container::default()
        };
        let kept = pod.spec.insert(Default::default());
        kept.node_name = spec.node_name;
        kept.containers = spec.containers.into_iter().map(slim).collect();
        kept.init_containers = Some(spec.init_containers.into_iter().flatten().map(slim).collect());
    }
}

/// Which engine a pod is an agent of.
pub(super) fn engine_of(pod: Pod) -> Option<ObjectRef<DecisionEngine>> {
    let engine = pod.labels().get(labels::ENGINE)?;
    Some(ObjectRef::new(engine).within(&pod.namespace()?))
}

/// Which engines something is about: the one that it was made for; or, where it is somebody else's, those whose pods it
/// selects, and those of its namespace that name such a one in a condition.
pub(super) fn touched<K: Resource>(
    stores: Stores,
    condition: &'static str,
    selects: impl Fn(&K, &Pod) -> bool,
) -> impl Fn(K) -> Vec<ObjectRef<DecisionEngine>> {
    move |object| {
        let Some(namespace) = object.namespace() else { return vec![] };
        let within = |name: &String| ObjectRef::new(name).within(&namespace);
        if let Some(engine) = guard::engine_of(object.meta()) {
            return vec![within(engine)];
        }
        let pods = stores.pods.state_filter(|pod| {
            pod.metadata.namespace.as_deref() == Some(&namespace) && selects(&object, pod)
        });
        let engines = stores.engines.state_filter(|engine| {
            engine.metadata.namespace.as_deref() == Some(&namespace)
                && engine.status.iter().flat_map(|status| &status.conditions).any(|c| c.type_ == condition)
        });
        let selected = pods.iter().filter_map(|pod| pod.labels().get(labels::ENGINE).cloned());
        let names: BTreeSet<String> =
            selected.chain(engines.iter().map(|engine| engine.name_any())).collect();
        names.iter().map(within).collect()
    }
}
