//! HTTP replication keeps its word: what matches is ordered, the rest passes through, and an unknown state answers nothing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::agent::{Running, apply, replicating, start};
use super::http::{Answer, send};
use super::raw;
use axum::Router;
use axum::extract::{Request, State};
use decree_sidecar::app::scripted::Act;
use decree_sidecar::log::Log;
use decree_wire::document::Reads;
use decree_wire::heartbeat::State as Replica;
use decree_wire::position::Position;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

type Seen = Arc<Mutex<Vec<String>>>;

/// An application that writes down what passes through to it, and says it back.
async fn application() -> (u16, Seen) {
    async fn answer(
        State(seen): State<Seen>,
        request: Request,
    ) -> ([(&'static str, &'static str); 2], String) {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let names: Vec<_> = parts.headers.keys().map(|name| name.as_str()).collect();
        let line =
            format!("{} {} {} {}", parts.method, parts.uri, String::from_utf8_lossy(&body), names.join(","));
        seen.lock().unwrap().push(line.clone());
        ([("x-app", "1"), ("keep-alive", "timeout=5")], line)
    }
    let seen = Seen::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new().fallback(answer).with_state(seen.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (port, seen)
}

async fn request(
    agent: &Running,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &'static str,
) -> Answer {
    send(method, &format!("{}{path}", agent.replicate), headers, body).await
}

#[tokio::test]
async fn what_matches_is_ordered_and_answered_by_the_application() {
    let (port, seen) = application().await;
    let agent = start(replicating(Reads::Local), port).await;
    agent.app.then([Act::Answer(204, "")]);
    let put = request(&agent, "PUT", "/v1/data/x?a=1", &[("idempotency-key", "k")], "5").await;
    assert_eq!((put.status.as_u16(), put.header("decree-position")), (204, Some("1")));
    assert_eq!(put.header("decree-id"), Some("k"));
    let again = request(&agent, "PUT", "/v1/data/x?a=1", &[("idempotency-key", "k")], "5").await;
    assert_eq!((again.status.as_u16(), again.header("decree-duplicate")), (204, Some("true")));
    let other = request(&agent, "PUT", "/v1/data/y", &[("idempotency-key", "k")], "5").await;
    assert_eq!((other.status.as_u16(), other.problem().as_str()), (409, "id-reused"));
    let tricked = request(&agent, "PUT", "/x/%2e%2e/v1/data", &[], "6").await;
    assert!(tricked.header("decree-position").is_some(), "{tricked:?}");
    assert!(seen.lock().unwrap().is_empty(), "nothing passed by the log");
}

#[tokio::test]
async fn the_rest_passes_through_without_hop_by_hop_headers() {
    let (port, _seen) = application().await;
    let agent = start(replicating(Reads::Local), port).await;
    let headers =
        [("x-a", "1"), ("connection", "x-mine"), ("x-mine", "1"), ("te", "trailers"), ("cookie", "c")];
    let get = request(&agent, "GET", "/v1/data?q=%20a", &headers, "").await;
    assert_eq!((get.status.as_u16(), get.header("x-app")), (200, Some("1")));
    assert_eq!(get.header("keep-alive"), None);
    assert!(get.text().starts_with("GET /v1/data?q=%20a  "), "{}", get.text());
    for (name, passes) in [("x-a", true), ("cookie", true), ("host", true), ("x-mine", false), ("te", false)]
    {
        let names = get.text().rsplit(' ').next().unwrap();
        assert_eq!(names.split(',').any(|n| n == name), passes, "{name} in {names}");
    }
    let body = request(&agent, "POST", "/other", &[], "hello").await;
    assert!(body.text().starts_with("POST /other hello"), "{}", body.text());
}

#[tokio::test]
async fn a_read_behind_a_barrier_waits_for_what_was_ordered() {
    let (port, _) = application().await;
    let agent = start(replicating(Reads::Barrier), port).await;
    let head = agent.agent.progress().unwrap().next;
    request(&agent, "GET", "/v1/data", &[], "").await;
    assert_eq!(agent.agent.progress().unwrap().next.0, head.0 + 1, "the engine asks for it");
    request(&agent, "GET", "/v1/data", &[("decree-read", "local")], "").await;
    assert_eq!(agent.agent.progress().unwrap().next.0, head.0 + 1, "the client does not");
    let nonsense = request(&agent, "GET", "/v1/data", &[("decree-read", "fresh")], "").await;
    assert_eq!((nonsense.status.as_u16(), nonsense.problem().as_str()), (400, "bad-request"));
}

#[tokio::test]
async fn limits_answer() {
    let (port, _) = application().await;
    let agent = start(replicating(Reads::Local), port).await;
    let url = format!("{}/v1/data", agent.replicate);
    let large = send("PUT", &url, &[], vec![b'x'; 1 << 20]).await;
    assert_eq!((large.status.as_u16(), large.problem().as_str()), (413, "too-large"));
    let long = "x".repeat(13 << 10);
    let headers = send("PUT", &url, &[("x-long", &long)], "5").await;
    assert_eq!((headers.status.as_u16(), headers.problem().as_str()), (431, "headers-too-large"));
    let upgrade = send("GET", &url, &[("connection", "upgrade"), ("upgrade", "websocket")], "").await;
    assert_eq!((upgrade.status.as_u16(), upgrade.problem().as_str()), (501, "upgrade-not-supported"));
}

#[tokio::test]
async fn an_unknown_state_answers_nothing_reads_included() {
    let (port, seen) = application().await;
    let agent = start(replicating(Reads::Local), port).await;
    request(&agent, "PUT", "/v1/data", &[], "5").await;
    agent.life.restart(2);
    for method in ["GET", "PUT"] {
        let refused = request(&agent, method, "/v1/data", &[], "").await;
        assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (503, "unavailable"), "{method}");
        assert!(refused.header("retry-after").is_some());
    }
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn who_keeps_a_connection_is_led_away_from_an_agent_that_does_not_serve() {
    let (port, _) = application().await;
    let agent = start(replicating(Reads::Local), port).await;
    request(&agent, "PUT", "/v1/data", &[], "5").await;
    let get = b"GET /v1/data HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut kept = raw::connect(&agent.replicate).await;
    for _ in 0..2 {
        kept.write_all(get).await.unwrap();
        let answer = raw::read_until(&mut kept, "GET /v1/data ").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("connection: close"), "{answer}");
    }
    agent.life.restart(2);
    kept.write_all(get).await.unwrap();
    let refused = raw::read_until(&mut kept, "the other side closes it").await;
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("connection: close\r\n"), "{refused}");
}

