//! The process on one page: what is watched, which tasks run, and in which order they stop.

mod watches;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use decree_crds::{ConsensusGroup, DecisionEngine};
use decree_wire::position::EngineName;
use futures::{Stream, StreamExt};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Client;
use kube::runtime::controller::{self, Controller, Error as ControllerError};
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::sync::{OnceCell, mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::care::pods;
use crate::certs::authority::Material;
use crate::certs::{self, Keeper};
use crate::detector::heartbeats::Heartbeats;
use crate::detector::leaders;
use crate::engine;
use crate::engine::context::{Context, Stores};
use crate::engine::documents::Documents;
use crate::engine::notes::Notes;
use crate::engine::secrets::Secrets;
use crate::events::Events;
use crate::evictor::Evictor;
use crate::group;
use crate::group::call::Calls;
use crate::group::notes::GroupName;
use crate::health::{self, Gate, Readiness};
use crate::identity;
use crate::identity::route::Issuer;
use crate::identity::witness::Cluster;
use crate::lease::{self, Elector, Leads};
use crate::metrics::Metrics;
use crate::topics::kafka::KafkaClusters;
use crate::webhook;

/// What the operator is told at its start.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Config {
    /// Look after this namespace only. Default: all.
    #[arg(long, env = "DECREE_WATCH_NAMESPACE")]
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
    /// Who leads, where there are several operators.
    #[command(flatten)]
    pub lease: lease::Config,
    /// The webhook.
    #[command(flatten)]
    pub webhook: webhook::Config,
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

/// So many engines at once: one that waits for its Kafka must not hold up the others.
const CONCURRENCY: u16 = 64;
/// So many engines or groups may be waiting to be looked at; what comes then is found by the next look.
const TOUCHED: usize = 1024;
/// What happens within this becomes one reconcile: a rollout touches many pods at once.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// Runs until `stop`.
///
/// # Errors
/// If a task failed, or ended before it was told to.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), Error> {
    let Config { namespace, sidecar_image, health_address, pod, lease, webhook: webhook_config } = config;
    let client = Client::try_default().await?;
    let metrics = Metrics::new();
    let readiness = Readiness::default();
    let (watched, gate) = (readiness.gate("watches"), readiness.gate("webhook"));
    let mut tasks = JoinSet::<Ended>::new();

    let health = health::serve(health_address, readiness, metrics.clone(), stop.clone());
    tasks.spawn(async move { ("health", health.await.map_err(Into::into)) });

    let own = &webhook_config.certs.operator_namespace;
    let (elector, leads) = Elector::new(client.clone(), own, lease, pod.as_deref());
    // Let go last: while anything here still writes, nobody else may.
    let release = CancellationToken::new();
    tasks.spawn({
        let release = release.clone();
        async move { ("lease", elector.run(release).await.map_err(Into::into)) }
    });

    let (heartbeats, changed) = Heartbeats::new();
    tasks.spawn({
        let (heartbeats, stop) = (heartbeats.clone(), stop.clone());
        async move {
            ("heartbeats", {
                heartbeats.run(stop).await;
                Ok(())
            })
        }
    });

    let (told, authority) = watch::channel(None);
    let (engines_due, due) = mpsc::channel(TOUCHED);
    let calls = Calls::new(authority.clone());
    tasks.spawn({
        let (heartbeats, calls, stop) = (heartbeats.clone(), calls.clone(), stop.clone());
        async move {
            ("leaders", {
                leaders::run(heartbeats, calls, stop).await;
                Ok(())
            })
        }
    });
    let watches = watches::begin(&client, namespace.as_deref());
    let engines = watches.engines.0.clone();
    let context = Arc::new(Context {
        stores: Stores {
            engines: engines.clone(),
            groups: watches.groups.0.clone(),
            pods: watches.pods.0.clone(),
            services: watches.services.0.clone(),
            budgets: watches.budgets.0.clone(),
            policies: watches.policies.0.clone(),
        },
        clusters: Arc::new(KafkaClusters::default()),
        heartbeats,
        events: Events::new(client.clone(), pod),
        metrics: metrics.clone(),
        evictor: Evictor::new(webhook_config.certs.operator_namespace.clone()).await?,
        installed: webhook_config.sidecar(sidecar_image.clone()),
        secrets: Secrets::default(),
        documents: Documents::default(),
        notes: Notes::default(),
        leads: leads.clone(),
        certs: webhook_config.certs.clone(),
        calls,
        group_notes: group::notes::Notes::default(),
        engines_due,
        cluster: OnceCell::new(),
        client: client.clone(),
    });
    let stores = context.stores.clone();
    let (touch, touched) = mpsc::channel(TOUCHED);
    let (groups, watches) = watches.divided(&engines, &touch);
    let grouping = control_groups(groups, touched, context.clone(), stop.clone());
    tasks.spawn(async move {
        ("groups", {
            grouping.await;
            Ok(())
        })
    });
    let heard = futures::stream::select(ReceiverStream::new(changed), ReceiverStream::new(due));
    let controlling = control(watches, heard, context, stop.clone());
    tasks.spawn(async move {
        ("controller", {
            controlling.await;
            Ok(())
        })
    });
    tasks.spawn(open_when_seen(stores, watched, stop.clone()));

    let certs = webhook_config.certs.clone();
    tasks.spawn(keep_authority(client.clone(), certs.clone(), leads.clone(), told, stop.clone()));
    let issuer = Issuer::new(Arc::new(Cluster::new(client.clone())), authority, metrics.clone());
    let keeper = Keeper::new(client.clone(), certs, leads, gate);
    let sidecar = webhook_config.sidecar(sidecar_image);
    let routes = webhook::reviews(sidecar, client, engines, metrics).merge(issuer.routes());
    let webhook = webhook::run(webhook_config.webhook_address, routes, keeper, stop.clone());
    tasks.spawn(async move { ("webhook", webhook.await.map_err(Into::into)) });

    supervise(tasks, stop, release).await
}

