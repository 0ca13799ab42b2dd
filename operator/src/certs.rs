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
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum_server::tls_rustls::RustlsConfig;
use futures::StreamExt;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watch_object};
use kube::{Api, Client};
use rustls::ServerConfig;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::health::Gate;
use crate::lease::Leads;
use authority::Material;
use plan::{Circumstances, Plan};

/// How often it is asked what time has made due; that asks nobody.
const EVERY: Duration = Duration::from_secs(5);
/// How soon after a failure.
const RETRY: Duration = Duration::from_secs(2);
/// For one look: the client itself repeats requests for much longer.
const LIMIT: Duration = Duration::from_secs(15);
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
    /// The configuration isn't there.
    #[error(
        "set the caBundle of the MutatingWebhookConfiguration {0}: there is none; install the chart again"
    )]
    NoConfiguration(String),
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

/// Keeps the certificates of one webhook: all operators serve them, the one that leads makes them.
#[derive(Clone)]
pub struct Keeper {
    client: Client,
    config: Config,
    names: Vec<String>,
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
        let names = config.names();
        Self { client, config, names, leads, gate }
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
        let name = &self.config.webhook_secret;
        let found = timeout(LIMIT, self.secrets().get(name)).await.map_err(|_| Error::TooSlow)?;
        let found = found.map_err(|source| Error::Secret(name.clone(), source))?;
        let material = self.provided(found, None, None).await?;
        Ok(material.map(|material| tls::server(&material)).transpose()?)
    }

    /// Serves what the Secret holds until `stop`.
    pub async fn run(self, serving: RustlsConfig, stop: CancellationToken) {
        let mut secrets = watch_object(self.secrets(), &self.config.webhook_secret).default_backoff().boxed();
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
        let Some(material) = self.provided(secret, seen.served.as_ref(), trusted).await? else {
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
            let ensured = ensured.await.map_err(|_| Error::TooSlow)?;
            if ensured.map_err(|source| Error::Bundle(name.clone(), source))? {
                tracing::info!(configuration = %name, "set the caBundle");
            }
        }
        seen.note_trust(&material);
        Ok(())
    }

    /// What the Secret holds, after the one that leads has done what the plan asks for.
    async fn provided(
        &self,
        stored: Secret,
        served: Option<&Material>,
        trusted: Option<Duration>,
    ) -> Result<Option<Material>, Error> {
        // A Secret that somebody emptied is filled again with what is served: that is trusted.
        let read = secret::read(&stored);
        let emptied = read.is_none();
        let Some(found) = read.or_else(|| served.cloned()) else {
            return if self.leads.now() {
                self.written(stored, self.made(None, &Plan::Found("there is none"))?).await
            } else {
                Ok(None)
            };
        };
        if !self.leads.now() {
            return Ok(Some(found));
        }
        let now = SystemTime::now();
        let asked = secret::asks(&stored);
        let plan = plan::plan(Some(&found), &Circumstances { names: &self.names, asked, trusted, now });
        match plan {
            Plan::Keep if emptied => self.written(stored, found).await,
            Plan::Keep => Ok(Some(found)),
            plan => self.written(stored, self.made(Some(&found), &plan)?).await,
        }
    }

    fn made(&self, old: Option<&Material>, plan: &Plan) -> Result<Material, Error> {
        tracing::info!(?plan, "the webhook's certificates");
        Ok(plan.carried_out(old, &self.names, SystemTime::now())?)
    }

    /// The material, if it is in the Secret now.
    async fn written(&self, stored: Secret, material: Material) -> Result<Option<Material>, Error> {
        let name = &self.config.webhook_secret;
        let (api, filled) = (self.secrets(), secret::filled(stored, &material));
        let parameters = PostParams::default();
        let replaced = timeout(LIMIT, api.replace(name, &parameters, &filled));
        match replaced.await.map_err(|_| Error::TooSlow)? {
            Ok(_) => Ok(Some(material)),
            // Somebody else wrote it meanwhile: the watch is about to tell.
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(None),
            Err(error) => Err(Error::Secret(name.clone(), error)),
        }
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.config.operator_namespace)
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