#[tokio::test]
async fn a_log_that_is_gone_takes_nothing_more_and_reads_go_on() {
    let (port, _) = application().await;
    let agent = start(replicating(Reads::Local), port).await;
    assert_eq!(request(&agent, "PUT", "/v1/data", &[], "5").await.status, 200);
    let readyz = format!("{}/readyz", agent.health);
    agent.log.recreate();
    until("it is halted", || agent.agent.progress().is_some_and(|p| p.state == Replica::Halted)).await;
    let refused = request(&agent, "PUT", "/v1/data", &[], "6").await;
    assert_eq!((refused.status.as_u16(), &refused.json()["reason"]), (503, &"LogReplaced".into()));
    assert_eq!(request(&agent, "GET", "/v1/data", &[], "").await.status, 200);
    assert_eq!(send("GET", &readyz, &[], "").await.status, 200);
    assert_eq!(agent.agent.troubles()[0].reason, "LogReplaced", "and it is said");
    let barrier = request(&agent, "GET", "/v1/data", &[("decree-read", "barrier")], "").await;
    assert_eq!((barrier.status.as_u16(), &barrier.json()["reason"]), (503, &"LogReplaced".into()));
    assert_eq!(agent.log.head().await, Ok(Position(0)), "nothing is put into another log");

    agent.life.restart(2); // and nobody knows any more what it holds
    assert_eq!(request(&agent, "GET", "/v1/data", &[], "").await.status, 503);
    until("it is not ready", || !agent.agent.unready().is_empty()).await;
    assert_eq!(send("GET", &readyz, &[], "").await.json()["reasons"][0]["reason"], "LogReplaced");
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..400 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("not in time: {what}");
}

#[tokio::test]
async fn an_application_that_is_away_is_said_so() {
    let agent = start(replicating(Reads::Local), 1).await;
    let away = request(&agent, "GET", "/v1/data", &[], "").await;
    assert_eq!((away.status.as_u16(), away.problem().as_str()), (503, "unavailable"));
}

#[tokio::test]
async fn the_services_door_stays_open_for_its_grace() {
    let (port, _) = application().await;
    let agent = start(replicating(Reads::Local), port).await;
    agent.agent.shutdown().begin();
    assert_eq!(request(&agent, "PUT", "/v1/data", &[], "5").await.status, 200);
    assert_eq!(request(&agent, "GET", "/v1/data", &[], "").await.status, 200);
    agent.agent.shutdown().terminate();
    assert_eq!(request(&agent, "PUT", "/v1/data", &[], "6").await.problem(), "unavailable");
    assert_eq!(request(&agent, "GET", "/v1/data", &[], "").await.status, 200);
}

#[tokio::test]
async fn a_class_that_applies_replicates_nothing() {
    let agent = start(apply(), 1).await;
    let nothing = request(&agent, "PUT", "/v1/data", &[], "5").await;
    assert_eq!((nothing.status.as_u16(), nothing.problem().as_str()), (404, "not-found"));
}
