//! The webhook over real HTTPS on loopback: what the API server is answered, and certificates that change meanwhile.
#![allow(clippy::unwrap_used, clippy::panic)] // functions of tests, which clippy doesn't take for tests

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use axum_server::tls_rustls::RustlsConfig;
use decree_crds::DecisionEngine;
use decree_operator::certs::authority::{self, Material};
use decree_operator::certs::profile::Profile;
use decree_operator::certs::tls;
use decree_operator::inject::sidecar::Sidecar;
use decree_operator::metrics::Metrics;
use decree_operator::webhook;
use decree_operator::webhook::engines::{Engines, Error};
use decree_operator::webhook::review::Reviewer;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const NAME: &str = "decree-webhook.decree.svc";
const LIMIT: Duration = Duration::from_secs(10);

/// None: nobody knows the engines yet.
#[derive(Debug)]
struct Fixed(Option<Vec<Arc<DecisionEngine>>>);

#[async_trait]
impl Engines for Fixed {
    async fn of_namespace(&self, _: &str, _: &str) -> Result<Vec<Arc<DecisionEngine>>, Error> {
        self.0.clone().ok_or(Error::NotListed)
    }
}

struct Served {
    address: SocketAddr,
    certificates: RustlsConfig,
    material: Material,
    metrics: Metrics,
    stop: CancellationToken,
}

impl Served {
    fn begin(engines: Option<Vec<Arc<DecisionEngine>>>) -> Self {
        let material = authority::found(&Profile::webhook([NAME.to_owned()]), SystemTime::now()).unwrap();
        let certificates = RustlsConfig::from_config(tls::server(&material).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Metrics::new();
        let sidecar = Sidecar::new("decree/sidecar:test");
        let routes = Reviewer::new(Arc::new(Fixed(engines)), sidecar, metrics.clone()).routes();
        let stop = CancellationToken::new();
        tokio::spawn(webhook::serve(listener, certificates.clone(), routes, stop.clone()));
        Self { address, certificates, material, metrics, stop }
    }

    async fn post(&self, ca: &str, body: String) -> std::io::Result<(u16, String)> {
        let (address, ca) = (self.address, ca.to_owned());
        tokio::task::spawn_blocking(move || post(address, &ca, &body)).await.unwrap()
    }

    async fn review(&self, request: &Value) -> Value {
        let (status, body) = self.post(&self.material.ca, request.to_string()).await.unwrap();
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn post(address: SocketAddr, ca: &str, body: &str) -> std::io::Result<(u16, String)> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connection =
        rustls::ClientConnection::new(Arc::new(config), ServerName::try_from(NAME).unwrap()).unwrap();
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(LIMIT))?;
    let mut stream = rustls::StreamOwned::new(connection, socket);
    write!(
        stream,
        "POST /inject HTTP/1.1\r\nhost: {NAME}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    match stream.read_to_string(&mut answer) {
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => return Err(error),
        _ => {}
    }
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
    Ok((status, answer.split_once("\r\n\r\n").unwrap().1.to_owned()))
}

fn engines() -> Option<Vec<Arc<DecisionEngine>>> {
    let engine = json!({
        "apiVersion": "decree.dev/v1alpha1", "kind": "DecisionEngine",
        "metadata": {"name": "policy", "namespace": "shop"},
        "spec": {
            "kafka": {"bootstrapServers": ["k:9092"]},
            "agents": [{"class": "opa", "app": {"port": 8181}, "apply": {"path": "/d"}}]
        }
    });
    Some(vec![Arc::new(serde_json::from_value(engine).unwrap())])
}

fn question(engine: &str) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "0c9a", "operation": "CREATE", "namespace": "shop", "name": "", "userInfo": {}, "dryRun": false,
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "object": {
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"generateName": "opa-", "creationTimestamp": null, "labels": {"decree.dev/engine": engine}},
                "spec": {"containers": [{"name": "opa"}]}
            },
            "oldObject": null
        }
    })
}

#[tokio::test]
async fn an_agent_is_patched_and_counted() {
    let served = Served::begin(engines());
    let review = served.review(&question("policy")).await;
    let response = &review["response"];
    assert_eq!(response["uid"], "0c9a");
    assert_eq!(response["allowed"], true);
    assert_eq!(response["patchType"], "JSONPatch");
    // Bytes as numbers: Go reads them as it reads base64.
    let patch: Vec<u8> = serde_json::from_value(response["patch"].clone()).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    assert!(!patch.0.is_empty());
    let counted = r#"decree_operator_injections_total{result="injected"} 1"#;
    assert!(served.metrics.text().unwrap().contains(counted));
}

#[tokio::test]
async fn a_refusal_says_what_to_do() {
    let served = Served::begin(engines());
    let review = served.review(&question("polcy")).await;
    let response = &review["response"];
    assert_eq!(response["allowed"], false);
    assert_eq!(response["status"]["code"], 422);
    assert!(response["status"]["message"].as_str().unwrap().contains("there is only policy"), "{response}");
    assert!(response["patch"].is_null());
}

#[tokio::test]
async fn garbage_is_an_answer() {
    let served = Served::begin(engines());
    let mut no_pod = question("policy");
    no_pod["request"]["object"] = json!({"metadata": 7});
    for garbage in ["", "{", "[]", r#"{"kind":"AdmissionReview"}"#, &no_pod.to_string()] {
        let (status, _) = served.post(&served.material.ca, garbage.to_owned()).await.unwrap();
        assert_eq!(status, 400, "{garbage}");
    }
    let (status, _) =
        served.post(&served.material.ca, " ".repeat(5 << 20)).await.unwrap_or((413, String::new()));
    assert_eq!(status, 413);
}

#[tokio::test]
async fn before_the_engines_are_known_nobody_is_refused_for_good() {
    let served = Served::begin(None);
    let (status, body) = served.post(&served.material.ca, question("policy").to_string()).await.unwrap();
    assert_eq!(status, 503, "{body}");
}

#[tokio::test]
async fn certificates_change_without_a_restart() {
    let served = Served::begin(engines());
    let profile = Profile::webhook([NAME.to_owned()]);
    let renewed = authority::renew(&served.material, &profile, SystemTime::now()).unwrap();
    served.certificates.reload_from_config(tls::server(&renewed).unwrap());
    served.review(&question("policy")).await;

    let foreign = authority::found(&profile, SystemTime::now()).unwrap();
    served.certificates.reload_from_config(tls::server(&foreign).unwrap());
    let body = question("policy").to_string();
    assert!(
        served.post(&served.material.ca, body.clone()).await.is_err(),
        "the old authority is not trusted"
    );
    assert_eq!(served.post(&foreign.ca, body).await.unwrap().0, 200);
}

#[tokio::test]
async fn a_crowd_that_speaks_no_tls_leaves_room_for_the_api_server() {
    let served = Served::begin(engines());
    let mut crowd = Vec::new();
    for n in 0..400 {
        let mut stream = tokio::net::TcpStream::connect(served.address).await.unwrap();
        let said: &[u8] =
            [&b""[..], b"GET /inject HTTP/1.1\r\nhost: a\r\n\r\n", b"\x16\x03\x01\xff\xff"][n % 3];
        tokio::io::AsyncWriteExt::write_all(&mut stream, said).await.unwrap();
        crowd.push(stream);
    }
    assert_eq!(served.review(&question("policy")).await["response"]["allowed"], true);
    drop(crowd);
    assert_eq!(served.review(&question("policy")).await["response"]["allowed"], true);
}
