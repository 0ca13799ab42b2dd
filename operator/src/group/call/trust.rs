//! Whom the operator takes for the agent that it asks: whom the peers' authority vouches for, and exactly this pod.

use std::sync::Arc;

use decree_wire::identity::{Operator, Peer};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};

use crate::certs::authority::Material;

const H2: &[u8] = b"h2";

/// Why the operator can't show who it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// No PEM.
    #[error("read the peers' authority: {0}")]
    Unreadable(#[from] pem::Error),
    /// The certificate is another's.
    #[error("the operator's own certificate names no cluster")]
    Nameless,
    /// The key doesn't fit the certificate, say.
    #[error("use the operator's own certificate: {0}")]
    Unusable(#[from] TlsError),
}

/// For one connection to the agent that `named` makes of the cluster's uid.
///
/// # Errors
/// If the material can't be used.
pub(super) fn client(material: &Material, named: impl FnOnce(String) -> Peer) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let certificates = |text: &str| {
        CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<CertificateDer<'static>>, _>>()
    };
    let chain = certificates(&material.certificate)?;
    let Operator { cluster } = chain.first().and_then(operator).ok_or(Error::Nameless)?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(&material.trusted())?);
    let verifier = Verifier { roots, expected: named(cluster), provider: provider.clone() };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous() // rustls' word for any check but that of a host's name, which a pod has not
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(material.key.as_bytes())?)?;
    config.alpn_protocols = vec![H2.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

fn operator(certificate: &CertificateDer<'static>) -> Option<Operator> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    certificate.valid_uri_names().find_map(|name| name.parse().ok())
}

#[derive(Debug)]
struct Verifier {
    roots: RootCertStore,
    expected: Peer,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        let other = || TlsError::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
        let certificate = webpki::EndEntityCert::try_from(end_entity).map_err(|_| other())?;
        let mut names = certificate.valid_uri_names().filter_map(|name| name.parse::<Peer>().ok());
        match (names.next(), names.next()) {
            (Some(peer), None) if peer == self.expected => Ok(ServerCertVerified::assertion()),
            _ => Err(other()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
