//! The watches: what is kept in memory, how little of it, and what sets off a reconcile.

use std::fmt::Debug;
use std::hash::Hash;

use decree_crds::{DecisionEngine, labels};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{Predicate, PredicateConfig, WatchStreamExt, predicates, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

/// Below the 240 s after which idle load balancers cut a watch.
const WATCH_SECONDS: u32 = 200;

type Watch<K> = (Store<K>, BoxStream<'static, Result<K, watcher::Error>>);

/// What is watched. A stream fills its store while it is polled.
pub(super) struct Watches {
    pub(super) engines: Watch<DecisionEngine>,
    pub(super) pods: Watch<Pod>,
    pub(super) services: Watch<Service>,
}

/// Watches that begin when they are polled.
pub(super) fn begin(client: &Client, namespace: Option<&str>) -> Watches {
    let every = || watcher::Config::default().timeout(WATCH_SECONDS);
    let ours = format!("{}={}", labels::MANAGED_BY, labels::FIELD_MANAGER);
    let (engines, stream) = watch::<DecisionEngine>(client, namespace, every(), |_| {});
    // Our own status changes neither.
    let changed = predicates::generation.combine(predicates::annotations);
    let stream = stream.predicate_filter(changed, PredicateConfig::default()).boxed();
    Watches {
        engines: (engines, stream),
        pods: watch(client, namespace, every().labels(labels::ENGINE), slim),
        services: watch(client, namespace, every().labels(&ours), |_| {}),
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

/// Of a pod: its name, labels, state, and which containers it has.
fn slim(pod: &mut Pod) {
    pod.annotations_mut().clear();
    if let Some(spec) = pod.spec.take() {
        let kept = pod.spec.insert(Default::default());
        let names = spec.init_containers.unwrap_or_default().into_iter().map(|container| container.name);
        kept.init_containers = Some(
            names.map(|name| k8s_openapi::api::core::v1::Container { name, ..Default::default() }).collect(),
        );
    }
}

/// Which engine a pod is an agent of.
pub(super) fn engine_of(pod: Pod) -> Option<ObjectRef<DecisionEngine>> {
    let engine = pod.labels().get(labels::ENGINE)?;
    Some(ObjectRef::new(engine).within(&pod.namespace()?))
}
