//! The webhook: HTTPS for the API server, with certificates that change while it runs.
//!
//! ```text
//!  API server ──HTTPS──▶ review ──▶ inject (pure)
//!                          └─ engines: the operator's cache      certs ─▶ the listener's certificate
//!  sidecars ────HTTPS──▶ identity
//! ```

pub mod engines;
pub mod review;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use decree_crds::DecisionEngine;
use k8s_openapi::api::core::v1::ResourceRequirements;
use kube::Client;
use kube::runtime::reflector::Store;
use tokio_util::sync::CancellationToken;

use crate::certs::{self, Keeper};
use crate::crowd::{self, Crowd};
use crate::inject::sidecar::Sidecar;
use crate::metrics::Metrics;
use engines::Cached;
use review::Reviewer;

/// A client that connects has to say something within this.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// The API servers hold one or two each; of a crowd, those that are silent make room for them.
const CONNECTIONS: usize = 128;
/// At the end, requests that are being answered get so long.
const DRAIN: Duration = Duration::from_secs(5);

/// What the webhook is told at its start.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Config {
    /// Where the webhook listens.
    #[arg(long, env = "DECREE_WEBHOOK_ADDRESS", default_value = "0.0.0.0:8443")]
    pub webhook_address: SocketAddr,
    /// When nodes pull the sidecar's image.
    #[arg(long, env = "DECREE_SIDECAR_PULL_POLICY", default_value = "IfNotPresent")]
    pub sidecar_pull_policy: String,
    /// The sidecar's requests and limits, where an engine names none, as JSON.
    #[arg(long, env = "DECREE_SIDECAR_RESOURCES", value_parser = resources)]
    pub sidecar_resources: Option<ResourceRequirements>,
    /// Its certificates.
    #[command(flatten)]
    pub certs: certs::Config,
}

fn resources(text: &str) -> Result<ResourceRequirements, serde_json::Error> {
    serde_json::from_str(text)
}

impl Config {
    /// What is injected where an engine says nothing else.
    #[must_use]
    pub fn sidecar(&self, image: String) -> Sidecar {
        let chosen = Sidecar::new(image);
        Sidecar {
            pull_policy: self.sidecar_pull_policy.clone(),
            resources: self.sidecar_resources.clone().unwrap_or(chosen.resources),
            image: chosen.image,
        }
    }
}

/// Why the webhook ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The port is taken, say.
    #[error("listen on {address} for the API server")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The listener broke.
    #[error("answer the API server")]
    Serve(#[source] std::io::Error),
}

/// What the API server asks; `engines` is filled by somebody else.
pub fn reviews(sidecar: Sidecar, client: Client, engines: Store<DecisionEngine>, metrics: Metrics) -> Router {
    Reviewer::new(Arc::new(Cached::new(engines, client)), sidecar, metrics).routes()
}

/// Serves `routes` until `stop`, with the certificates that `keeper` keeps.
///
/// # Errors
/// If the address can't be listened on.
pub async fn run(
    address: SocketAddr,
    routes: Router,
    keeper: Keeper,
    stop: CancellationToken,
) -> Result<(), Error> {
    let listener = listen(address).map_err(|source| Error::Listen { address, source })?;
    let Some(serving) = keeper.begin(&stop).await else { return Ok(()) };
    let keeping = keeper.run(serving.clone(), stop.clone());
    let served = serve(listener, serving, routes, stop);
    tokio::pin!(served);
    tokio::select! {
        ended = &mut served => ended,
        () = keeping => served.await,
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Answers `routes` over HTTPS until `stop`; what is being answered then is finished.
///
/// # Errors
/// If the listener broke.
pub async fn serve(
    listener: TcpListener,
    certificates: RustlsConfig,
    routes: Router,
    stop: CancellationToken,
) -> Result<(), Error> {
    let handle = Handle::new();
    let acceptor = RustlsAcceptor::new(certificates).handshake_timeout(HANDSHAKE);
    let server = axum_server::from_tcp(listener)
        .map_err(Error::Serve)?
        .acceptor(acceptor.acceptor(Crowd::of(CONNECTIONS)))
        .handle(handle.clone())
        .first_request_timeout(HANDSHAKE);
    let server = crowd::bound(server).serve(routes.into_make_service());
    let drained = async {
        stop.cancelled().await;
        handle.graceful_shutdown(Some(DRAIN));
        std::future::pending().await
    };
    tokio::select! {
        ended = server => ended.map_err(Error::Serve),
        () = drained => Ok(()),
    }
}
