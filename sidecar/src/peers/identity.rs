//! Who this agent is to its peers: a certificate, its key and the authorities, exchanged without a restart.

use std::fmt;
use std::sync::Arc;

use decree_wire::identity::Peer;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::sync::watch;

use super::caller::Caller;
pub use super::trust::Scope;
use super::trust::{Trust, name};
use super::verifier::Verifier;

const H2: &[u8] = b"h2";

/// The newest identity; none before there is one. Whoever gets it, from files or issued, is behind this.
pub type Identities = watch::Receiver<Option<Arc<Identity>>>;

/// What an identity is made of, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Material {
    /// The authorities that vouch for peers: the one of before and the one to come may both be there.
    pub authorities: String,
    /// This agent's certificate, with those between it and its authority.
    pub certificate: String,
    /// Its key. Never printed.
    pub key: String,
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Why material makes no identity.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no PEM of that kind.
    #[error("read the {0}: {1}")]
    Pem(&'static str, #[source] pem::Error),
    /// None of the certificates in it is an authority's.
    #[error("read the authorities: {0}")]
    Authorities(#[source] rustls::server::VerifierBuilderError),
    /// The key is of no kind that is known, or is another certificate's.
    #[error("use the certificate and its key: {0}")]
    Key(#[source] rustls::Error),
    /// The certificate names somebody else.
    #[error("the certificate is of {found}, not of pod {pod} in {namespace}/{engine} of cluster {cluster}")]
    Another {
        /// Whose it is.
        found: String,
        /// Whose it should be.
        pod: String,
        /// Of that namespace.
        namespace: String,
        /// Of that engine.
        engine: String,
        /// Of that cluster.
        cluster: String,
    },
}

/// One certificate with its key, and whom it goes together with.
#[derive(Debug)]
pub struct Identity {
    own: Peer,
    key: Arc<SingleCertAndKey>,
    trust: Arc<Trust>,
}

impl Identity {
    /// Reads what files or the operator gave to `pod`, for peers within `scope`.
    ///
    /// # Errors
    /// If it does not fit together, or is somebody else's. That its time is over is for the peers to say.
    pub fn read(material: &Material, scope: Scope, pod: &str) -> Result<Self, Error> {
        let provider = Arc::new(ring::default_provider());
        let certificates = |what, text: &String| {
            let read: Result<Vec<CertificateDer<'static>>, _> =
                CertificateDer::pem_slice_iter(text.as_bytes()).collect();
            read.map_err(|error| Error::Pem(what, error))
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates("authorities", &material.authorities)?);
        let chain = certificates("certificate", &material.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(material.key.as_bytes())
            .map_err(|error| Error::Pem("certificate's key", error))?;
        let found = chain.first().and_then(name);
        let of_scope = |peer: &Peer| {
            peer.pod == pod
                && (&peer.cluster, &peer.namespace, &peer.engine)
                    == (&scope.cluster, &scope.namespace, &scope.engine)
        };
        let own = match found {
            Some(Caller::Peer(peer)) if of_scope(&peer) => peer,
            other => {
                let Scope { cluster, namespace, engine, .. } = scope;
                let found = other.map_or_else(|| "nobody".into(), |other| other.to_string());
                return Err(Error::Another { found, pod: pod.into(), namespace, engine, cluster });
            }
        };
        let key = CertifiedKey::from_der(chain, key, &provider).map_err(Error::Key)?;
        let trust = Trust::new(scope, roots, provider).map_err(Error::Authorities)?;
        Ok(Self { own, key: Arc::new(SingleCertAndKey::from(key)), trust: Arc::new(trust) })
    }

    /// Who this agent is.
    #[must_use]
    pub fn own(&self) -> &Peer {
        &self.own
    }

    pub(super) fn trust(&self) -> &Arc<Trust> {
        &self.trust
    }

    /// For one connection that comes in. Sessions are never resumed: that would pass a certificate unseen.
    pub(super) fn server(&self) -> Result<(ServerConfig, Arc<Verifier>), rustls::Error> {
        let verifier = Arc::new(Verifier::new(self.trust.clone()));
        let mut config = ServerConfig::builder_with_provider(self.provider())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier.clone())
            .with_cert_resolver(self.key.clone());
        config.alpn_protocols = vec![H2.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok((config, verifier))
    }

    /// For one connection that goes out.
    pub(super) fn client(&self) -> Result<(ClientConfig, Arc<Verifier>), rustls::Error> {
        let verifier = Arc::new(Verifier::new(self.trust.clone()));
        let mut config = ClientConfig::builder_with_provider(self.provider())
            .with_protocol_versions(&[&TLS13])?
            .dangerous() // rustls' word for any check but that of a host's name, which a pod has not
            .with_custom_certificate_verifier(verifier.clone())
            .with_client_cert_resolver(self.key.clone());
        config.alpn_protocols = vec![H2.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        Ok((config, verifier))
    }

    fn provider(&self) -> Arc<CryptoProvider> {
        self.trust.provider.clone()
    }
}
