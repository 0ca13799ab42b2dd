//! The peers' authority, kept in its Secret: every operator issues with it, the one that leads makes and replaces it.

use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use decree_wire::identity::Operator;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::certs::authority::Material;
use crate::certs::custody::{self, Custody};
use crate::certs::{plan, profile::Profile};
use crate::cluster;
use crate::lease::Leads;

/// How often it is asked what time has made due; that asks nobody.
const EVERY: Duration = Duration::from_secs(60);
/// How soon after a failure, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The authority as it is now; none before it was read.
pub type Authority = watch::Receiver<Option<Arc<Material>>>;

/// Keeps it.
#[derive(Debug)]
pub struct Keeper {
    custody: Custody,
    told: watch::Sender<Option<Arc<Material>>>,
}

impl Keeper {
    /// Of the Secret `name` in `namespace`. Waits until it is known which cluster this is; none if `stop` came first.
    pub async fn new(
        client: Client,
        namespace: String,
        name: String,
        leads: Leads,
        told: watch::Sender<Option<Arc<Material>>>,
        stop: &CancellationToken,
    ) -> Option<Self> {
        let mut pause = RETRY.0;
        loop {
            match timeout(custody::LIMIT, cluster::uid(&client)).await {
                Ok(Ok(cluster)) => {
                    let profile = Profile::peers(Operator { cluster }.to_string());
                    let custody = Custody::new(client, namespace, name, profile, leads);
                    return Some(Self { custody, told });
                }
                Ok(Err(error)) => tracing::warn!(%error, "can't read which cluster this is"),
                Err(_) => tracing::warn!("no time to read which cluster this is"),
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                () = sleep(pause) => pause = (pause * 2).min(RETRY.1),
            }
        }
    }

    /// Keeps it until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut secrets = watch_object(self.custody.secrets(), self.custody.name()).default_backoff().boxed();
        let (mut seen, mut pause, mut failures): (Option<Secret>, _, _) = (None, EVERY, RETRY.0);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(secret) = secrets.next() => match secret {
                    Ok(secret) => seen = secret,
                    Err(error) => tracing::warn!(%error, "can't watch the peers' authority"),
                },
                () = sleep(pause) => {}
            }
            pause = match self.keep(seen.clone()).await {
                Ok(()) => {
                    failures = RETRY.0;
                    EVERY
                }
                Err(error) => {
                    let cause = error.source().map(ToString::to_string);
                    tracing::warn!(%error, cause, "the peers' authority isn't as it should be");
                    failures = (failures * 2).min(RETRY.1);
                    failures
                }
            };
        }
    }

    async fn keep(&self, secret: Option<Secret>) -> Result<(), custody::Error> {
        // The chart makes it; without it there is nothing to issue with, which whoever asks is told.
        let Some(secret) = secret else { return Ok(()) };
        let used = self.told.borrow().clone();
        let trusted = used.as_deref().and_then(|used| trusted(used, SystemTime::now()));
        if let Some(material) = self.custody.provided(secret, used.as_deref(), trusted).await? {
            self.told.send_if_modified(|told| {
                let differs = told.as_deref() != Some(&material);
                if differs {
                    *told = Some(Arc::new(material));
                }
                differs
            });
        }
        Ok(())
    }
}

/// Sidecars get the authorities with their certificates: what was announced is known to those that asked since.
fn trusted(used: &Material, now: SystemTime) -> Option<Duration> {
    now.duration_since(plan::announced(used)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::authority;
    use crate::certs::plan::{Circumstances, Plan};

    #[test]
    fn an_authority_signs_when_every_certificate_from_before_it_has_ended() {
        let hour = Duration::from_secs(3600);
        let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let profile = Profile::peers("decree://c-1".into());
        let old = authority::found(&profile, begin).unwrap();
        assert_eq!(trusted(&old, begin), None);
        let at = |found: &Material, now| {
            let trusted = trusted(found, now);
            plan::plan(Some(found), &Circumstances { profile: &profile, asked: false, trusted, now })
        };
        let announced = authority::announce(&old, &profile, begin).unwrap();
        assert_eq!(at(&announced, begin + 24 * hour), Plan::Keep);
        assert_eq!(at(&announced, begin + 26 * hour), Plan::Swap);
        let swapped = authority::swap(&announced, &profile, begin + 26 * hour).unwrap();
        assert_eq!(at(&swapped, begin + 50 * hour), Plan::Keep);
        assert_eq!(at(&swapped, begin + 52 * hour), Plan::Retire);
        assert_eq!(at(&authority::retire(&swapped), begin + 52 * hour), Plan::Keep);
    }
}
