//! Where the webhook finds a namespace's engines: the port, and the operator's cache behind it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use decree_crds::DecisionEngine;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, ResourceExt};
use tokio::time::timeout;

/// For the cache to be filled, and for one look at the API server itself.
const LIMIT: Duration = Duration::from_secs(3);
/// Of several that wait for a cache kube wakes only the one that asked last: so each asks again.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Why nobody knows the engines.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operator has only just started.
    #[error("find the namespace's engines: they have not been listed yet")]
    NotListed,
    /// The API server did not answer.
    #[error("find the engine at the API server")]
    Unreachable(#[source] Option<kube::Error>),
}

/// Finds engines.
#[async_trait]
pub trait Engines: Send + Sync + fmt::Debug {
    /// The engines of `namespace`. The one named `wanted` MUST be among them if it exists at the time of the call, also
    /// if it was created a moment ago; the others MAY be a little out of date. MUST answer within seconds.
    async fn of_namespace(&self, namespace: &str, wanted: &str) -> Result<Vec<Arc<DecisionEngine>>, Error>;
}

/// The operator's cache, and the API server for what the cache doesn't know yet.
#[derive(Clone)]
pub struct Cached {
    store: Store<DecisionEngine>,
    client: Client,
}

impl Cached {
    /// Over a cache that somebody else fills.
    #[must_use]
    pub fn new(store: Store<DecisionEngine>, client: Client) -> Self {
        Self { store, client }
    }

    /// Waits until all engines are known; false if nobody lists them any more.
    async fn listed(&self) -> bool {
        loop {
            if let Ok(ready) = timeout(ASK_AGAIN, self.store.wait_until_ready()).await {
                return ready.is_ok();
            }
        }
    }

    async fn asked(&self, namespace: &str, name: &str) -> Result<Option<DecisionEngine>, Error> {
        let api: Api<DecisionEngine> = Api::namespaced(self.client.clone(), namespace);
        let asked = timeout(LIMIT, api.get_opt(name)).await;
        asked.map_err(|_| Error::Unreachable(None))?.map_err(|error| Error::Unreachable(Some(error)))
    }
}

#[async_trait]
impl Engines for Cached {
    async fn of_namespace(&self, namespace: &str, wanted: &str) -> Result<Vec<Arc<DecisionEngine>>, Error> {
        if !timeout(LIMIT, self.listed()).await.unwrap_or(false) {
            return Err(Error::NotListed);
        }
        let mut engines = self.store.state_filter(|engine| engine.namespace().as_deref() == Some(namespace));
        // Engine and workload are often applied in one go, faster than a watch tells of it; a pod that is refused for
        // that waits for its controller's back-off.
        let cached = self.store.get(&ObjectRef::new(wanted).within(namespace)).is_some();
        if !cached && !wanted.is_empty() {
            engines.extend(self.asked(namespace, wanted).await?.map(Arc::new));
        }
        Ok(engines)
    }
}

impl fmt::Debug for Cached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached").field("engines", &self.store.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::{reflector, watcher};

    use super::*;

    fn cached() -> (Cached, reflector::store::Writer<DecisionEngine>) {
        let (store, writer) = reflector::store();
        // Nobody listens there: what is asked of the API server fails at once.
        let nowhere = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        (Cached::new(store, Client::try_from(nowhere).unwrap()), writer)
    }

    fn filled(writer: &mut reflector::store::Writer<DecisionEngine>, engines: &[(&str, &str)]) {
        writer.apply_watcher_event(&watcher::Event::Init);
        for (namespace, name) in engines {
            let engine = serde_json::json!({
                "apiVersion": "decree.dev/v1alpha1", "kind": "DecisionEngine",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"kafka": {"bootstrapServers": ["k:9092"]}, "agents": []}
            });
            writer.apply_watcher_event(&watcher::Event::InitApply(serde_json::from_value(engine).unwrap()));
        }
        writer.apply_watcher_event(&watcher::Event::InitDone);
    }

    #[tokio::test]
    async fn all_that_wait_for_the_list_are_answered() {
        let (cached, mut writer) = cached();
        let waiting: Vec<_> = (0..5)
            .map(|_| {
                let cached = cached.clone();
                tokio::spawn(
                    async move { cached.of_namespace("shop", "policy").await.map(|found| found.len()) },
                )
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(20)).await;
        filled(&mut writer, &[("shop", "policy"), ("elsewhere", "policy")]);
        for waits in waiting {
            assert_eq!(waits.await.unwrap().unwrap(), 1);
        }
    }

    #[tokio::test]
    async fn an_engine_that_the_cache_does_not_know_is_asked_for() {
        let (cached, mut writer) = cached();
        filled(&mut writer, &[]);
        let asked = cached.of_namespace("shop", "policy").await;
        assert!(matches!(asked, Err(Error::Unreachable(_))), "{asked:?}");
    }
}
