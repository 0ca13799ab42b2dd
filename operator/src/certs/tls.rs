//! The certificates as rustls takes them.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::authority::Material;

/// Why these certificates can't be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No PEM.
    #[error("read the webhook's certificate")]
    Unreadable(#[from] pem::Error),
    /// The key doesn't fit the certificate, say.
    #[error("serve the webhook's certificate")]
    Unusable(#[from] rustls::Error),
}

/// What to serve.
///
/// # Errors
/// If certificate or key can't be read, or don't fit each other.
pub fn server(material: &Material) -> Result<Arc<ServerConfig>, Error> {
    let chain =
        CertificateDer::pem_slice_iter(material.certificate.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(material.key.as_bytes())?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
