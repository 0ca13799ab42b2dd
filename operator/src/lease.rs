//! Which of several operators leads: the one that holds a Lease in the operator's namespace, after client-go's rules.

pub mod record;

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use record::Observed;

/// A leader that could not renew for so long leads no more: well before anybody else may take the Lease.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// How often the leader renews and the others look. With up to a fifth more, so that they don't all come at once.
const PERIOD: Duration = Duration::from_secs(2);
/// One request: the client itself would try for much longer.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// Where the Lease is.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Config {
    /// The Lease's name, in the operator's own namespace.
    #[arg(long, env = "DECREE_LEASE", default_value = "decree")]
    pub lease: String,
}

/// Whether this process leads. Clones share it.
#[derive(Clone, Debug)]
pub struct Leads {
    until: watch::Receiver<Option<Instant>>,
}

impl Leads {
    /// Whether this process leads now. False as soon as the Lease could not be renewed in time, whoever is stuck.
    #[must_use]
    pub fn now(&self) -> bool {
        self.until.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Ends when this process leads; never, where it never will.
    pub async fn begun(&self) {
        let mut until = self.until.clone();
        if until.wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Ends when this process does not lead, or no more.
    pub async fn lost(&self) {
        loop {
            let until = *self.until.borrow();
            match until {
                Some(until) if Instant::now() < until => sleep_until(until).await,
                Some(_) | None => return,
            }
        }
    }
}

/// Why the election ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else may lead now.
    #[error("the Lease {0} could not be renewed within {DEADLINE:?}: another operator may lead now")]
    Lost(String),
}

/// Seeks the Lease, and keeps it.
pub struct Elector {
    api: Api<Lease>,
    name: String,
    me: String,
    until: watch::Sender<Option<Instant>>,
}

impl std::fmt::Debug for Elector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Elector").field("name", &self.name).field("me", &self.me).finish_non_exhaustive()
    }
}

impl Elector {
    /// For the Lease of that name; `pod` is whom the others see holding it. Nothing happens before [`Elector::run`].
    #[must_use]
    pub fn new(client: Client, namespace: &str, config: Config, pod: Option<&str>) -> (Self, Leads) {
        let (until, leads) = watch::channel(None);
        let me = pod.map_or_else(|| format!("process-{}", std::process::id()), str::to_owned);
        let api = Api::namespaced(client, namespace);
        (Self { api, name: config.lease, me, until }, Leads { until: leads })
    }

