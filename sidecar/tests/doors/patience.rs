//! Clients that are slow, idle or many: each has a limit, and those that work are served meanwhile.

use std::time::Duration;

use decree_sidecar::app::scripted::Act;
use decree_sidecar::serve::{Limits, Patience};
use decree_wire::document::Reads;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::agent::{apply, replicating, start_within};
use super::http::send;
use super::raw::{closes, connect, exchange, read_until};

const SHORT: Patience =
    Patience { head: Duration::from_secs(1), idle: Duration::from_secs(3), pause: Duration::from_secs(2) };

fn limits(connections: usize) -> Limits {
    Limits { connections, patience: SHORT }
}

#[tokio::test]
async fn a_dribbled_head_and_an_idle_connection_are_ended_and_a_working_one_is_not() {
    let agent = start_within(apply(), 1, limits(64)).await;
    agent.app.then([Act::Hang]);
    let mut works = connect(&agent.api).await;
    let request = b"POST /v1/commands HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx";
    works.write_all(request).await.unwrap();

    let mut idle = connect(&agent.health).await;
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(read_until(&mut idle, "ok\n").await.starts_with("HTTP/1.1 200 OK"));
    let (mut reads, mut writes) = connect(&agent.replicate).await.into_split();
    let dribble = tokio::spawn(async move {
        let head = b"GET / HTTP/1.1\r\nhost: a\r\nx: ".iter().chain(std::iter::repeat(&b'y'));
        for byte in head {
            if writes.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let mut said = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(60), reads.read_to_end(&mut said)).await.unwrap();
    assert!(said.is_empty(), "{}", String::from_utf8_lossy(&said));
    drop(reads);
    dribble.await.unwrap();
    assert!(closes(&mut connect(&agent.api).await).await, "one that never says anything");
    assert!(closes(&mut idle).await);

    agent.app.release();
    assert!(
        read_until(&mut works, "\r\n\r\nx").await.starts_with("HTTP/1.1 200 OK"),
        "work has no limit here"
    );
}

#[tokio::test]
async fn a_body_that_stops_coming_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = axum::Router::new().fallback(|body: String| async move { body });
    tokio::spawn(async move { axum::serve(listener, router).await });
    let agent = start_within(replicating(Reads::Local), port, limits(64)).await;
    for (line, status) in [("PUT /v1/x", "400 Bad Request"), ("PUT /other", "408 Request Timeout")] {
        let half = format!("{line} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 9\r\n\r\nx");
        let answer = exchange(&agent.replicate, half.as_bytes()).await;
        assert_eq!(answer.lines().next(), Some(format!("HTTP/1.1 {status}").as_str()), "{answer}");
    }
    assert_eq!(send("PUT", &format!("{}/other", agent.replicate), &[], "x").await.text(), "x");
}

#[tokio::test]
async fn the_one_that_is_idle_for_longest_makes_room_and_among_working_ones_the_newest_is_refused() {
    let usual = Limits::of(4);
    let agent = start_within(apply(), 1, usual).await;
    let mut idle = Vec::new();
    for _ in 0..4 {
        idle.push(connect(&agent.health).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(send("GET", &format!("{}/livez", agent.health), &[], "").await.status, 200);
    assert!(closes(&mut idle[0]).await, "the oldest made room");
    for stream in &mut idle[1..] {
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        assert!(read_until(stream, "ok\n").await.starts_with("HTTP/1.1 200 OK"), "the others did not");
    }

    agent.app.then([Act::Hang]);
    let mut works = Vec::new();
    for _ in 0..4 {
        let mut stream = connect(&agent.api).await;
        let request = b"POST /v1/commands HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx";
        stream.write_all(request).await.unwrap();
        works.push(stream);
    }
    let proposals = || agent.agent.engine().unwrap().proposer.outstanding();
    while proposals() < 4 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let refused = exchange(&agent.api, b"GET /v1/status HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{refused}");
    assert!(refused.contains("retry-after: 1\r\n") && refused.contains("urn:decree:problem:unavailable"));
    assert_eq!(send("GET", &format!("{}/livez", agent.health), &[], "").await.status, 200);
    agent.app.release();
    for stream in &mut works {
        assert!(read_until(stream, "\r\n\r\nx").await.starts_with("HTTP/1.1 200 OK"));
    }
    assert_eq!(send("GET", &format!("{}/v1/status", agent.api), &[], "").await.status, 200);
}

/// A client whose kernel takes little for it.
async fn slow(door: &str, request: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(door.strip_prefix("http://").unwrap().parse().unwrap()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn who_does_not_read_loses_the_stream_and_others_get_its_place() {
    let agent = start_within(apply(), 1, limits(64)).await;
    let url = format!("{}/v1/commands", agent.api);
    for _ in 0..16 {
        send("POST", &url, &[("prefer", "respond-async")], vec![b'x'; 1000 << 10]).await;
    }
    let request = "GET /v1/decisions?from=earliest HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(slow(&agent.api, request).await);
    }
    let decisions = format!("{}/v1/decisions?from=99", agent.api);
    let full = || async { send("GET", &decisions, &[], "").await.status == 429 };
    while !full().await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    while full().await {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let beyond = send("GET", &decisions, &[], "").await;
    assert_eq!(beyond.problem(), "behind-the-end", "there is a place again");
}
