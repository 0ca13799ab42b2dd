//! The application's local API keeps its word: waits, repeats, refusals, barriers and streams, over real HTTP.

use std::time::Duration;

use super::agent::{Running, apply, doors, start};
use super::http::{Answer, send, stream};
use decree_sidecar::app::scripted::Act;
use decree_sidecar::log::memory::MemoryLog;
use serde_json::Value;

async fn propose(agent: &Running, headers: &[(&str, &str)], body: &'static str) -> Answer {
    send("POST", &format!("{}/v1/commands", agent.api), headers, body).await
}

#[tokio::test]
async fn a_proposer_gets_the_applications_answer() {
    let agent = start(apply(), 1).await;
    agent.app.then([Act::Answer(201, "done")]);
    let answer = propose(&agent, &[("ce-id", "a%20b")], "x").await;
    assert_eq!((answer.status.as_u16(), answer.text()), (201, "done"));
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    assert_eq!((answer.header("decree-position"), answer.header("decree-id")), (Some("1"), Some("a%20b")));
    assert_eq!(answer.header("decree-duplicate"), None);
    let made_up = propose(&agent, &[], "y").await;
    assert_eq!(made_up.text(), "y");
    assert_eq!(made_up.header("decree-id").unwrap().len(), 36);
}

#[tokio::test]
async fn the_same_id_is_the_same_command() {
    let agent = start(apply(), 1).await;
    agent.app.then([Act::Answer(200, "first")]);
    propose(&agent, &[("idempotency-key", "\"k\"")], "x").await;
    let again = propose(&agent, &[("ce-id", "k")], "x").await;
    assert_eq!(again.text(), "first");
    assert_eq!(
        (again.header("decree-duplicate"), again.header("decree-position")),
        (Some("true"), Some("1"))
    );
    assert_eq!(agent.app.positions(), [1], "delivered once");

    let other = propose(&agent, &[("ce-id", "k")], "other").await;
    assert_eq!((other.status.as_u16(), other.problem().as_str()), (409, "id-reused"));
    assert_eq!(other.json()["position"], 1);

    let two = propose(&agent, &[("ce-id", "k"), ("idempotency-key", "l")], "x").await;
    assert_eq!((two.status.as_u16(), two.problem().as_str()), (400, "bad-request"));
}

#[tokio::test]
async fn an_outcome_that_is_no_longer_kept_is_gone() {
    let agent = start(apply(), 1).await; // keeps three
    propose(&agent, &[("ce-id", "old")], "x").await;
    for _ in 0..4 {
        propose(&agent, &[], "y").await;
    }
    let gone = propose(&agent, &[("ce-id", "old")], "x").await;
    assert_eq!((gone.status.as_u16(), gone.problem().as_str()), (410, "outcome-gone"));
    assert_eq!(gone.json()["position"], 1);
}

#[tokio::test]
async fn who_does_not_want_to_wait_is_told_so_in_time() {
    let agent = start(apply(), 1).await;
    agent.app.then([Act::Hang]);
    let late = propose(&agent, &[("ce-id", "a"), ("prefer", "wait=1")], "x").await;
    assert_eq!((late.status.as_u16(), late.problem().as_str()), (504, "not-applied-in-time"));
    assert_eq!(late.json()["id"], "a");
    assert!(late.json()["detail"].as_str().unwrap().contains("safe"), "{late:?}");

    let ordered = propose(&agent, &[("ce-id", "b"), ("prefer", "respond-async")], "y").await;
    assert_eq!((ordered.status.as_u16(), ordered.json()["position"].as_u64()), (202, Some(2)));
    assert_eq!(whereabouts(&agent, "b").await["state"], "ordered");
    assert_eq!(whereabouts(&agent, "c").await["state"], "unknown");

    agent.app.release();
    send("POST", &format!("{}/v1/barrier", agent.api), &[], "").await;
    let applied = whereabouts(&agent, "b").await;
    assert_eq!((&applied["state"], &applied["position"]), (&"applied".into(), &2.into()));
    assert_eq!(applied["outcome"]["data"], "y");
    let again = propose(&agent, &[("ce-id", "a")], "x").await;
    assert_eq!((again.status.as_u16(), again.header("decree-duplicate")), (200, Some("true")));
}

