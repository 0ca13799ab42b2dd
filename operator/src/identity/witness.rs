//! Which agent a token belongs to: a port, the API server behind it, and what is made of its answers.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use decree_crds::labels;
use decree_wire::identity::Peer;
use decree_wire::issuance::AUDIENCE;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::care::pods;
use crate::cluster;

/// For each question to the API server.
const LIMIT: Duration = Duration::from_secs(3);
/// Kubernetes' own: whose token it is, in what TokenReview answers.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
/// Kubernetes' own: the same.
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
/// What the name of a service account begins with.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// Why a token gets no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The API server does not know it.
    #[error("the token is not good: {0}")]
    Unauthenticated(String),
    /// It was made for another service.
    #[error("the token is not for the audience {AUDIENCE}")]
    OtherAudience,
    /// It belongs to no pod.
    #[error("the token is bound to no pod: use the one that is projected into the sidecar's")]
    Unbound,
    /// The pod is gone, or the name is another pod's now.
    #[error("pod {0} with uid {1} is gone")]
    Gone(String, String),
    /// The pod is going away.
    #[error("pod {0} is ending")]
    Ending(String),
    /// It is a pod like any other.
    #[error("pod {0} is no agent: it lacks the label {label} or the sidecar", label = labels::ENGINE)]
    NoAgent(String),
    /// Nobody knows.
    #[error("ask the API server about the token: {0}")]
    Unknown(String),
}

impl Refusal {
    /// One word for metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unauthenticated(_) => "Unauthenticated",
            Self::OtherAudience => "OtherAudience",
            Self::Unbound => "Unbound",
            Self::Gone(..) => "PodGone",
            Self::Ending(_) => "PodEnding",
            Self::NoAgent(_) => "NoAgent",
            Self::Unknown(_) => "Unknown",
        }
    }
}

/// Says whose a token is.
#[async_trait]
pub trait Witness: Send + Sync + fmt::Debug {
    /// The agent. MUST be one whose pod exists now, is not ending and is bound to the token; MUST NOT answer from memory.
    /// MUST answer within seconds.
    async fn agent(&self, token: &str) -> Result<Peer, Refusal>;
}

/// The API server.
pub struct Cluster {
    client: Client,
    uid: OnceCell<String>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("uid", &self.uid).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Over this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, uid: OnceCell::new() }
    }
}

#[async_trait]
impl Witness for Cluster {
    async fn agent(&self, token: &str) -> Result<Peer, Refusal> {
        let spec =
            TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![AUDIENCE.to_owned()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let api = Api::<TokenReview>::all(self.client.clone());
        let reviewed = asked(api.create(&PostParams::default(), &review)).await?;
        let bearer = bearer(&reviewed.status.unwrap_or_default())?;
        let pods = Api::<Pod>::namespaced(self.client.clone(), &bearer.namespace);
        let pod = asked(pods.get_opt(&bearer.pod)).await?;
        let cluster = asked(self.uid.get_or_try_init(|| cluster::uid(&self.client))).await?;
        agent(cluster, bearer, pod.as_ref())
    }
}

async fn asked<T>(question: impl Future<Output = kube::Result<T>>) -> Result<T, Refusal> {
    let answer = timeout(LIMIT, question).await;
    let answer = answer.map_err(|_| Refusal::Unknown(format!("no answer within {LIMIT:?}")))?;
    answer.map_err(|error| Refusal::Unknown(error.to_string()))
}

/// Whose a token is, as the API server says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bearer {
    namespace: String,
    pod: String,
    uid: String,
}

fn bearer(status: &TokenReviewStatus) -> Result<Bearer, Refusal> {
    if status.authenticated != Some(true) {
        let why = status.error.clone().filter(|why| !why.is_empty());
        return Err(Refusal::Unauthenticated(why.unwrap_or_else(|| "nobody knows it".to_owned())));
    }
    // An API server that knows no audiences takes any token, and names none.
    if !status.audiences.iter().flatten().any(|audience| audience == AUDIENCE) {
        return Err(Refusal::OtherAudience);
    }
    let user = status.user.as_ref();
    let extra = |key: &str| user?.extra.as_ref()?.get(key)?.first().cloned();
    let account =
        user.and_then(|user| user.username.as_deref()?.strip_prefix(SERVICE_ACCOUNT)?.split_once(':'));
    let bearer =
        || Some(Bearer { namespace: account?.0.to_owned(), pod: extra(POD_NAME)?, uid: extra(POD_UID)? });
    bearer().ok_or(Refusal::Unbound)
}

