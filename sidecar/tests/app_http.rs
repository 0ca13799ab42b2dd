//! Deliveries over HTTP: what is sent, which connection it goes over, and how each end is told from the others.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use decree_sidecar::app::http::{HttpApp, Settings, Target};
use decree_sidecar::app::{App, Connected, Delivery, End, Outcome, Unwell};
use decree_wire::command::{Command, Identity, Request};
use decree_wire::delivery::Place;
use decree_wire::position::{Incarnation, Position};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

const OK: &str =
    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: text/plain\r\nconnection: keep-alive\r\n\r\nok";

/// An application that answers every request with the same bytes, and may then close.
struct Server {
    port: u16,
    requests: mpsc::Receiver<String>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn start(answer: &'static str, close: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, requests) = mpsc::channel(256);
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let sender = sender.clone();
                tokio::spawn(async move {
                    while let Some(request) = read(&mut stream).await {
                        sender.send(request).await.unwrap();
                        stream.write_all(answer.as_bytes()).await.unwrap();
                        if close {
                            return;
                        }
                    }
                });
            }
        });
        Self { port, requests, connections }
    }

    fn app(&self, target: Target, health_path: Option<&str>) -> HttpApp {
        HttpApp::new(Settings {
            port: self.port,
            target,
            health_path: health_path.map(str::to_owned),
            overdue_after: Duration::from_secs(30),
            deliver_headers: http::HeaderMap::new(),
        })
    }

    fn apply(&self) -> HttpApp {
        self.app(Target::Apply { path: "/decisions".into() }, None)
    }
}

/// A request with the body that its length announces; none when the connection ends.
async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return Some(text);
            }
        }
        let mut part = [0; 4096];
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&part[..read]),
        }
    }
}

async fn deliver(app: &HttpApp, command: &Command) -> Result<Outcome, End> {
    let incarnation = Incarnation("t".into());
    let identity = Identity { source: "s".into(), id: "1".into() };
    let place = Place { incarnation: &incarnation, position: Position(7), log_time: 0 };
    app.deliver(&Delivery { command, identity: &identity, place }).await
}

fn command() -> Command {
    Command { payload: Bytes::from_static(b"hello"), ..Command::default() }
}

#[tokio::test]
async fn a_command_is_posted_and_its_answer_is_the_outcome() {
    let mut server = Server::start(OK, false).await;
    let app = server.apply();
    assert_eq!(app.connect().await, Ok(Connected::Fresh));
    let outcome = deliver(&app, &command()).await.unwrap();
    assert_eq!((outcome.status, outcome.body.as_ref()), (200, &b"ok"[..]));
    assert_eq!(outcome.headers, [("content-type".to_owned(), Bytes::from_static(b"text/plain"))]);
    let request = server.requests.recv().await.unwrap();
    assert!(request.starts_with("POST /decisions HTTP/1.1\r\n"), "{request}");
    for line in ["ce-id: 1\r\n", "decree-position: 7\r\n", "host: 127.0.0.1:", "\r\n\r\nhello"] {
        assert!(request.contains(line), "{line:?} in {request}");
    }
}

#[tokio::test]
async fn deliveries_get_the_engines_headers_and_the_health_check_does_not() {
    let mut server = Server::start(OK, true).await;
    let app = server.app(Target::Apply { path: "/decisions".into() }, Some("/health"));
    let settings = |token| Settings {
        port: server.port,
        target: Target::Apply { path: "/decisions".into() },
        health_path: Some("/health".into()),
        overdue_after: Duration::from_secs(30),
        deliver_headers: [(http::header::AUTHORIZATION, http::HeaderValue::from_static(token))]
            .into_iter()
            .collect(),
    };
    for token in ["Bearer one", "Bearer two"] {
        app.configure(settings(token));
        app.connect().await.unwrap();
        deliver(&app, &command()).await.unwrap();
        let checked = server.requests.recv().await.unwrap();
        assert!(checked.starts_with("GET /health") && !checked.contains("authorization"), "{checked}");
        let delivered = server.requests.recv().await.unwrap();
        assert!(delivered.contains(&format!("authorization: {token}\r\n")), "{delivered}");
    }
}

