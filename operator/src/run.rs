//! The process on one page: what is watched, which tasks run, and in which order they stop.

use std::net::SocketAddr;
use std::time::Duration;

use decree_crds::DecisionEngine;
use futures::StreamExt;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::health::{self, Readiness};
use crate::metrics::Metrics;

/// What the operator is told at its start.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    /// Look after this namespace only. Default: all.
    #[arg(long, env = "DECREE_NAMESPACE")]
    pub namespace: Option<String>,
    /// The sidecar's image, where an engine names none.
    #[arg(long, env = "DECREE_SIDECAR_IMAGE")]
    pub sidecar_image: String,
    /// Where probes and metrics are answered.
    #[arg(long, env = "DECREE_HEALTH_ADDRESS", default_value = "0.0.0.0:8080")]
    pub health_address: SocketAddr,
    /// This operator's pod: who reports Events.
    #[arg(long, env = "DECREE_POD")]
    pub pod: Option<String>,
}

/// Why the operator ended. Every task runs until the process is told to stop: one that ends early ends the process, so
/// that the kubelet sees it and starts it anew.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No kubeconfig and no service account, say.
    #[error("find the API server")]
    Cluster(#[from] kube::Error),
    /// A task failed.
    #[error("task {task} failed")]
    Task {
        /// Which.
        task: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A task ended that never should.
    #[error("task {0} ended")]
    Ended(&'static str),
}

type Ended = (&'static str, Result<(), Box<dyn std::error::Error + Send + Sync>>);

/// How long tasks may take to finish what they are doing.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// Runs until `stop`.
///
/// # Errors
/// If a task failed, or ended before it was told to.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), Error> {
    let client = Client::try_default().await?;
    let metrics = Metrics::new();
    let readiness = Readiness::default();
    let mut tasks = JoinSet::<Ended>::new();

    // Probes are answered to the end, so that a slow stop isn't taken for a hang.
    let serving = stop.child_token();
    let health = health::serve(config.health_address, readiness.clone(), metrics.clone(), serving);
    tasks.spawn(async move { ("health", health.await.map_err(Into::into)) });

    let (engines, writer) = reflector::store::<DecisionEngine>();
    let api: Api<DecisionEngine> = Api::all(client);
    let stream = watcher(api, watcher::Config::default().timeout(200)).default_backoff().reflect(writer);
    tasks.spawn(async move {
        (("engines"), {
            stream.for_each(|_| async {}).await;
            Ok(())
        })
    });
    let gate = readiness.gate("engines");
    tasks.spawn(async move {
        let _ = engines.wait_until_ready().await;
        gate.open();
        std::future::pending().await
    });

    supervise(tasks, stop).await
}

async fn supervise(mut tasks: JoinSet<Ended>, stop: CancellationToken) -> Result<(), Error> {
    let first = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        ended = tasks.join_next() => Err(judged(ended)),
    };
    stop.cancel();
    let rest = tokio::time::timeout(STOP_LIMIT, async { while tasks.join_next().await.is_some() {} });
    if rest.await.is_err() {
        tracing::warn!("some task did not stop within {STOP_LIMIT:?}");
    }
    first
}

fn judged(ended: Option<Result<Ended, tokio::task::JoinError>>) -> Error {
    match ended {
        Some(Ok((task, Ok(())))) => Error::Ended(task),
        Some(Ok((task, Err(source)))) => Error::Task { task, source },
        Some(Err(error)) => Error::Task { task: "unknown", source: error.into() },
        None => Error::Ended("all"),
    }
}