    /// Seeks the Lease and keeps it until `stop`, then lets it go, so that the next one need not wait.
    ///
    /// # Errors
    /// If it was held and lost.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let mut observed = None;
        loop {
            self.once(&mut observed).await?;
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.expired() => return Err(self.lost()),
                () = sleep(jittered(PERIOD)) => {}
            }
        }
        self.let_go().await;
        Ok(())
    }

    /// One look; a leader that gets no answer is one no more when its time is over.
    async fn once(&self, observed: &mut Option<Observed>) -> Result<(), Error> {
        let begun = Instant::now();
        let tried = tokio::select! {
            biased;
            () = self.expired() => return Err(self.lost()),
            tried = timeout(REQUEST_LIMIT, self.tried(observed)) => tried,
        };
        let led = self.until.borrow().is_some();
        match tried {
            Ok(Ok(true)) => {
                // From before the request: what the others count from can only be later.
                self.until.send_replace(Some(begun + DEADLINE));
                if !led {
                    tracing::info!(lease = self.name, me = self.me, "this operator leads");
                }
            }
            Ok(Ok(false)) if led => return Err(self.lost()),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => tracing::warn!(lease = self.name, %error, "can't seek the Lease"),
            Err(_) => tracing::warn!(lease = self.name, "can't seek the Lease: no answer in time"),
        }
        Ok(())
    }

    /// Whether this process holds it now.
    async fn tried(&self, observed: &mut Option<Observed>) -> Result<bool, kube::Error> {
        let found = self.api.get_opt(&self.name).await?;
        let now = std::time::Instant::now();
        let seen = found.as_ref().map(|lease| lease.spec.clone().unwrap_or_default());
        *observed = seen.map(|spec| Observed::next(observed.take(), spec, now));
        let Some(spec) = record::claim(observed.as_ref(), &self.me, now, Timestamp::now()) else {
            return Ok(false);
        };
        let written = match found {
            Some(lease) => self.replace(lease, spec).await,
            None => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                self.api.create(&PostParams::default(), &Lease { metadata, spec: Some(spec) }).await.map(drop)
            }
        };
        match written {
            Ok(()) => Ok(true),
            // Somebody was faster: the next look shows who. To a leader it is as good as no answer.
            Err(kube::Error::Api(status))
                if self.until.borrow().is_none() && (status.is_conflict() || status.is_already_exists()) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// With its resource version: of two writers one is told.
    async fn replace(&self, mut lease: Lease, spec: LeaseSpec) -> Result<(), kube::Error> {
        lease.spec = Some(spec);
        self.api.replace(&self.name, &PostParams::default(), &lease).await.map(drop)
    }

    async fn expired(&self) {
        let until = *self.until.borrow();
        match until {
            Some(until) => sleep_until(until).await,
            None => std::future::pending().await,
        }
    }

    fn lost(&self) -> Error {
        self.until.send_replace(None);
        Error::Lost(self.name.clone())
    }

    async fn let_go(&self) {
        if self.until.send_replace(None).is_none() {
            return;
        }
        let released = async {
            let Some(lease) = self.api.get_opt(&self.name).await? else { return Ok(()) };
            let spec = lease.spec.clone().unwrap_or_default();
            match record::release(&spec, &self.me, Timestamp::now()) {
                Some(free) => self.replace(lease, free).await,
                None => Ok(()),
            }
        };
        match timeout(REQUEST_LIMIT, released).await {
            Ok(Ok(())) => tracing::info!(lease = self.name, "let the Lease go"),
            Ok(Err(error)) => tracing::warn!(lease = self.name, %error, "can't let the Lease go"),
            Err(_) => tracing::warn!(lease = self.name, "can't let the Lease go: no answer in time"),
        }
    }
}

/// Takes the Lease from whoever has it, so that nobody leads from [`DEADLINE`] on, for `duration`.
///
/// # Errors
/// If the API server does not take it.
pub async fn seize(
    client: Client,
    namespace: &str,
    config: &Config,
    duration: Duration,
) -> Result<(), kube::Error> {
    let api = Api::<Lease>::namespaced(client, namespace);
    let name = config.lease.as_str();
    loop {
        let Some(mut lease) = api.get_opt(name).await? else { return Ok(()) };
        let spec = record::seize(lease.spec.as_ref(), "uninstall", duration, Timestamp::now());
        lease.spec = Some(spec);
        match api.replace(name, &PostParams::default(), &lease).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.is_conflict() => sleep(Duration::from_millis(100)).await,
            Err(error) => return Err(error),
        }
    }
}

/// Up to a fifth longer.
fn jittered(period: Duration) -> Duration {
    let dice = RandomState::new().hash_one(0_u8) % 200;
    period + period * u32::try_from(dice).unwrap_or(0) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_cannot_renew_leads_no_more_when_its_time_is_over() {
        let (until, receiver) = watch::channel(None);
        let leads = Leads { until: receiver };
        assert!(!leads.now());
        until.send_replace(Some(Instant::now() + DEADLINE));
        leads.begun().await;
        assert!(leads.now());
        let begun = Instant::now();
        leads.lost().await;
        assert_eq!(begun.elapsed(), DEADLINE);
        assert!(!leads.now());
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_prolongs_it() {
        let (until, receiver) = watch::channel(Some(Instant::now() + DEADLINE));
        let leads = Leads { until: receiver };
        let lost = tokio::spawn(async move { leads.lost().await });
        sleep(DEADLINE / 2).await;
        until.send_replace(Some(Instant::now() + DEADLINE));
        sleep(DEADLINE * 3 / 4).await;
        assert!(!lost.is_finished());
        until.send_replace(None);
        sleep(DEADLINE).await;
        assert!(lost.is_finished());
    }

    #[test]
    fn jitter_is_bounded() {
        for _ in 0..100 {
            let period = jittered(PERIOD);
            assert!(period >= PERIOD && period <= PERIOD + PERIOD / 5);
        }
    }
}
