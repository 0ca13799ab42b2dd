//! The webhook's certificates: made once, renewed in time, served without a restart, and trusted by the API server.
//!
//! ```text
//!  custody: Secret ─▶ plan ─▶ authority ─▶ Secret ─▶ tls ─▶ the webhook's listener
//!                                             └────▶ bundle ─▶ MutatingWebhookConfiguration
//! ```

pub mod authority;
pub mod bundle;
pub mod custody;
pub mod plan;
pub mod profile;
pub mod secret;
pub mod tls;

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum_server::tls_rustls::RustlsConfig;
use futures::StreamExt;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watch_object};
use kube::{Api, Client};
use rustls::ServerConfig;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::health::Gate;
use crate::lease::Leads;
use authority::Material;
use custody::{Custody, LIMIT};
use profile::Profile;

/// How often it is asked what time has made due; that asks nobody.
const EVERY: Duration = Duration::from_secs(5);
/// How soon after a failure.
const RETRY: Duration = Duration::from_secs(2);
/// A Secret that can't be watched for so long may hold what this operator does not serve.
const BLIND: Duration = Duration::from_secs(60);

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
    /// The Secret for the authority of sidecars' certificates; the chart makes it, empty.
    #[arg(long, env = "DECREE_PEERS_SECRET", default_value = "decree-peers")]
    pub peers_secret: String,
    /// The webhook's MutatingWebhookConfiguration.
    #[arg(long, env = "DECREE_WEBHOOK_CONFIGURATION", default_value = "decree")]
    pub webhook_configuration: String,
}

impl Config {
    /// `host:port` by which sidecars reach it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}.{}.svc:443", self.webhook_service, self.operator_namespace)
    }

    /// What the API server calls the webhook.
    fn names(&self) -> Vec<String> {
        let name = format!("{}.{}.svc", self.webhook_service, self.operator_namespace);
        vec![name.clone(), format!("{name}.cluster.local")]
    }
}

/// Why the certificates aren't as they should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Secret does not hold them.
    #[error(transparent)]
    Custody(#[from] custody::Error),
    /// The configuration isn't there, or can't be written.
    #[error("set the caBundle of the MutatingWebhookConfiguration {0}")]
    Bundle(String, #[source] kube::Error),
    /// The configuration isn't there.
    #[error(
        "set the caBundle of the MutatingWebhookConfiguration {0}: there is none; install the chart again"
    )]
    NoConfiguration(String),
    /// The certificate can't be served.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The API server did not answer.
    #[error("set the caBundle of the MutatingWebhookConfiguration {0}: no answer within {LIMIT:?}")]
    TooSlow(String),
}

/// Keeps the certificates of one webhook: all operators serve them, the one that leads makes them.
#[derive(Clone)]
pub struct Keeper {
    client: Client,
    config: Config,
    custody: Custody,
    leads: Leads,
    gate: Gate,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("config", &self.config).finish_non_exhaustive()
    }
}

/// What was seen last.
#[derive(Default)]
struct Seen {
    secret: Option<Secret>,
    configuration: Option<MutatingWebhookConfiguration>,
    /// Since when the Secret's watch is broken.
    blind: Option<Instant>,
    served: Option<Material>,
    /// All that is to be trusted, and since when it is.
    trusted: Option<(String, Instant)>,
}

impl Keeper {
    /// Nothing happens yet. `gate` opens when the API server can use the webhook.
    #[must_use]
    pub fn new(client: Client, config: Config, leads: Leads, gate: Gate) -> Self {
        let (namespace, name) = (config.operator_namespace.clone(), config.webhook_secret.clone());
        let profile = Profile::webhook(config.names());
        let custody = Custody::new(client.clone(), namespace, name, profile, leads.clone());
        Self { client, config, custody, leads, gate }
    }

    /// What the webhook serves at first, made if need be; none if `stop` came before there was any.
    pub async fn begin(&self, stop: &CancellationToken) -> Option<RustlsConfig> {
        loop {
            match self.first().await {
                Ok(Some(server)) => return Some(RustlsConfig::from_config(server)),
                Ok(None) => {}
                Err(error) => report(&error),
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                () = sleep(RETRY) => {}
            }
        }
    }

