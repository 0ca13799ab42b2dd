//! An authority in its Secret: the operators of one cluster share it there, and the one that leads makes what is due.

use std::fmt;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::timeout;

use super::authority::{self, Material};
use super::plan::{self, Circumstances, Plan};
use super::profile::Profile;
use super::secret;
use crate::lease::Leads;

/// For one look: the client itself repeats requests for much longer.
pub const LIMIT: Duration = Duration::from_secs(15);

/// Why the Secret does not hold what it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Secret isn't there, or can't be written.
    #[error("keep certificates in the Secret {0}")]
    Secret(String, #[source] kube::Error),
    /// No certificate could be made.
    #[error(transparent)]
    Authority(#[from] authority::Error),
    /// The API server did not answer.
    #[error("keep certificates in the Secret {0}: no answer within {LIMIT:?}")]
    TooSlow(String),
}

/// Keeps one authority.
#[derive(Clone)]
pub struct Custody {
    client: Client,
    namespace: String,
    name: String,
    profile: Profile,
    leads: Leads,
}

impl fmt::Debug for Custody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Custody")
            .field("name", &self.name)
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

impl Custody {
    /// Of the Secret `name`, which somebody else has made.
    #[must_use]
    pub fn new(client: Client, namespace: String, name: String, profile: Profile, leads: Leads) -> Self {
        Self { client, namespace, name, profile, leads }
    }

    /// The Secrets among which this one is.
    #[must_use]
    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The Secret as it is now.
    ///
    /// # Errors
    /// If it isn't there, or nobody says.
    pub async fn stored(&self) -> Result<Secret, Error> {
        let found = timeout(LIMIT, self.secrets().get(&self.name)).await;
        let found = found.map_err(|_| Error::TooSlow(self.name.clone()))?;
        found.map_err(|source| Error::Secret(self.name.clone(), source))
    }

    /// What the Secret holds, after the one that leads has done what the plan asks for; none where another is about to.
    /// `used` is what was held before, and `trusted` for how long all that is to be trusted has been.
    ///
    /// # Errors
    /// If nothing could be made or written.
    pub async fn provided(
        &self,
        stored: Secret,
        used: Option<&Material>,
        trusted: Option<Duration>,
    ) -> Result<Option<Material>, Error> {
        // A Secret that somebody emptied is filled again with what is used: that is trusted.
        let read = secret::read(&stored);
        let emptied = read.is_none();
        let Some(found) = read.or_else(|| used.cloned()) else {
            return if self.leads.now() {
                self.written(stored, self.made(None, &Plan::Found("there is none"))?).await
            } else {
                Ok(None)
            };
        };
        if !self.leads.now() {
            return Ok(Some(found));
        }
        let (now, asked) = (SystemTime::now(), secret::asks(&stored));
        let circumstances = Circumstances { profile: &self.profile, asked, trusted, now };
        match plan::plan(Some(&found), &circumstances) {
            Plan::Keep if emptied => self.written(stored, found).await,
            Plan::Keep => Ok(Some(found)),
            plan => self.written(stored, self.made(Some(&found), &plan)?).await,
        }
    }

    fn made(&self, old: Option<&Material>, plan: &Plan) -> Result<Material, Error> {
        tracing::info!(secret = self.name, ?plan, "certificates");
        Ok(plan.carried_out(old, &self.profile, SystemTime::now())?)
    }

    /// The material, if it is in the Secret now.
    async fn written(&self, stored: Secret, material: Material) -> Result<Option<Material>, Error> {
        let (api, filled) = (self.secrets(), secret::filled(stored, &material));
        let parameters = PostParams::default();
        let replaced = timeout(LIMIT, api.replace(&self.name, &parameters, &filled));
        match replaced.await.map_err(|_| Error::TooSlow(self.name.clone()))? {
            Ok(_) => Ok(Some(material)),
            // Somebody else wrote it meanwhile: the watch is about to tell.
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(None),
            Err(error) => Err(Error::Secret(self.name.clone(), error)),
        }
    }
}
