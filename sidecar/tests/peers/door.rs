//! A peers' door with an application behind it that says who asks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::routing::post;
use axum::{Extension, Router};
use bytes::Bytes;
use decree_sidecar::metrics::Metrics;
use decree_sidecar::peers::Target;
use decree_sidecar::peers::client::Peers;
use decree_sidecar::peers::identity::Identity;
use decree_sidecar::peers::refusal::Refusals;
use decree_sidecar::peers::server::serve;
use decree_wire::identity::Peer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const LIMIT: Duration = Duration::from_secs(5);

/// Open until it is dropped.
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: Metrics,
    pub(crate) identity: watch::Sender<Option<Arc<Identity>>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Door {
    pub(crate) async fn open(identity: Arc<Identity>) -> Self {
        Self::open_at(([127, 0, 0, 1], 0).into(), identity).await
    }

    pub(crate) async fn open_at(address: SocketAddr, identity: Arc<Identity>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (identity, identities) = watch::channel(Some(identity));
        let (metrics, stop) = (Metrics::default(), CancellationToken::new());
        let refusals = Refusals::new(metrics.clone());
        let task = tokio::spawn(serve(listener, router(), identities, refusals, stop.clone()));
        Self { address, metrics, identity, stop, task }
    }

    pub(crate) async fn close(mut self) {
        self.stop.cancel();
        (&mut self.task).await.unwrap();
    }

    /// How often peers were refused for that reason.
    pub(crate) fn refused(&self, reason: &str) -> u64 {
        refused(&self.metrics, reason)
    }

    pub(crate) fn target(&self, pod: &str) -> Target {
        Target { pod: pod.into(), address: self.address.to_string() }
    }
}

pub(crate) fn refused(metrics: &Metrics, reason: &str) -> u64 {
    let text = metrics.encode("e", "c", None, None);
    let label = format!("reason=\"{reason}\"}}");
    let line =
        text.lines().find(|line| line.starts_with("decree_peer_refusals_total") && line.contains(&label));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

/// Another agent's side.
pub(crate) struct Caller {
    pub(crate) peers: Peers,
    pub(crate) metrics: Metrics,
    pub(crate) identity: watch::Sender<Option<Arc<Identity>>>,
}

impl Caller {
    pub(crate) fn new(identity: Arc<Identity>) -> Self {
        let (identity, identities) = watch::channel(Some(identity));
        let metrics = Metrics::default();
        let peers = Peers::new(identities, Refusals::new(metrics.clone()));
        Self { peers, metrics, identity }
    }
}

fn router() -> Router {
    let echo = |Extension(peer): Extension<Peer>, body: Bytes| async move {
        format!("{} says {}", peer.pod, String::from_utf8_lossy(&body))
    };
    let size = |body: Bytes| async move { body.len().to_string() };
    let slow = || async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        "at last"
    };
    Router::new()
        .route("/echo", post(echo))
        .route("/size", post(size).layer(axum::extract::DefaultBodyLimit::disable()))
        .route("/slow", post(slow))
        .route("/raw", post(|body: Bytes| async move { body }))
}
