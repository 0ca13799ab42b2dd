//! A certificate issued by the operator: the key is made here and never leaves, the pod's token says who asks.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use decree_wire::issuance::{Issued, PATH, Request};
use http::header;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::identity::Material;
use super::told;

/// For one answer. The operator asks the API server meanwhile.
const LIMIT: Duration = Duration::from_secs(10);
/// Some certificates as PEM are smaller.
const ANSWER_BYTES: usize = 1 << 20;
/// Whatever the operator says, it is not asked more often, nor more seldom.
const RENEWAL: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(24 * 3600));

/// Where the operator is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// `host:port`; its certificate is of that host.
    pub address: String,
    /// Who vouches for it, as PEM.
    pub authorities: String,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pod's token is not there.
    #[error("read the pod's token at {0}: {1}")]
    Token(String, #[source] std::io::Error),
    /// The key or the request could not be made.
    #[error("make a signing request: {0}")]
    Request(String),
    /// The operator can't be reached, or is another.
    #[error("ask the operator at {0} for a certificate: {1}")]
    Unreachable(String, String),
    /// The operator does not issue one.
    #[error("ask the operator at {address} for a certificate: it answered {status}, {text}")]
    Refused {
        /// Where.
        address: String,
        /// The HTTP status.
        status: u16,
        /// What it said.
        text: String,
    },
}

/// Asks for one; how long it is good for is returned beside it.
///
/// # Errors
/// As [`Error`] lists. All of them may pass.
pub async fn issue(issuer: &Issuer, token: &Path) -> Result<(Material, Duration), Error> {
    let read = tokio::fs::read_to_string(token).await;
    let token = read.map_err(|error| Error::Token(token.display().to_string(), error))?;
    let request = |error: &dyn std::error::Error| Error::Request(told(error));
    let key = KeyPair::generate().map_err(|error| request(&error))?;
    let asked = CertificateParams::default().serialize_request(&key).map_err(|error| request(&error))?;
    let signing_request = asked.pem().map_err(|error| request(&error))?;
    let body = serde_json::to_vec(&Request { signing_request }).map_err(|error| request(&error))?;
    let asked = timeout(LIMIT, ask(issuer, token.trim(), body.into())).await;
    let (status, answer) = asked
        .unwrap_or_else(|_| Err(format!("no answer within {LIMIT:?}")))
        .map_err(|why| Error::Unreachable(issuer.address.clone(), why))?;
    if status != 200 {
        let text = String::from_utf8_lossy(&answer).chars().take(500).collect();
        return Err(Error::Refused { address: issuer.address.clone(), status, text });
    }
    let Issued { certificate, authorities, renew_after_seconds } = serde_json::from_slice(&answer)
        .map_err(|error| Error::Unreachable(issuer.address.clone(), error.to_string()))?;
    let renew_after = Duration::from_secs(renew_after_seconds).clamp(RENEWAL.0, RENEWAL.1);
    Ok((Material { authorities, certificate, key: key.serialize_pem() }, renew_after))
}

async fn ask(issuer: &Issuer, token: &str, body: Bytes) -> Result<(u16, Bytes), String> {
    let host = issuer.address.rsplit_once(':').map_or(issuer.address.as_str(), |(host, _)| host);
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let config = config(&issuer.authorities)?;
    let stream = TcpStream::connect(&issuer.address).await.map_err(|error| error.to_string())?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|e| told(&e))?;
    let (mut sender, driver) =
        http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(|e| told(&e))?;
    // Its error comes out at the request too.
    let _driver = AbortOnDropHandle::new(tokio::spawn(async move { drop(driver.await) }));
    let request = http::Request::post(PATH)
        .header(header::HOST, host)
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| told(&error))?;
    let status = response.status().as_u16();
    let body =
        Limited::new(response.into_body(), ANSWER_BYTES).collect().await.map_err(|error| told(&*error))?;
    Ok((status, body.to_bytes()))
}

fn config(authorities: &str) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(authorities.as_bytes()).collect();
    roots.add_parsable_certificates(read.map_err(|error| error.to_string())?);
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
