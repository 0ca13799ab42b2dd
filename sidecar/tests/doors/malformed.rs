//! What is no request, half of one or two at once: each door answers it clearly, and serves the next client.

use axum::Router;
use decree_wire::document::Reads;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::agent::{Running, apply, replicating, start};
use super::http::send;
use super::raw::{connect, exchange, read_until, resident_mib};

/// Generous: a build for tests, with everything else that this process tests.
const RESIDENT_MIB: u64 = 600;

/// Every door still serves.
async fn still_serves(agent: &Running) {
    let command = send("POST", &format!("{}/v1/commands", agent.api), &[], "x").await;
    assert_ne!(command.status.as_u16() / 100, 5, "{command:?}");
    assert_eq!(send("GET", &format!("{}/readyz", agent.health), &[], "").await.status, 200);
    let through = send("PUT", &format!("{}/v1/x", agent.replicate), &[], "x").await;
    assert!(through.header("decree-position").is_some() || through.problem() == "not-found", "{through:?}");
    assert!(resident_mib() < RESIDENT_MIB, "{} MiB resident", resident_mib());
}

fn with_headers(headers: &str) -> Vec<u8> {
    format!("GET /status HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n").into_bytes()
}

/// What every door says to what is no request: the first line, nothing at all for what speaks another protocol.
fn no_requests() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let bad = "HTTP/1.1 400 Bad Request";
    let large = "HTTP/1.1 431 Request Header Fields Too Large";
    let many: String = (0..101).map(|n| format!("x-{n}: 1\r\n")).collect();
    let noise: Vec<u8> = (0..9000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 | 0x80).collect();
    vec![
        ("a TLS client's first bytes", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), bad),
        ("noise", noise, bad),
        ("zeroes", vec![0; 5000], bad),
        ("HTTP/2 with prior knowledge", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(), ""),
        ("HTTP/0.9", b"GET /\r\n\r\n".to_vec(), bad),
        ("HTTP/3.0", b"GET / HTTP/3.0\r\nhost: a\r\n\r\n".to_vec(), bad),
        ("no host", b"GET /status HTTP/1.1\r\nconnection: close\r\n\r\n".to_vec(), bad),
        ("two hosts", with_headers("host: b\r\n"), bad),
        ("a header without a name", with_headers(": 1\r\n"), bad),
        ("a header's name with a space", with_headers("x y: 1\r\n"), bad),
        ("a space before the colon", with_headers("x : 1\r\n"), bad),
        ("a folded header", with_headers("x: 1\r\n 2\r\n"), bad),
        ("a header with a NUL", with_headers("x: a\0b\r\n"), bad),
        ("too many headers", with_headers(&many), large),
        ("a header that is too large", with_headers(&format!("x: {}\r\n", "y".repeat(40 << 10))), large),
        (
            "a header without an end",
            format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(64 << 10)).into_bytes(),
            large,
        ),
        ("two lengths", with_headers("content-length: 1\r\ncontent-length: 2\r\n"), bad),
        ("a length below zero", with_headers("content-length: -1\r\n"), bad),
        ("a length with a sign", with_headers("content-length: +1\r\n"), bad),
        ("a length beyond numbers", with_headers("content-length: 99999999999999999999\r\n"), bad),
        ("a coding that is not chunked", with_headers("transfer-encoding: gzip\r\n"), bad),
        ("chunked and then another", with_headers("transfer-encoding: chunked, gzip\r\n"), bad),
        (
            "another below chunked",
            with_headers("transfer-encoding: gzip, chunked\r\n"),
            "HTTP/1.1 501 Not Implemented",
        ),
    ]
}

#[tokio::test]
async fn every_door_answers_what_is_no_request() {
    let agent = start(apply(), 1).await;
    for door in [&agent.api, &agent.health, &agent.replicate] {
        for (what, bytes, expected) in no_requests() {
            let answer = exchange(door, &bytes).await;
            assert_eq!(answer.lines().next().unwrap_or_default(), expected, "{what}: {answer}");
        }
    }
    still_serves(&agent).await;
}

async fn application() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new().fallback(|body: String| async move { body });
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

#[tokio::test]
async fn a_proxy_is_not_led_astray() {
    let agent = start(replicating(Reads::Local), application().await).await;
    let request = |line: &str, rest: &str| {
        format!("{line} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{rest}").into_bytes()
    };
    for (what, bytes, expected, position) in [
        ("absolute form", request("PUT http://b/v1/x", "content-length: 1\r\n\r\nx"), "200 OK", true),
        ("absolute form, read", request("GET http://b/v1/x", "\r\n"), "200 OK", false),
        ("a tunnel", request("CONNECT b:443", "\r\n"), "501 Not Implemented", false),
        ("an upgrade", request("GET /", "upgrade: websocket\r\n\r\n"), "501 Not Implemented", false),
        (
            "an offer of h2c",
            request("GET /v1/x", "upgrade: h2c\r\nhttp2-settings: AA\r\n\r\n"),
            "200 OK",
            false,
        ),
        ("asterisk form", request("OPTIONS *", "\r\n"), "400 Bad Request", false),
        (
            "a method in the query",
            request("POST /v1/x?_method=put", "content-length: 1\r\n\r\nx"),
            "200 OK",
            true,
        ),
        (
            "a long target",
            request(&format!("PUT /v1/{}", "x".repeat(9000)), "\r\n"),
            "414 URI Too Long",
            false,
        ),
        (
            "two keys",
            request("PUT /v1/x", "idempotency-key: a\r\nidempotency-key: b\r\n\r\n"),
            "400 Bad Request",
            false,
        ),
        (
            "a key that is no text",
            request("PUT /v1/x", "idempotency-key: \u{e9}\r\n\r\n"),
            "400 Bad Request",
            false,
        ),
    ] {
        let answer = exchange(&agent.replicate, &bytes).await;
        assert_eq!(answer.lines().next(), Some(format!("HTTP/1.1 {expected}").as_str()), "{what}: {answer}");
        assert_eq!(answer.contains("decree-position"), position, "{what}: {answer}");
    }
    still_serves(&agent).await;
}