#[tokio::test]
async fn a_repeat_of_what_is_not_applied_yet_is_the_first_one() {
    let agent = start(apply(), 1).await;
    agent.app.then([Act::Hang]);
    let asynchronously = [("ce-id", "a"), ("prefer", "respond-async")];
    let first = propose(&agent, &asynchronously, "x").await;
    assert_eq!((first.status.as_u16(), first.header("decree-duplicate")), (202, None));
    for _ in 0..3 {
        let again = propose(&agent, &asynchronously, "x").await;
        assert_eq!((again.status.as_u16(), again.json()), (202, first.json()));
        assert_eq!(again.header("decree-duplicate"), Some("true"));
    }
    let late = propose(&agent, &[("ce-id", "a"), ("prefer", "wait=1")], "x").await;
    assert_eq!((late.status.as_u16(), late.json()["position"].as_u64()), (504, Some(1)));
    let other = propose(&agent, &asynchronously, "other").await;
    assert_eq!((other.status.as_u16(), other.json()["position"].as_u64()), (202, Some(2)), "the log decides");
    let waits = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        agent.app.release();
    };
    let (again, ()) = tokio::join!(propose(&agent, &[("ce-id", "a")], "x"), waits);
    assert_eq!((again.status.as_u16(), again.header("decree-position")), (200, Some("1")));
    assert_eq!(agent.app.positions(), [1], "appended and delivered once");
    let refused = propose(&agent, &[("ce-id", "a")], "other").await;
    assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (409, "id-reused"));
}

async fn whereabouts(agent: &Running, id: &str) -> Value {
    send("GET", &format!("{}/v1/commands/{id}", agent.api), &[], "").await.json()
}

#[tokio::test]
async fn what_is_too_large_or_misspelt_is_refused() {
    let agent = start(apply(), 1).await;
    let url = format!("{}/v1/commands", agent.api);
    let large = send("POST", &url, &[], vec![b'x'; 1 << 20]).await;
    assert_eq!((large.status.as_u16(), large.problem().as_str()), (413, "too-large"));
    let reserved = propose(&agent, &[("ce-type", "dev.decree.control.skip")], "x").await;
    assert_eq!((reserved.status.as_u16(), reserved.problem().as_str()), (400, "bad-request"));
    let method = send("DELETE", &url, &[], "").await;
    assert_eq!((method.status.as_u16(), method.problem().as_str()), (405, "method-not-allowed"));
    let nothing = send("GET", &format!("{}/v1/counters/x", agent.api), &[], "").await;
    assert_eq!((nothing.status.as_u16(), nothing.problem().as_str()), (404, "not-found"));
}

#[tokio::test]
async fn with_the_log_away_proposals_wait_for_nobody_and_the_agent_stays_ready() {
    let agent = start(apply(), 1).await;
    agent.log.set_away(true);
    let away = propose(&agent, &[("ce-id", "a")], "x").await;
    assert_eq!((away.status.as_u16(), away.problem().as_str()), (503, "unavailable"));
    assert!(away.header("retry-after").is_some());
    assert_eq!(send("GET", &format!("{}/readyz", agent.health), &[], "").await.status, 200);
    agent.log.set_away(false);
    for _ in 0..200 {
        if propose(&agent, &[("ce-id", "a")], "x").await.status == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("proposals did not recover: {:?}", agent.agent.troubles());
}

#[tokio::test]
async fn a_barrier_is_passed_behind_what_was_ordered_before() {
    let agent = start(apply(), 1).await;
    agent.app.then([Act::Hang]);
    propose(&agent, &[("prefer", "respond-async")], "x").await;
    let url = format!("{}/v1/barrier", agent.api);
    let late = send("POST", &url, &[("prefer", "wait=1")], "").await;
    assert_eq!((late.status.as_u16(), late.problem().as_str()), (504, "not-applied-in-time"));
    let (first, second) = (send("POST", &url, &[], ""), send("POST", &url, &[], ""));
    let release = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        agent.app.release();
    };
    let (first, second, ()) = tokio::join!(first, second, release);
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (204, 204));
    assert_eq!(first.header("decree-position"), second.header("decree-position"), "they share one");
    assert_eq!(agent.app.positions(), [1]);
}

#[tokio::test]
async fn decisions_are_followed_from_anywhere() {
    let agent = start(apply(), 1).await;
    for body in ["{\"n\":1}", "{\"n\":2}"] {
        propose(&agent, &[("content-type", "application/json"), ("ce-type", "sale")], body).await;
    }
    let url = |from: &str| format!("{}/v1/decisions?from={from}", agent.api);
    let ndjson = [("accept", "application/x-ndjson")];
    let all = stream(&url("earliest"), &ndjson, |text| text.lines().count() >= 3).await;
    let lines: Vec<Value> = all.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["type"], "dev.decree.control.settings");
    assert_eq!((&lines[1]["type"], &lines[1]["data"]["n"]), (&"sale".into(), &1.into()));
    assert_eq!((&lines[2]["position"], &lines[2]["source"]), (&2.into(), &"/decree/shop/policy".into()));

    let events = stream(&url("2"), &[], |text| text.contains("\n\n")).await;
    assert!(events.starts_with("id: 2\ndata: {"), "{events}");
    let resumed = stream(&url("earliest"), &[("last-event-id", "1")], |text| text.contains("\n\n")).await;
    assert!(resumed.starts_with("id: 2\n"), "{resumed}");

    let propose_later = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        propose(&agent, &[], "live").await
    };
    let url_now = url("now");
    let (live, _) = tokio::join!(stream(&url_now, &ndjson, |text| text.contains("live")), propose_later);
    assert_eq!(live.lines().count(), 1);

    let beyond = send("GET", &url("99"), &[], "").await;
    assert_eq!((beyond.status.as_u16(), beyond.problem().as_str()), (416, "behind-the-end"));
    let nonsense = send("GET", &url("soon"), &[], "").await;
    assert_eq!((nonsense.status.as_u16(), nonsense.problem().as_str()), (400, "bad-request"));
}

