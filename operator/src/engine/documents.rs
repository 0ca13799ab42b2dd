//! The Secrets with engines' documents as they were last read: the operator alone writes them, so at rest nobody asks for
//! them. To watch even its own Secrets it would need the right to list everybody's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use decree_crds::labels;
use decree_wire::position::EngineName;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, Client};

use crate::care::pods;

/// What was read is believed for so long. Who runs has what it needs of it already.
const BELIEVED: Duration = Duration::from_secs(900);
/// And for so long while a pod is not ready, which may need it to start.
const NEEDED: Duration = Duration::from_secs(10);

/// What was read lately.
#[derive(Debug, Default)]
pub struct Documents {
    read: Mutex<HashMap<EngineName, (Instant, Secret)>>,
}

impl Documents {
    /// The object that has the name of the engine's Secret, whoever made it; `needed` where a pod waits for it.
    ///
    /// # Errors
    /// If the API server does not say whether there is one.
    pub async fn of(
        &self,
        client: &Client,
        name: &EngineName,
        needed: bool,
        now: Instant,
    ) -> Result<Option<Secret>, kube::Error> {
        if let Some(secret) = self.remembered(name, needed, now) {
            return Ok(Some(secret));
        }
        let api = Api::<Secret>::namespaced(client.clone(), &name.namespace);
        let mut secret = api.get_opt(&labels::document_secret(&name.name)).await?;
        if let Some(secret) = &mut secret {
            secret.metadata.managed_fields = None;
            self.all().insert(name.clone(), (now, secret.clone()));
        } else {
            self.forget(name);
        }
        Ok(secret)
    }

    /// It was written, or may be another one: it is read again before it is needed again.
    pub fn forget(&self, name: &EngineName) {
        self.all().remove(name);
    }

    fn remembered(&self, name: &EngineName, needed: bool, now: Instant) -> Option<Secret> {
        let believed = if needed { NEEDED } else { BELIEVED };
        let all = self.all();
        let (at, secret) = all.get(name)?;
        (now.saturating_duration_since(*at) < believed).then(|| secret.clone())
    }

    fn all(&self) -> MutexGuard<'_, HashMap<EngineName, (Instant, Secret)>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a pod may be about to mount the Secret: it is there to stay, and not ready. One that starts is; and so is one
/// that runs on a node that lost its power, which mounts all anew.
#[must_use]
pub fn is_needed(pods: &[Arc<Pod>]) -> bool {
    let waits = |pod: &Arc<Pod>| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let ended = matches!(phase, Some("Succeeded" | "Failed"));
        pod.metadata.deletion_timestamp.is_none() && !ended && !pods::is_ready(pod)
    };
    pods.iter().any(waits)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Json;
    use serde_json::json;

    use super::*;
    use crate::care::pods::example;

    /// An API server that has one Secret, and how often it was asked for it.
    async fn api_server() -> (Client, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let secret = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            let metadata = json!({"name": "decree-policy", "uid": "one"});
            std::future::ready(Json(json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})))
        };
        let app = axum::Router::new()
            .route("/api/v1/namespaces/shop/secrets/decree-policy", axum::routing::get(secret));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        let config = kube::Config::new(format!("http://{address}").parse().unwrap());
        (Client::try_from(config).unwrap(), asked)
    }

    #[tokio::test]
    async fn at_rest_it_is_hardly_ever_asked_for_and_soon_where_a_pod_waits_or_it_was_written() {
        let (client, asked) = api_server().await;
        let (documents, start) = (Documents::default(), Instant::now());
        let name = EngineName { namespace: "shop".into(), name: "policy".into() };
        let look = async |needed: bool, second: u64| {
            let secret = documents.of(&client, &name, needed, start + Duration::from_secs(second)).await;
            assert_eq!(secret.unwrap().unwrap().metadata.uid.as_deref(), Some("one"));
            asked.load(Ordering::Relaxed)
        };
        let mut times = 0;
        for minute in 0..60 {
            times = look(false, minute * 60).await;
        }
        assert_eq!(times, 4, "in an hour of a look a minute");
        assert_eq!(look(true, 3600).await, 5);
        assert_eq!(look(true, 3609).await, 5);
        assert_eq!(look(true, 3610).await, 6);
        documents.forget(&name);
        assert_eq!(look(false, 3611).await, 7);
    }

    #[test]
    fn who_runs_has_it_and_who_starts_needs_it() {
        let mut ended = example("a", false);
        ended.status.as_mut().unwrap().phase = Some("Succeeded".into());
        assert!(!is_needed(&[Arc::new(example("b", true)), Arc::new(ended)]));
        let mut starting = example("c", false);
        assert!(is_needed(&[Arc::new(example("b", true)), Arc::new(starting.clone())]));
        starting.status = None;
        assert!(is_needed(&[Arc::new(starting)]));
    }
}
