//! Calls to a real server on the loopback, whose certificate the operator's own authority has signed.

use std::time::SystemTime;

use decree_wire::identity::Operator;
use hyper::server::conn::http2 as server;
use hyper::service::service_fn;
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::certs::authority::{self, Material};
use crate::certs::profile::Profile;
use crate::identity::issue::issue;

const PEER: &str = "decree://c-1/shop/policy/opa-0/u-1";

fn material() -> Material {
    let operator = Operator { cluster: "c-1".into() };
    authority::found(&Profile::peers(operator.to_string()), SystemTime::now()).unwrap()
}

fn config(material: &Material) -> ServerConfig {
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let issued = issue(material, &PEER.parse().unwrap(), &request, SystemTime::now()).unwrap();
    let certificates = |text: &str| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(text.as_bytes()).map(Result::unwrap).collect()
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(&issued.authorities));
    let provider = Arc::new(ring::default_provider());
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(certificates(&issued.certificate), key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let (status, answer) = match path.as_str() {
        "/echo" => (200, if body.is_empty() { Bytes::from_static(b"\"nothing\"") } else { body }),
        "/done" => (204, Bytes::new()),
        "/never" => std::future::pending().await,
        _ => (409, Bytes::from_static(b"another membership is in effect")),
    };
    Ok(Response::builder().status(status).body(Full::new(answer)).unwrap())
}

/// Serves until the test ends, and counts connections.
async fn agent(material: &Material) -> (Agent, watch::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let acceptor = TlsAcceptor::from(Arc::new(config(material)));
    let (count, counted) = watch::channel(0);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.send_modify(|count| *count += 1);
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let connection = server::Builder::new(TokioExecutor::new());
                drop(connection.serve_connection(TokioIo::new(stream), service_fn(answer)).await);
            });
        }
    });
    let text = str::to_owned;
    let agent = Agent {
        namespace: text("shop"),
        engine: text("policy"),
        pod: text("opa-0"),
        uid: text("u-1"),
        address,
    };
    (agent, counted)
}

fn calls(material: &Material) -> Calls {
    Calls::new(watch::channel(Some(Arc::new(material.clone()))).1)
}

#[tokio::test]
async fn the_agent_that_is_meant_answers_over_one_connection() {
    let material = material();
    let (agent, connections) = agent(&material).await;
    let calls = calls(&material);
    let asked: Value = calls.get(&agent, "/echo").await.unwrap();
    assert_eq!(asked, json!("nothing"));
    let told: Value = calls.post(&agent, "/echo", &json!({"a": 1})).await.unwrap();
    assert_eq!(told, json!({"a": 1}));
    calls.post::<_, ()>(&agent, "/done", &()).await.unwrap();
    let refused = calls.post::<_, ()>(&agent, "/other", &()).await.unwrap_err();
    let why = "another membership is in effect".to_owned();
    assert_eq!(refused, Error::Refused { agent: agent.to_string(), status: 409, why });
    assert!(matches!(calls.get::<u8>(&agent, "/echo").await, Err(Error::Unreadable { .. })));
    assert_eq!(*connections.borrow(), 1);
}

#[tokio::test]
async fn whoever_else_answers_there_gets_no_question() {
    let material = material();
    let (agent, _) = agent(&material).await;
    let next = Agent { uid: "u-2".into(), ..agent.clone() };
    let refused = calls(&material).get::<Value>(&next, "/echo").await.unwrap_err();
    assert!(refused.is_unsent(), "{refused}");
    let other = authority::found(&Profile::peers("decree://c-1".into()), SystemTime::now()).unwrap();
    let refused = calls(&other).get::<Value>(&agent, "/echo").await.unwrap_err();
    assert!(refused.is_unsent(), "{refused}");
    let none = Calls::new(watch::channel(None).1);
    let refused = none.get::<Value>(&agent, "/echo").await.unwrap_err();
    assert!(refused.is_unsent() && refused.to_string().contains("authority"), "{refused}");
}

#[tokio::test]
async fn an_agent_that_says_nothing_may_have_heard_and_the_next_call_is_on_another_connection() {
    let material = material();
    let (agent, connections) = agent(&material).await;
    let calls = calls(&material);
    let silent = calls.post::<_, ()>(&agent, "/never", &()).await.unwrap_err();
    assert!(matches!(silent, Error::NoAnswer { .. }) && silent.retryable(), "{silent}");
    calls.post::<_, ()>(&agent, "/done", &()).await.unwrap();
    assert_eq!(*connections.borrow(), 2);
}
