//! Whom this agent takes for a peer: whom its authorities vouch for, in its own engine, and whose pod still is. And the operator
//! of its cluster.

use std::collections::BTreeSet;
use std::sync::Arc;

use decree_wire::identity::Operator;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, RootCertStore};

use super::caller::Caller;
use super::refusal::{Reason, Refusal};

/// The agents that may be peers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The uid of the cluster's `kube-system` namespace.
    pub cluster: String,
    /// The engine's namespace.
    pub namespace: String,
    /// The engine.
    pub engine: String,
    /// Uids of pods that were deleted while their certificates are still valid.
    pub gone: BTreeSet<String>,
}

impl Scope {
    fn takes(&self, caller: &Caller) -> Result<(), (Reason, String)> {
        let Self { cluster, namespace, engine, gone } = self;
        let peer = match caller {
            Caller::Operator(operator) if operator.cluster == *cluster => return Ok(()),
            Caller::Operator(_) => {
                let why = format!("it is the operator of another cluster than {cluster}");
                return Err((Reason::Engine, why));
            }
            Caller::Peer(peer) => peer,
        };
        if (&peer.cluster, &peer.namespace, &peer.engine) != (cluster, namespace, engine) {
            let why = format!("it is of another engine than {namespace}/{engine} of cluster {cluster}");
            return Err((Reason::Engine, why));
        }
        if gone.contains(&peer.uid) {
            return Err((Reason::Gone, "its pod was deleted".into()));
        }
        Ok(())
    }
}

/// Which end of a connection shows the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Client,
    Server,
}

/// What certificates are checked against.
#[derive(Debug)]
pub(super) struct Trust {
    scope: Scope,
    roots: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
    pub(super) provider: Arc<CryptoProvider>,
}

impl Trust {
    /// # Errors
    /// If there is no authority among the roots.
    pub(super) fn new(
        scope: Scope,
        roots: RootCertStore,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, rustls::server::VerifierBuilderError> {
        let roots = Arc::new(roots);
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build()?;
        Ok(Self { scope, roots, clients, provider })
    }

    pub(super) fn hints(&self) -> &[rustls::DistinguishedName] {
        self.clients.root_hint_subjects()
    }

    /// Who shows this certificate; else why it is refused, and the same in TLS' words.
    pub(super) fn check(
        &self,
        end: End,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Caller, (Refusal, rustls::Error)> {
        let name = name(certificate);
        let claimed = name.as_ref().map(ToString::to_string);
        let refuse = |reason, message: String, error| {
            Err((Refusal { reason, claimed: claimed.clone(), message }, error))
        };
        if let Err(error) = self.vouched(end, certificate, between, now) {
            return refuse(reason(&error), error.to_string(), error);
        }
        // TLS has no better word for a certificate that is good, and not for here.
        let other = || rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
        // The operator calls, and is never called here.
        let caller = name.filter(|caller| end == End::Client || caller.peer().is_some());
        let Some(caller) = caller else {
            return refuse(Reason::Name, "its certificate names no agent".into(), other());
        };
        match self.scope.takes(&caller) {
            Ok(()) => Ok(caller),
            Err((reason, why)) => refuse(reason, why, other()),
        }
    }

    fn vouched(
        &self,
        end: End,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        match end {
            End::Client => self.clients.verify_client_cert(certificate, between, now).map(drop),
            End::Server => {
                let parsed = ParsedCertificate::try_from(certificate)?;
                let algorithms = self.provider.signature_verification_algorithms.all;
                verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, between, now, algorithms)
            }
        }
    }
}

/// Whom a certificate names, whoever vouches for it.
pub(super) fn name(certificate: &CertificateDer<'_>) -> Option<Caller> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let peer = |name: &str| name.parse().map(Caller::Peer).ok();
    let operator = |name: &str| name.parse::<Operator>().map(Caller::Operator).ok();
    let mut names = certificate.valid_uri_names().filter_map(|name| peer(name).or_else(|| operator(name)));
    // Of a certificate for two nobody could say which one of them it is.
    names.next().filter(|_| names.next().is_none())
}

fn reason(error: &rustls::Error) -> Reason {
    match error {
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => Reason::Expired,
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => Reason::NotYetValid,
        _ => Reason::Authority,
    }
}
