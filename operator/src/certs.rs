//! The webhook's certificates: made once, renewed in time, served without a restart, and trusted by the API server.
//!
//! ```text
//!  Secret ─▶ plan ─▶ authority ─▶ Secret ─▶ tls ─▶ the webhook's listener
//!                                    └────▶ bundle ─▶ MutatingWebhookConfiguration
//! ```

pub mod authority;
pub mod bundle;
pub mod plan;
pub mod secret;
pub mod tls;

use std::error::Error as _;
use std::fmt;
use std::time::{Duration, SystemTime};

use axum_server::tls_rustls::RustlsConfig;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::health::Gate;
use authority::Material;
use plan::Plan;

/// How often everything is looked at again: a bundle that somebody removed is back after so long.
const EVERY: Duration = Duration::from_secs(15);
/// How soon after a failure.
const RETRY: Duration = Duration::from_secs(2);
/// For one look: the client itself repeats requests for much longer.
const LIMIT: Duration = Duration::from_secs(15);

/// Where things are.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Config {
    /// The operator's own namespace.
    #[arg(long, env = "DECREE_OPERATOR_NAMESPACE", default_value = "decree")]
    pub operator_namespace: String,
    /// The Service by which the API server reaches the webhook.
    #[arg(long, env = "DECREE_WEBHOOK_SERVICE", default_value = "decree-webhook")]
    pub webhook_service: String,
    /// The Secret for the webhook's certificates; the chart makes it, empty.
    #[arg(long, env = "DECREE_WEBHOOK_SECRET", default_value = "decree-webhook-tls")]
    pub webhook_secret: String,
    /// The webhook's MutatingWebhookConfiguration.
    #[arg(long, env = "DECREE_WEBHOOK_CONFIGURATION", default_value = "decree")]
    pub webhook_configuration: String,
}

impl Config {
    /// What the API server calls the webhook.
    fn names(&self) -> Vec<String> {
        let name = format!("{}.{}.svc", self.webhook_service, self.operator_namespace);
        vec![name.clone(), format!("{name}.cluster.local")]
    }
}

/// Why the certificates aren't as they should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Secret isn't there, or can't be written.
    #[error("keep the webhook's certificates in the Secret {0}")]
    Secret(String, #[source] kube::Error),
    /// The configuration isn't there, or can't be written.
    #[error("set the caBundle of the MutatingWebhookConfiguration {0}")]
    Bundle(String, #[source] kube::Error),
    /// No certificate could be made.
    #[error(transparent)]
    Authority(#[from] authority::Error),
    /// The certificate can't be served.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The API server did not answer.
    #[error("keep the webhook's certificates: no answer within {LIMIT:?}")]
    TooSlow,
}

/// Keeps the certificates of one webhook.
#[derive(Clone)]
pub struct Keeper {
    client: Client,
    config: Config,
    names: Vec<String>,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Keeper {
    /// Nothing happens yet.
    #[must_use]
    pub fn new(client: Client, config: Config) -> Self {
        let names = config.names();
        Self { client, config, names }
    }

    /// What the webhook serves at first, made if need be; none if `stop` came before there was any.
    pub async fn begin(&self, stop: &CancellationToken) -> Option<RustlsConfig> {
        loop {
            match self.looked_at().await {
                Ok(material) => match tls::server(&material) {
                    Ok(server) => return Some(RustlsConfig::from_config(server)),
                    Err(error) => report(&error.into()),
                },
                Err(error) => report(&error),
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                () = sleep(RETRY) => {}
            }
        }
    }

    /// Looks again and again until `stop`; opens `gate` when the API server trusts what is served.
    pub async fn run(self, serving: RustlsConfig, gate: Gate, stop: CancellationToken) {
        let mut served = None;
        loop {
            let pause = match self.keep(&serving, &mut served).await {
                Ok(()) => {
                    gate.open();
                    EVERY
                }
                Err(error) => {
                    report(&error);
                    RETRY
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
            }
        }
    }

    async fn keep(&self, serving: &RustlsConfig, served: &mut Option<Material>) -> Result<(), Error> {
        let material = self.looked_at().await?;
        if served.as_ref() != Some(&material) {
            serving.reload_from_config(tls::server(&material)?);
        }
        let name = &self.config.webhook_configuration;
        let ensured = timeout(LIMIT, bundle::ensure(&self.client, name, &material.ca)).await;
        if ensured.map_err(|_| Error::TooSlow)?.map_err(|source| Error::Bundle(name.clone(), source))? {
            tracing::info!(configuration = %name, "set the caBundle");
        }
        *served = Some(material);
        Ok(())
    }

    async fn looked_at(&self) -> Result<Material, Error> {
        timeout(LIMIT, self.provided()).await.map_err(|_| Error::TooSlow)?
    }

    /// What the Secret holds, after what the plan asks for has been done.
    async fn provided(&self) -> Result<Material, Error> {
        let name = &self.config.webhook_secret;
        let failed = |source| Error::Secret(name.clone(), source);
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.config.operator_namespace);
        loop {
            let stored = api.get(name).await.map_err(failed)?;
            let found = secret::read(&stored);
            let now = SystemTime::now();
            let material = match (plan::plan(found.as_ref(), &self.names, now), found) {
                (Plan::Keep, Some(material)) => return Ok(material),
                (Plan::Renew(why), Some(old)) => {
                    tracing::info!(why, "renewing the webhook's certificate");
                    authority::renew(&old, &self.names, now)?
                }
                (plan, _) => {
                    tracing::info!(?plan, "founding the webhook's certificate authority");
                    authority::found(&self.names, now)?
                }
            };
            match api.replace(name, &PostParams::default(), &secret::filled(stored, &material)).await {
                Ok(_) => return Ok(material),
                // Another operator was faster: what it made is as good.
                Err(kube::Error::Api(status)) if status.is_conflict() => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

fn report(error: &Error) {
    let cause = error.source().map(ToString::to_string);
    tracing::warn!(%error, cause, "the webhook's certificates aren't as they should be");
}