fn agent(cluster: &str, bearer: Bearer, pod: Option<&Pod>) -> Result<Peer, Refusal> {
    let Bearer { namespace, pod: name, uid } = bearer;
    let told = format!("{namespace}/{name}");
    let Some(pod) = pod.filter(|pod| pod.uid().as_ref() == Some(&uid) && !pods::has_ended(pod)) else {
        return Err(Refusal::Gone(told, uid));
    };
    if pods::is_ending(pod) {
        return Err(Refusal::Ending(told));
    }
    let engine = pod.labels().get(labels::ENGINE).filter(|_| pods::is_injected(pod));
    let engine = engine.cloned().ok_or(Refusal::NoAgent(told))?;
    Ok(Peer { cluster: cluster.to_owned(), namespace, engine, pod: name, uid })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::care::pods::example;

    fn status() -> Value {
        json!({
            "authenticated": true, "audiences": [AUDIENCE],
            "user": {
                "username": "system:serviceaccount:shop:default",
                "extra": {POD_NAME: ["opa-0"], POD_UID: ["uid-opa-0"]},
            },
        })
    }

    fn read(status: Value) -> Result<Bearer, Refusal> {
        bearer(&serde_json::from_value(status).unwrap())
    }

    #[test]
    fn a_token_must_be_good_for_us_and_bound_to_a_pod() {
        let whole = Bearer { namespace: "shop".into(), pod: "opa-0".into(), uid: "uid-opa-0".into() };
        assert_eq!(read(status()).unwrap(), whole);
        let without = |change: &dyn Fn(&mut Value)| {
            let mut status = status();
            change(&mut status);
            read(status).unwrap_err().reason()
        };
        assert_eq!(without(&|status| status["authenticated"] = json!(false)), "Unauthenticated");
        assert_eq!(without(&|status| status["authenticated"] = Value::Null), "Unauthenticated");
        assert_eq!(without(&|status| status["audiences"] = json!(["kubernetes"])), "OtherAudience");
        assert_eq!(without(&|status| status["audiences"] = Value::Null), "OtherAudience");
        assert_eq!(without(&|status| status["user"]["extra"] = Value::Null), "Unbound");
        assert_eq!(without(&|status| status["user"]["extra"][POD_UID] = json!([])), "Unbound");
        assert_eq!(without(&|status| status["user"]["username"] = json!("admin")), "Unbound");
    }

    #[test]
    fn a_pod_must_be_there_and_be_an_agent() {
        let told = |pod: Option<&Pod>| agent("c-1", read(status()).unwrap(), pod);
        let pod = example("opa-0", true);
        assert_eq!(told(Some(&pod)).unwrap().to_string(), "decree://c-1/shop/policy/opa-0/uid-opa-0");
        let refused = |change: &dyn Fn(&mut Pod)| {
            let mut pod = pod.clone();
            change(&mut pod);
            told(Some(&pod)).unwrap_err().reason()
        };
        assert_eq!(told(None).unwrap_err().reason(), "PodGone");
        assert_eq!(refused(&|pod| pod.metadata.uid = Some("the next one".into())), "PodGone");
        assert_eq!(refused(&|pod| pod.status.as_mut().unwrap().phase = Some("Failed".into())), "PodGone");
        assert_eq!(refused(&|pod| pod.spec.as_mut().unwrap().init_containers = None), "NoAgent");
        assert_eq!(refused(&|pod| pod.metadata.labels = None), "NoAgent");
        let now =
            k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(refused(&|pod| pod.metadata.deletion_timestamp = Some(now.clone())), "PodEnding");
    }
}