#[tokio::test]
async fn a_request_is_replayed_as_it_was_without_what_was_the_connections() {
    let mut server = Server::start(OK, false).await;
    let app = server.app(Target::Replicate, None);
    let header = |name: &str, value: &'static str| (name.to_owned(), Bytes::from_static(value.as_bytes()));
    let headers =
        vec![header("x-a", "1"), header("transfer-encoding", "chunked"), header("content-length", "999")];
    let request = Request { method: "PATCH".into(), target: "/v1/a%20b?c=d".into(), headers };
    app.connect().await.unwrap();
    deliver(&app, &Command { request: Some(request), ..command() }).await.unwrap();
    let request = server.requests.recv().await.unwrap();
    assert!(request.starts_with("PATCH /v1/a%20b?c=d HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("x-a: 1\r\n") && request.contains("content-length: 5\r\n"), "{request}");
    assert!(!request.contains("chunked"), "{request}");
}

#[tokio::test]
async fn a_connection_is_kept_and_not_used_after_a_second_of_rest() {
    let server = Server::start(OK, false).await;
    let app = server.apply();
    assert_eq!(app.connect().await, Ok(Connected::Fresh));
    for _ in 0..3 {
        deliver(&app, &command()).await.unwrap();
        assert_eq!(app.connect().await, Ok(Connected::Kept));
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(app.connect().await, Ok(Connected::Fresh));
}

#[tokio::test]
async fn nothing_goes_over_a_connection_that_was_given_up() {
    let server = Server::start(OK, false).await;
    let app = server.apply();
    app.connect().await.unwrap();
    deliver(&app, &command()).await.unwrap();
    assert_eq!(app.connect().await, Ok(Connected::Kept));
    app.disconnect().await;
    assert!(matches!(deliver(&app, &command()).await, Err(End::NotConnected(_))));
    assert_eq!(app.connect().await, Ok(Connected::Fresh));
    deliver(&app, &command()).await.unwrap();
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_connection_that_the_application_closed_is_not_used() {
    let server = Server::start(OK, true).await;
    let app = server.apply();
    app.connect().await.unwrap();
    for _ in 0..50 {
        deliver(&app, &command()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(app.connect().await, Ok(Connected::Fresh));
    }
}

#[tokio::test]
async fn closed_before_the_first_byte_is_not_connected() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let target = Target::Apply { path: "/".into() };
    let app = HttpApp::new(Settings {
        port,
        target,
        health_path: None,
        overdue_after: Duration::from_secs(1),
        deliver_headers: http::HeaderMap::new(),
    });
    assert!(matches!(deliver(&app, &command()).await, Err(End::NotConnected(_))), "nothing was connected");
    app.connect().await.unwrap();
    drop(listener.accept().await.unwrap());
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(matches!(deliver(&app, &command()).await, Err(End::NotConnected(_))));
}

#[tokio::test]
async fn lost_after_the_first_byte_is_in_doubt() {
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-le", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"] {
        let server = Server::start(answer, true).await;
        let app = server.apply();
        app.connect().await.unwrap();
        let end = deliver(&app, &command()).await;
        assert!(matches!(end, Err(End::Lost(_))), "after {answer:?}: {end:?}");
        assert_eq!(app.connect().await, Ok(Connected::Fresh));
    }
}

#[tokio::test]
async fn delivery_waits_behind_health() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let target = Target::Apply { path: "/".into() };
    let app = HttpApp::new(Settings {
        port,
        target,
        health_path: None,
        overdue_after: Duration::from_secs(1),
        deliver_headers: http::HeaderMap::new(),
    });
    assert_eq!(app.healthy().await, Ok(()), "its port accepts");
    drop(listener);
    assert!(matches!(app.connect().await, Err(Unwell::Unreachable { .. })));
    assert!(matches!(app.healthy().await, Err(Unwell::Unreachable { .. })));

    let mut sick = Server::start("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", false).await;
    let app = sick.app(Target::Replicate, Some("/health?full"));
    assert!(matches!(app.connect().await, Err(Unwell::Unhealthy { .. })));
    assert!(sick.requests.recv().await.unwrap().starts_with("GET /health?full HTTP/1.1"));

    let well = Server::start("HTTP/1.1 204 Yes\r\n\r\n", false).await;
    let app = well.app(Target::Replicate, Some("/health"));
    assert_eq!(app.connect().await, Ok(Connected::Fresh));
}