    async fn first(&self) -> Result<Option<Arc<ServerConfig>>, Error> {
        let stored = self.custody.stored().await?;
        let material = self.custody.provided(stored, None, None).await?;
        Ok(material.map(|material| tls::server(&material)).transpose()?)
    }

    /// Serves what the Secret holds until `stop`.
    pub async fn run(self, serving: RustlsConfig, stop: CancellationToken) {
        let mut secrets = watch_object(self.custody.secrets(), self.custody.name()).default_backoff().boxed();
        let all: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let mut configurations =
            watch_object(all, &self.config.webhook_configuration).default_backoff().boxed();
        let mut seen = Seen::default();
        let mut pause = EVERY;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(secret) = secrets.next() => seen.take_secret(secret),
                Some(configuration) = configurations.next() => match configuration {
                    Ok(configuration) => seen.configuration = configuration,
                    Err(error) => tracing::warn!(%error, "can't watch the webhook's configuration"),
                },
                () = sleep(pause) => {}
            }
            pause = match self.keep(&serving, &mut seen).await {
                Ok(()) => EVERY,
                Err(error) => {
                    report(&error);
                    RETRY
                }
            };
            seen.judge(&self.gate);
        }
    }

    async fn keep(&self, serving: &RustlsConfig, seen: &mut Seen) -> Result<(), Error> {
        let Some(secret) = seen.secret.clone() else { return Ok(()) };
        let trusted = seen.trusted.as_ref().map(|(_, since)| since.elapsed());
        let Some(material) = self.custody.provided(secret, seen.served.as_ref(), trusted).await? else {
            return Ok(());
        };
        if seen.served.as_ref() != Some(&material) {
            serving.reload_from_config(tls::server(&material)?);
            seen.served = Some(material.clone());
        }
        let name = &self.config.webhook_configuration;
        let Some(configuration) = &seen.configuration else {
            return Err(Error::NoConfiguration(name.clone()));
        };
        if self.leads.now() {
            let authorities = material.trusted();
            let ensured = timeout(LIMIT, bundle::ensure(&self.client, configuration, &authorities));
            let ensured = ensured.await.map_err(|_| Error::TooSlow(name.clone()))?;
            if ensured.map_err(|source| Error::Bundle(name.clone(), source))? {
                tracing::info!(configuration = %name, "set the caBundle");
            }
        }
        seen.note_trust(&material);
        Ok(())
    }
}

impl Seen {
    fn take_secret(&mut self, secret: Result<Option<Secret>, watcher::Error>) {
        match secret {
            Ok(secret) => {
                self.secret = secret;
                self.blind = None;
            }
            Err(error) => {
                self.blind.get_or_insert_with(Instant::now);
                tracing::warn!(%error, "can't watch the webhook's certificates");
            }
        }
    }

    /// Since when the bundle holds all that this material asks for.
    fn note_trust(&mut self, material: &Material) {
        let wanted = material.trusted();
        let holds = self.configuration.as_ref().is_some_and(|found| bundle::trusts(found, &wanted));
        self.trusted = match self.trusted.take() {
            _ if !holds => None,
            Some((trusted, since)) if trusted == wanted => Some((trusted, since)),
            Some(_) | None => Some((wanted, Instant::now())),
        };
    }

    /// Ready is who serves what the API server trusts, and would learn of it if that changed.
    fn judge(&self, gate: &Gate) {
        let sees = self.blind.is_none_or(|since| since.elapsed() < BLIND);
        let trusted = self.served.as_ref().zip(self.configuration.as_ref());
        match trusted.is_some_and(|(served, found)| bundle::trusts(found, &served.ca)) {
            true if sees => gate.open(),
            // A bundle that somebody removed is back in a moment, and no other operator would do better meanwhile.
            _ if sees => {}
            _ => gate.close(),
        }
    }
}

fn report(error: &Error) {
    let cause = error.source().map(ToString::to_string);
    tracing::warn!(%error, cause, "the webhook's certificates aren't as they should be");
}
