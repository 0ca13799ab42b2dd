//! The `caBundle` of the webhook's configuration: whom the API server trusts.

use decree_crds::labels;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

/// Sees to it that each webhook of the configuration trusts `authorities`, PEM behind PEM; says whether it had to.
///
/// # Errors
/// If the configuration can't be written.
pub async fn ensure(
    client: &Client,
    configuration: &MutatingWebhookConfiguration,
    authorities: &str,
) -> Result<bool, kube::Error> {
    let Some(patch) = wanted(configuration, authorities) else { return Ok(false) };
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    // A manager of its own that owns this one field: whoever applies the chart leaves it out, and no two fight over it.
    let params = PatchParams::apply(labels::CA_FIELD_MANAGER).force();
    api.patch(&configuration.name_any(), &params, &Patch::Apply(patch)).await?;
    Ok(true)
}

/// Whether each webhook of the configuration trusts `authority`, perhaps among others.
#[must_use]
pub fn trusts(configuration: &MutatingWebhookConfiguration, authority: &str) -> bool {
    let webhooks = configuration.webhooks.as_deref().unwrap_or_default();
    webhooks.iter().all(|webhook| {
        let bundle =
            webhook.client_config.ca_bundle.as_ref().map(|bundle| String::from_utf8_lossy(&bundle.0));
        bundle.is_some_and(|bundle| bundle.contains(authority))
    })
}

/// What to apply; none where all is as it should be.
fn wanted(configuration: &MutatingWebhookConfiguration, ca: &str) -> Option<Value> {
    let bundle = ByteString(ca.as_bytes().to_vec());
    let webhooks = configuration.webhooks.as_deref().unwrap_or_default();
    if webhooks.iter().all(|webhook| webhook.client_config.ca_bundle.as_ref() == Some(&bundle)) {
        return None;
    }
    let webhooks: Vec<_> = webhooks
        .iter()
        .map(|webhook| json!({"name": webhook.name, "clientConfig": {"caBundle": bundle}}))
        .collect();
    Some(json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": configuration.name_any()},
        "webhooks": webhooks,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(bundle: Option<&str>) -> MutatingWebhookConfiguration {
        let mut one = json!({
            "name": "inject.decree.dev", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": {"name": "s", "namespace": "n"}}
        });
        if let Some(bundle) = bundle {
            one["clientConfig"]["caBundle"] = json!(ByteString(bundle.as_bytes().to_vec()));
        }
        serde_json::from_value(json!({"metadata": {"name": "decree"}, "webhooks": [one]})).unwrap()
    }

    #[test]
    fn one_authority_among_others_is_trusted() {
        assert!(trusts(&configuration(Some("oursnext")), "next"));
        assert!(!trusts(&configuration(Some("ours")), "next"));
        assert!(!trusts(&configuration(None), "ours"));
    }

    #[test]
    fn a_bundle_that_is_missing_or_foreign_is_repaired_and_nothing_else_is_owned() {
        assert_eq!(wanted(&configuration(Some("ours")), "ours"), None);
        for found in [None, Some("theirs")] {
            let patch = wanted(&configuration(found), "ours").unwrap();
            let webhook = patch["webhooks"][0].as_object().unwrap();
            assert_eq!(webhook.keys().collect::<Vec<_>>(), ["clientConfig", "name"]);
            assert_eq!(webhook["clientConfig"], json!({"caBundle": "b3Vycw=="}));
        }
    }
}