#[tokio::test]
async fn an_agent_in_doubt_says_why_takes_nothing_and_has_its_application_restarted() {
    let agent = start(apply(), 1).await;
    let url = format!("{}/application/livez", agent.health);
    let alive = || send("GET", &url, &[], "");
    assert_eq!(alive().await.status, 200);
    agent.app.then([Act::Lost]);
    let doubt = propose(&agent, &[("ce-id", "a"), ("prefer", "wait=2")], "x").await;
    assert_eq!(doubt.status.as_u16(), 504);
    assert!(doubt.text().contains("position 1"), "{}", doubt.text());
    let restart = alive().await;
    assert_eq!(restart.status, 503);
    assert!(restart.text().contains("nobody can say"), "{}", restart.text());
    let refused = propose(&agent, &[], "y").await;
    assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (503, "unavailable"));
    let ready = send("GET", &format!("{}/readyz", agent.health), &[], "").await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["reasons"][0]["reason"], refused.json()["reason"]);
    let status = send("GET", &format!("{}/v1/status", agent.api), &[], "").await.json();
    assert_eq!((&status["replica"]["state"], &status["ready"]), (&"Rebuilding".into(), &false.into()));
    assert_eq!(status["replica"]["callsFor"], "ContainerRestart");

    agent.app.restart();
    agent.life.restart(2);
    let again = propose_until_taken(&agent, "a").await;
    assert_eq!((again.status.as_u16(), again.header("decree-duplicate")), (200, Some("true")));
    assert_eq!(agent.app.alive(), [1], "the next life has it once");
    assert_eq!(alive().await.status, 200);
}

async fn propose_until_taken(agent: &Running, id: &str) -> Answer {
    for _ in 0..400 {
        let answer = propose(agent, &[("ce-id", id)], "x").await;
        if answer.status != 503 {
            return answer;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("it is not taken: {:?}", agent.agent.unready());
}

#[tokio::test]
async fn a_command_that_no_application_gets_is_void_and_stays_so() {
    let agent = start(super::agent::replicating(decree_wire::document::Reads::Local), 1).await;
    let void = propose(&agent, &[("ce-id", "plain")], "x").await;
    assert_eq!((void.status.as_u16(), void.problem().as_str()), (422, "void"));
    let told = send("GET", &format!("{}/v1/commands/plain", agent.api), &[], "").await.json();
    assert_eq!((&told["state"], &told["position"]), (&"void".into(), &1.into()));
}

#[tokio::test]
async fn an_agent_without_a_document_lives_and_says_what_it_waits_for() {
    let agent = doors(MemoryLog::new(), tempfile::tempdir().unwrap()).await;
    let get = |path: &'static str| {
        let url = format!("{}{path}", agent.health);
        async move { send("GET", &url, &[], "").await }
    };
    assert_eq!(get("/livez").await.status, 200);
    let ready = get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["reasons"][0]["reason"], "WaitingForDocument");
    assert_eq!(get("/status").await.json()["document"]["known"], false);
    assert!(get("/metrics").await.text().ends_with("# EOF\n"));
    assert_eq!(propose(&agent, &[], "x").await.problem(), "unavailable");
}

#[tokio::test]
async fn metrics_are_those_that_are_documented() {
    let agent = start(apply(), 1).await;
    propose(&agent, &[], "x").await;
    let text = send("GET", &format!("{}/metrics", agent.health), &[], "").await;
    for name in [
        "kafka_consumer_lag",
        "kafka_consumer_lag_seconds",
        "decree_proposals_total",
        "decree_propose_seconds_bucket",
        "decree_ordered_to_applied_seconds_bucket",
        "decree_apply_seconds_bucket",
        "decree_position",
        "decree_head",
        "decree_replica_state",
    ] {
        assert!(text.text().contains(&format!("\n{name}{{engine=\"shop/policy\",class=\"a\"")), "{name}");
    }
}

#[tokio::test]
async fn a_draining_agent_takes_no_proposals_and_is_not_ready() {
    let agent = start(apply(), 1).await;
    agent.agent.shutdown().begin();
    let refused = propose(&agent, &[], "x").await;
    assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (503, "unavailable"));
    assert!(refused.header("retry-after").is_some());
    let ready = send("GET", &format!("{}/readyz", agent.health), &[], "").await;
    assert_eq!(ready.json()["reasons"][0]["reason"], "Draining");
}
