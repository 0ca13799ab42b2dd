//! What the operator asks of sidecars, over their peers' port with the operator's certificate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use decree_sidecar::peers::identity::Material;
use decree_wire::member::{self, path};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use super::careless;

const LIMIT: Duration = Duration::from_secs(20);

/// Asks, on a connection of its own each time.
pub(crate) struct Operator {
    runtime: Runtime,
    config: Arc<ClientConfig>,
}

/// Status and body.
#[derive(Debug)]
pub(crate) struct Said(pub(crate) u16, pub(crate) String);

impl Said {
    pub(crate) fn read<T: DeserializeOwned>(&self) -> T {
        assert_eq!(self.0, 200, "{self:?}");
        serde_json::from_str(&self.1).unwrap()
    }
}

impl Operator {
    /// With that certificate.
    pub(crate) fn new(material: &Material) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { runtime, config: Arc::new(careless::config(Some(material))) }
    }

    /// What a member says of itself, if it answers.
    pub(crate) fn member(&self, at: SocketAddr) -> Option<member::Member> {
        let said = self.get(at, path::MEMBER);
        (said.0 == 200).then(|| said.read())
    }

    pub(crate) fn get(&self, at: SocketAddr, path: &str) -> Said {
        self.ask(at, "GET", path, Bytes::new())
    }

    pub(crate) fn post(&self, at: SocketAddr, path: &str, what: &impl Serialize) -> Said {
        self.post_bytes(at, path, serde_json::to_vec(what).unwrap())
    }

    pub(crate) fn post_bytes(&self, at: SocketAddr, path: &str, what: Vec<u8>) -> Said {
        self.ask(at, "POST", path, what.into())
    }

    /// Status 0: nobody answered.
    fn ask(&self, at: SocketAddr, method: &str, path: &str, body: Bytes) -> Said {
        let request = Request::builder().method(method).uri(format!("https://sidecar{path}"));
        let request = request.body(Full::new(body)).unwrap();
        let asked = async { tokio::time::timeout(LIMIT, exchange(&self.config, at, request)).await };
        let failed = |error: Box<dyn std::error::Error>| Said(0, error.to_string());
        self.runtime.block_on(asked).unwrap_or_else(|late| Err(late.into())).unwrap_or_else(failed)
    }
}

async fn exchange(
    config: &Arc<ClientConfig>,
    at: SocketAddr,
    request: Request<Full<Bytes>>,
) -> Result<Said, Box<dyn std::error::Error>> {
    let stream = TcpStream::connect(at).await?;
    let name = "peer.decree.invalid".try_into()?;
    let stream = tokio_rustls::TlsConnector::from(config.clone()).connect(name, stream).await?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    driver.abort();
    Ok(Said(status, String::from_utf8_lossy(&body).into_owned()))
}