#[tokio::test]
async fn of_two_framings_one_holds_and_nothing_is_smuggled_behind_it() {
    let agent = start(apply(), 1).await;
    let request =
        b"POST /v1/commands HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n\
        1\r\nA\r\n0\r\n\r\nPOST /v1/commands HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nB";
    let answer = exchange(&agent.api, request).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("\r\n\r\nA"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "the connection ends behind it: {answer}");
    assert_eq!(agent.app.positions(), [1]);
    still_serves(&agent).await;
}

#[tokio::test]
async fn a_body_is_asked_for_only_where_it_is_wanted() {
    let agent = start(apply(), 1).await;
    let head = |length: usize| {
        format!(
            "POST /v1/commands HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let mut stream = connect(&agent.api).await;
    stream.write_all(head(1).as_bytes()).await.unwrap();
    assert_eq!(read_until(&mut stream, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"x").await.unwrap();
    assert!(read_until(&mut stream, "\r\n\r\nx").await.starts_with("HTTP/1.1 200 OK"));
    let refused = exchange(&agent.api, head(10 << 20).as_bytes()).await;
    assert!(refused.starts_with("HTTP/1.1 413 Payload Too Large"), "{refused}");
    still_serves(&agent).await;
}

#[tokio::test]
async fn a_body_that_is_too_large_or_endless_is_refused_and_not_kept() {
    let agent = start(replicating(Reads::Local), application().await).await;
    for (door, line) in [(&agent.api, "POST /v1/commands"), (&agent.replicate, "PUT /v1/x")] {
        let head = format!("{line} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n");
        let mut announced = format!("{head}content-length: {}\r\n\r\n", 10 << 20).into_bytes();
        announced.resize(announced.len() + (10 << 20), b'x');
        let mut endless = format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes();
        let chunk = [b"10000\r\n", &[b'x'; 0x10000][..], b"\r\n"].concat();
        endless.extend(chunk.repeat(1024));
        let mut broken = format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes();
        broken.extend(b"zz\r\n");
        for (what, bytes, expected) in [
            ("announced", announced, "413 Payload Too Large"),
            ("endless", endless, "413 Payload Too Large"),
            ("no chunk", broken, "400 Bad Request"),
        ] {
            let answer = exchange(door, &bytes).await;
            assert_eq!(answer.lines().next(), Some(format!("HTTP/1.1 {expected}").as_str()), "{what} {line}");
            assert!(answer.contains("urn:decree:problem:"), "{what}: {answer}");
        }
    }
    assert!(agent.app.positions().is_empty());
    still_serves(&agent).await;
}

#[tokio::test]
async fn headers_that_are_half_right_are_refused_and_ordered_by_nobody() {
    let agent = start(apply(), 1).await;
    let url = format!("{}/v1/commands", agent.api);
    let long = "x".repeat(1025);
    let many: Vec<(String, String)> = (0..90).map(|n| (format!("ce-x{n}"), "y".repeat(300))).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for (headers, status, problem) in [
        (&[("ce-specversion", "0.3")][..], 400, "bad-request"),
        (&[("ce-specversion", "1.0"), ("ce-id", "")], 400, "bad-request"),
        (&[("ce-id", "%ff")], 400, "bad-request"),
        (&[("ce-id", "a"), ("ce-id", "a")], 400, "bad-request"),
        (&[("ce-type", "")], 400, "bad-request"),
        (&[("ce-type", "dev.decree.http")], 400, "bad-request"),
        (&[("ce-decreehead", "18446744073709551615")], 400, "bad-request"),
        (&[("ce-decreelater", "1")], 400, "bad-request"),
        (&[("idempotency-key", "")], 400, "bad-request"),
        (&[("idempotency-key", "\"\"")], 400, "bad-request"),
        (&[("idempotency-key", "a"), ("idempotency-key", "b")], 400, "bad-request"),
        (&[("idempotency-key", &long)], 400, "bad-request"),
        (&[("ce-source", &long)], 400, "bad-request"),
        (&[("content-type", "a/b"), ("content-type", "c/d")], 400, "bad-request"),
        (&many, 413, "too-large"),
    ] {
        let refused = send("POST", &url, headers, "x").await;
        let headers = &headers[..headers.len().min(3)];
        assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (status, problem), "{headers:?}");
    }
    assert!(agent.app.positions().is_empty());
    assert_eq!(agent.agent.progress().unwrap().next.0, 1, "none of them is in the log");
    still_serves(&agent).await;
}
