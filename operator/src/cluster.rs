//! Which cluster this is.

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt};

/// The uid of the `kube-system` namespace: the nearest thing to a name that a cluster has.
///
/// # Errors
/// If the API server does not say.
pub async fn uid(client: &Client) -> Result<String, kube::Error> {
    let system = Api::<Namespace>::all(client.clone()).get("kube-system").await?;
    Ok(system.uid().unwrap_or_default())
}