/// Reconciles engines when they, or what belongs to them, changed.
async fn control(
    watches: watches::EngineWatches,
    heard: impl Stream<Item = EngineName> + Send + 'static,
    context: Arc<Context>,
    stop: CancellationToken,
) {
    let heard = heard.map(|name| ObjectRef::new(&name.name).within(&name.namespace));
    let (engines, stream) = watches.engines;
    // While another leads, what is seen fills the stores; when this one does, all is looked at.
    let (leads, stores) = (context.leads.clone(), context.stores.clone());
    let begun = futures::stream::once(async move { leads.begun().await });
    let controller = Controller::for_stream(stream, engines.clone())
        .with_config(controller::Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE))
        .watches_stream(
            watches.services.1,
            watches::touched(stores.clone(), "Bypassed", crate::care::bypass::selects),
        )
        .watches_stream(
            watches.budgets.1,
            watches::touched(stores.clone(), "OtherDisruptionBudget", |budget: &PodDisruptionBudget, pod| {
                pods::selects(budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()), pod)
            }),
        )
        .watches_stream(
            watches.policies.1,
            watches::touched(stores, "IsolationMissing", |policy: &NetworkPolicy, pod| {
                pods::selects(policy.spec.as_ref().and_then(|spec| spec.pod_selector.as_ref()), pod)
            }),
        )
        .watches_stream(watches.pods.1, watches::engine_of)
        .reconcile_on(heard)
        .reconcile_all_on(begun)
        .graceful_shutdown_on(stop.cancelled_owned());
    let results = controller.run(engine::reconcile, engine::on_error, Arc::clone(&context));
    results.for_each(|result| account(result, &engines, &context)).await;
}

type Reconciled = Result<
    (ObjectRef<DecisionEngine>, controller::Action),
    ControllerError<engine::Error, kube::runtime::watcher::Error>,
>;

async fn account(result: Reconciled, engines: &Store<DecisionEngine>, context: &Context) {
    context.metrics.engines.set(i64::try_from(engines.len()).unwrap_or(i64::MAX));
    match result {
        Err(ControllerError::ObjectNotFound(gone)) => context.forget(&EngineName {
            namespace: gone.namespace.clone().unwrap_or_default(),
            name: gone.name.clone(),
        }),
        Err(ControllerError::ReconcilerFailed(..)) | Ok(_) => {} // told by the error policy
        Err(error) => tracing::warn!(%error, "the controller reports"),
    }
}

/// Reconciles groups when they, an engine that names them, or one of its pods changed.
async fn control_groups(
    (groups, stream): watches::Watch<ConsensusGroup>,
    touched: mpsc::Receiver<GroupName>,
    context: Arc<Context>,
    stop: CancellationToken,
) {
    let touched = ReceiverStream::new(touched).map(|name| ObjectRef::new(&name.name).within(&name.namespace));
    let leads = context.leads.clone();
    let begun = futures::stream::once(async move { leads.begun().await });
    let controller = Controller::for_stream(stream, groups.clone())
        .with_config(controller::Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE))
        .reconcile_on(touched)
        .reconcile_all_on(begun)
        .graceful_shutdown_on(stop.cancelled_owned());
    let results = controller.run(group::reconcile, group::on_error, Arc::clone(&context));
    results
        .for_each(async |result| {
            context.metrics.groups.set(i64::try_from(groups.len()).unwrap_or(i64::MAX));
            match result {
                Err(ControllerError::ObjectNotFound(gone)) => context.group_notes.forget(&GroupName {
                    namespace: gone.namespace.clone().unwrap_or_default(),
                    name: gone.name.clone(),
                }),
                Err(ControllerError::ReconcilerFailed(..)) | Ok(_) => {} // told by the error policy
                Err(error) => tracing::warn!(%error, "the controller of groups reports"),
            }
        })
        .await;
}

async fn keep_authority(
    client: Client,
    certs: certs::Config,
    leads: Leads,
    told: watch::Sender<Option<Arc<Material>>>,
    stop: CancellationToken,
) -> Ended {
    let certs::Config { operator_namespace, peers_secret, .. } = certs;
    let keeper =
        identity::keeper::Keeper::new(client, operator_namespace, peers_secret, leads, told, &stop).await;
    if let Some(keeper) = keeper {
        keeper.run(stop).await;
    }
    ("identity", Ok(()))
}

async fn open_when_seen(stores: Stores, gate: Gate, stop: CancellationToken) -> Ended {
    let seen = async {
        if stores.seen().await {
            gate.open();
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = seen => {}
    }
    ("gate", Ok(()))
}

async fn supervise(
    mut tasks: JoinSet<Ended>,
    stop: CancellationToken,
    release: CancellationToken,
) -> Result<(), Error> {
    let first = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        ended = tasks.join_next() => Err(judged(ended)),
    };
    stop.cancel();
    let rest = tokio::time::timeout(STOP_LIMIT, async {
        while tasks.len() > 1 && tasks.join_next().await.is_some() {}
        release.cancel();
        while tasks.join_next().await.is_some() {}
    });
    if rest.await.is_err() {
        // The Lease is not let go then: nobody shall take over what is still going on here.
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
