//! The check as an application sees it, over real connections.

use std::sync::Arc;

use decree_wire::probe::{Check, HttpGet, Scheme, TcpSocket};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// Answers the requests in turn, and gives what was asked.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, answer: &str) -> String {
    let (mut asked, mut buffer) = (Vec::new(), [0; 4096]);
    while !asked.ends_with(b"\r\n\r\n") {
        let size = stream.read(&mut buffer).await.unwrap();
        assert_ne!(size, 0, "it ended in the middle of a request");
        asked.extend_from_slice(&buffer[..size]);
    }
    stream.write_all(answer.as_bytes()).await.unwrap();
    let _ = stream.shutdown().await; // it may have hung up already
    String::from_utf8(asked).unwrap().to_ascii_lowercase()
}

async fn application(answers: Vec<String>) -> (u16, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let mut asked = Vec::new();
        for answer in answers {
            asked.push(serve(listener.accept().await.unwrap().0, &answer).await);
        }
        asked
    });
    (port, task)
}

fn get(port: u16, path: &str) -> HttpGet {
    HttpGet { path: path.into(), port, scheme: Scheme::Http, host: None, headers: vec![] }
}

fn answer(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

async fn asks(get: HttpGet) -> Result<(), String> {
    check(&Check::HttpGet(get), "127.0.0.1").await
}

#[tokio::test]
async fn it_asks_as_the_kubelet_does() {
    let (port, task) = application(vec![answer("204 No Content", "")]).await;
    let headers =
        vec![("X-Token".into(), "1".into()), ("x-token".into(), "2".into()), ("Host".into(), "app".into())];
    asks(HttpGet { headers, ..get(port, "health?full") }).await.unwrap();
    let asked = task.await.unwrap().remove(0);
    assert!(asked.starts_with("get /health?full http/1.1\r\n"), "{asked}");
    for part in ["host: app\r\n", "x-token: 1\r\nx-token: 2\r\n", "user-agent: kube-probe/"] {
        assert!(asked.contains(part), "{part:?} in {asked}");
    }
    assert!(!asked.contains("127.0.0.1"), "the user's host replaces its own: {asked}");
}

#[tokio::test]
async fn redirections_are_followed_on_the_same_host() {
    let there = answer("302 Found\r\nlocation: /deep?a", "");
    let (port, task) = application(vec![there.clone(), answer("503 Unavailable", "down")]).await;
    assert_eq!(asks(get(port, "/")).await.unwrap_err(), "GET /deep?a answered 503 Service Unavailable");
    assert!(task.await.unwrap()[1].starts_with("get /deep?a "));
    let elsewhere = answer("301 Moved\r\nlocation: https://elsewhere.example/", "");
    let (port, _task) = application(vec![elsewhere]).await;
    asks(get(port, "/")).await.unwrap();
    let (port, _task) = application(vec![there; 11]).await;
    assert!(asks(get(port, "/")).await.unwrap_err().contains("more than 10 times"));
}

#[tokio::test]
async fn an_endless_answer_is_an_answer_and_a_broken_one_is_none() {
    let endless = format!("HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n{}", "x".repeat(64 << 10));
    let (port, _task) = application(vec![endless]).await;
    asks(get(port, "/")).await.unwrap();
    let (port, _task) = application(vec!["HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nx".into()]).await;
    assert!(asks(get(port, "/")).await.unwrap_err().contains("broke off"));
}

#[tokio::test]
async fn a_certificate_is_not_looked_at() {
    let made = rcgen::generate_simple_self_signed(vec!["another.example".into()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let stream = listener.accept().await.unwrap().0;
        let stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await.unwrap();
        serve(stream, &answer("200 OK", "well")).await
    });
    asks(HttpGet { scheme: Scheme::Https, ..get(port, "/") }).await.unwrap();
    assert!(task.await.unwrap().starts_with("get / http/1.1"));
}

#[tokio::test]
async fn a_port_that_accepts_is_enough_where_that_is_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tcp = |host: Option<&str>| Check::TcpSocket(TcpSocket { port, host: host.map(str::to_owned) });
    check(&tcp(None), "127.0.0.1").await.unwrap();
    check(&tcp(Some("127.0.0.1")), "192.0.2.1").await.unwrap();
    drop(listener);
    assert!(check(&tcp(None), "127.0.0.1").await.unwrap_err().contains("connect to 127.0.0.1"));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_checked_until_somebody_asks_and_the_threshold_is_the_users() {
    // Nobody listens on port 1.
    let liveness = Liveness {
        check: Check::TcpSocket(TcpSocket { port: 1, host: None }),
        period_seconds: 2,
        timeout_seconds: 1,
        failure_threshold: 3,
        success_threshold: 1,
    };
    let probe = Arc::new(Probe::new(Some(liveness), "127.0.0.1".into()));
    let stop = CancellationToken::new();
    let run = tokio::spawn({
        let (probe, stop) = (Arc::clone(&probe), stop.clone());
        async move { probe.run(stop).await }
    });
    tokio::time::sleep(Duration::from_secs(100)).await;
    let mut told = 0;
    while probe.ask(Instant::now()).is_ok() {
        told += 1;
        assert!(told < 100, "it never fails");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!((4..=7).contains(&told), "three checks two seconds apart, asked every second: {told}");
    stop.cancel();
    run.await.unwrap();
}
