//! Evictions, and what is asked of the API server before one: as it stands now, and once, so that a refusal is an answer.

use std::sync::Arc;
use std::time::Duration;

use decree_crds::labels;
use decree_wire::position::EngineName;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, Config};
use serde_json::{Value, json};

/// For one request.
const LIMIT: Duration = Duration::from_secs(10);
/// The engine that the dry run of a pod names; nobody's.
const NOBODY: &str = "decree-injection-check";

/// Asks the API server. Its client does not try again by itself: 429 is how a budget says no.
#[derive(Clone)]
pub struct Evictor {
    client: Client,
    /// The operator's own namespace.
    namespace: String,
}

/// Why a pod was not evicted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A PodDisruptionBudget says no, for now.
    #[error("a PodDisruptionBudget does not allow its eviction now: {0}")]
    Budget(String),
    /// It is not there any more, or not the one that was meant.
    #[error("it is gone")]
    Gone,
    /// The API server said no for another reason.
    #[error("its eviction failed: {0}")]
    Api(#[source] Box<kube::Error>),
    /// The API server said nothing.
    #[error("its eviction failed: no answer from the API server within {LIMIT:?}")]
    Late,
}

impl std::fmt::Debug for Evictor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evictor").finish_non_exhaustive()
    }
}

impl Evictor {
    /// With a client of its own.
    ///
    /// # Errors
    /// If there is no kubeconfig and no service account.
    pub async fn new(namespace: String) -> Result<Self, kube::Error> {
        let mut config = Config::infer().await.map_err(kube::Error::InferConfig)?;
        config.default_retry = false;
        Ok(Self { client: Client::try_from(config)?, namespace })
    }

    /// The engine's pods as they are now: a watch may be behind the last eviction.
    ///
    /// # Errors
    /// If the API server does not answer.
    pub async fn pods(&self, engine: &EngineName) -> Result<Vec<Arc<Pod>>, Error> {
        let api = Api::<Pod>::namespaced(self.client.clone(), &engine.namespace);
        let of_engine = ListParams::default().labels(&format!("{}={}", labels::ENGINE, engine.name));
        let list = limited(api.list(&of_engine)).await?;
        Ok(list.items.into_iter().map(Arc::new).collect())
    }

    /// Evicts this pod and no other of its name.
    ///
    /// # Errors
    /// If it was not evicted.
    pub async fn evict(&self, namespace: &str, pod: &str, uid: &str) -> Result<(), Error> {
        let api = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let eviction = json!({
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        });
        let parameters = PostParams::default();
        limited(api.create_subresource::<Value, Value>("eviction", pod, &parameters, &eviction))
            .await
            .map(drop)
    }

    /// Whether a labelled pod that is created now comes to the webhook. Shown by one that it refuses, as its engine does
    /// not exist: a dry run in the operator's own namespace, so that it needs the right to create pods nowhere else.
    ///
    /// # Errors
    /// If it does not, or nobody can say, in words for a person.
    pub async fn injects(&self) -> Result<(), String> {
        let api = Api::<Pod>::namespaced(self.client.clone(), &self.namespace);
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": NOBODY, "labels": {labels::ENGINE: NOBODY}},
            "spec": {"containers": [{"name": "none", "image": "none"}]},
        });
        let pod: Pod = serde_json::from_value(pod).map_err(|error| format!("write a pod: {error}"))?;
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        match tokio::time::timeout(LIMIT, api.create(&dry_run, &pod)).await {
            Err(_) => Err(format!("no answer from the API server within {LIMIT:?}")),
            Ok(Ok(_)) => Err("the API server creates labelled pods without asking the webhook; see the \
                              MutatingWebhookConfiguration of the operator's chart"
                .to_owned()),
            Ok(Err(kube::Error::Api(status))) if status.message.contains("no DecisionEngine named") => Ok(()),
            Ok(Err(error)) => Err(format!("a dry run of a labelled pod ended with: {error}")),
        }
    }
}

async fn limited<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    match tokio::time::timeout(LIMIT, request).await {
        Err(_) => Err(Error::Late),
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) if status.code == 429 => Err(Error::Budget(status.message.clone())),
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Err(Error::Gone),
        Ok(Err(error)) => Err(Error::Api(Box::new(error))),
    }
}
