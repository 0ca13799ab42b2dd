//! A certificate is asked for with the pod's token, over TLS to the operator and nobody else.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::routing::post;
use axum::{Json, Router};
use decree_sidecar::peers::identity::Identity;
use decree_sidecar::peers::issued::{Error, Issuer, issue};
use decree_wire::issuance::{Issued, PATH, Request};
use http::{HeaderMap, StatusCode};
use rcgen::CertificateSigningRequestParams;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::authority::{Authority, peer, scope};

const TOKEN: &str = "token-of-a-1";

/// An operator that knows one token.
async fn operator(authority: Arc<Authority>, serving: &Authority) -> SocketAddr {
    let answer = move |headers: HeaderMap, Json(request): Json<Request>| async move {
        if headers["authorization"] != format!("Bearer {TOKEN}") {
            return Err((StatusCode::UNAUTHORIZED, "the token is not good"));
        }
        let asked = CertificateSigningRequestParams::from_pem(&request.signing_request).unwrap();
        let certificate = authority.sign_key(&peer("a-1"), &asked.public_key);
        Ok(Json(Issued {
            certificate,
            authorities: authority.certificate.clone(),
            renew_after_seconds: 3600,
        }))
    };
    let router = Router::new().route(PATH, post(answer));
    let (certificate, key) = serving.sign_host("localhost");
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let service = hyper_util::service::TowerToHyperService::new(router.clone());
            let io = hyper_util::rt::TokioIo::new(stream);
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
        }
    });
    address
}

#[tokio::test]
async fn a_token_brings_a_certificate_whose_key_was_made_here() {
    let (peers, serving) = (Arc::new(Authority::new("peers")), Authority::new("serving"));
    let address = operator(peers, &serving).await;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    let issuer = |authorities: &Authority| Issuer {
        address: format!("localhost:{}", address.port()),
        authorities: authorities.certificate.clone(),
    };
    assert!(matches!(issue(&issuer(&serving), &token).await, Err(Error::Token(..))));
    std::fs::write(&token, "another").unwrap();
    let refused = issue(&issuer(&serving), &token).await;
    assert!(matches!(refused, Err(Error::Refused { status: 401, .. })), "{refused:?}");
    std::fs::write(&token, format!("{TOKEN}\n")).unwrap();
    let stranger = issue(&issuer(&Authority::new("stranger")), &token).await;
    assert!(matches!(stranger, Err(Error::Unreachable(..))), "{stranger:?}");
    let (material, after) = issue(&issuer(&serving), &token).await.unwrap();
    assert_eq!(after.as_secs(), 3600);
    let identity = Identity::read(&material, scope(&peer("a-1")), "a-1").unwrap();
    assert_eq!(*identity.own(), peer("a-1"));
}
