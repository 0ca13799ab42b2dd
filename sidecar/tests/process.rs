//! The process as a pod runs it, over a real Kafka: it orders, applies, survives SIGKILL, and ends when it is told to.
//!
//! `DECREE_KAFKA` names the brokers.

#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on says so

#[path = "odd/corpus.rs"]
mod corpus;

mod process {
    pub(crate) mod application;
    mod away;
    pub(crate) mod client;
    mod flood;
    mod odd;
    pub(crate) mod pod;
    mod store;
}

use std::time::{Duration, Instant};

use process::application::Application;
use process::client::{request, until};
use process::pod::Pod;

#[test]
#[ignore = "needs Kafka: cargo verify"]
fn a_killed_sidecar_goes_on_where_it_was_and_delivers_nothing_twice() {
    let application = Application::start();
    let mut pod = Pod::new("resume", application.port());
    pod.start();
    pod.until_ready();
    for n in 0..20 {
        let answer = pod.propose(&format!("id-{n}"), &n.to_string());
        assert_eq!((answer.status, answer.body.as_str()), (200, format!("{n} taken").as_str()));
    }
    pod.kill();
    pod.start();
    pod.until_ready();
    let again = pod.propose("id-7", "7");
    assert_eq!((again.status, again.body.as_str()), (200, "7 taken"));
    assert_eq!(again.header("decree-duplicate"), Some("true"));
    assert_eq!(pod.propose("id-7", "other").status, 409);
    assert_eq!(pod.propose("id-20", "20").body, "20 taken");
    let expected: Vec<_> = (0..=20).map(|n| n.to_string()).collect();
    assert_eq!(application.taken(), expected, "each once and in order");
    let status = request(pod.health(), "GET", "/status", &[], "").json();
    assert_eq!((&status["replica"]["state"], &status["ready"]), (&"Running".into(), &true.into()));
    assert!(status["replica"]["lag"].is_number(), "{status}");
    until("a heartbeat was taken", || {
        request(pod.health(), "GET", "/status", &[], "").json()["heartbeats"]["sequence"].is_number()
    });
}

#[test]
#[ignore = "needs Kafka: cargo verify"]
fn a_drained_sidecar_ends_at_once_and_a_sudden_sigterm_within_two_seconds() {
    let application = Application::start();
    let mut pod = Pod::new("drain", application.port());
    pod.start();
    pod.until_ready();
    pod.propose("a", "a");
    assert!(pod.pre_stop().success());
    assert_eq!(pod.propose("b", "b").status, 503);
    let status = request(pod.health(), "GET", "/status", &[], "").json();
    assert_eq!(status["shutdown"], "flushed");
    assert!(pod.terminate() < Duration::from_millis(1500));

    pod.start();
    pod.until_ready();
    assert_eq!(pod.propose("c", "c").body, "c taken");
    assert!(pod.terminate() < Duration::from_secs(3));
    assert_eq!(application.taken(), ["a", "c"]);
}

#[test]
#[ignore = "needs Kafka: cargo verify"]
fn without_a_document_or_a_broker_it_lives_and_waits() {
    let application = Application::start();
    let mut pod = Pod::new("waits", application.port());
    let document = pod.take_document();
    pod.start();
    until("it lives", || pod.alive());
    assert_eq!(request(pod.health(), "GET", "/readyz", &[], "").status, 503);
    pod.put_document(&document.replace(&pod.brokers(), "127.0.0.1:1"));
    until("it says that Kafka is away", || {
        let reasons = request(pod.health(), "GET", "/readyz", &[], "").json()["reasons"].to_string();
        !reasons.contains("WaitingForDocument") && !reasons.contains("Starting")
    });
    let begun = Instant::now();
    assert_eq!(pod.propose("a", "a").status, 503);
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(pod.alive());
    pod.put_document(&document);
    pod.until_ready();
    assert_eq!(pod.propose("a", "a").body, "a taken", "it goes over to brokers that answer, with no restart");
}

#[test]
#[ignore = "needs Kafka: cargo verify"]
fn an_idle_sidecar_is_small() {
    let application = Application::start();
    let mut pod = Pod::new("small", application.port());
    pod.start();
    pod.until_ready();
    std::thread::sleep(Duration::from_secs(3));
    let resident = pod.resident_kib();
    println!("resident when idle: {resident} KiB of 20480");
    // A test build is larger than the image's; the budget itself is measured by the benches.
    assert!(resident < 40 << 10, "{resident} KiB");
}

#[test]
#[ignore = "needs Kafka: cargo verify"]
fn a_wait_ends_at_once_when_the_application_goes_before_its_sidecar() {
    let application = Application::start();
    let mut pod = Pod::new("gone", application.port());
    pod.start();
    pod.until_ready();
    application.hang();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| pod.propose("a", "a"));
        until("the application has it", || application.taken() == ["a"]);
        scope.spawn(|| pod.pre_stop());
        std::thread::sleep(Duration::from_millis(300));
        application.stop();
        let answer = waiting.join().unwrap();
        assert_eq!(answer.status, 504, "{answer:?}");
        assert_eq!(answer.header("decree-id"), Some("a"));
    });
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    assert!(pod.terminate() < Duration::from_millis(2500));
}
