//! Brokers that are away for long: what is proposed is refused in time, nothing piles up, and no restart is needed once
//! they are there.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::application::Application;
use super::client::{request, until};
use super::pod::Pod;

/// Fewer than the application's door takes at once.
const CLIENTS: usize = 200;
/// So many rounds of them before the memory is measured for the first time, for what is kept once it was needed, and
/// twice as many behind it.
const ROUNDS: usize = 30;
/// What an allocator may keep beside what is in use; a third of what the refused bodies had.
const SLACK_KIB: u64 = 4 << 10;

/// Each client proposes once, and is told that nothing is ordered now.
fn refused(pod: &Pod, rounds: usize) {
    for _ in 0..rounds {
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                scope.spawn(move || {
                    let id = format!("refused-{client}");
                    let headers = [("ce-id", id.as_str()), ("prefer", "wait=0")];
                    let answer = request(pod.doors()[0], "POST", "/v1/commands", &headers, &"x".repeat(1000));
                    assert_eq!(answer.status, 503, "{answer:?}");
                    assert!(answer.header("retry-after").is_some(), "{answer:?}");
                });
            }
        });
    }
}

/// Thousands are refused, and the process is as large as before.
fn refused_without_growth(pod: &Pod) {
    let begun = Instant::now();
    assert_eq!(pod.propose("patient", "x").status, 503);
    assert!(begun.elapsed() < Duration::from_secs(10), "it had its answer after {:?}", begun.elapsed());
    refused(pod, ROUNDS);
    let before = pod.resident_kib();
    refused(pod, 2 * ROUNDS);
    let after = pod.resident_kib();
    println!("resident: {before} KiB, {after} KiB after {} more refusals", 2 * ROUNDS * CLIENTS);
    assert!(after < before + SLACK_KIB, "it grows: {before} KiB, then {after} KiB");
}

#[test]
fn brokers_that_are_away_are_waited_for_in_little_room() {
    let application = Application::start();
    let mut pod = Pod::without_kafka(application.port());
    pod.start();
    until("it lives", || pod.alive());
    refused_without_growth(&pod);
    let status = || request(pod.health(), "GET", "/status", &[], "").json();
    // The client library takes seconds to give up its first request: refusals may be through before.
    until("it says what is away", || status()["troubles"].to_string().contains("LogUnreachable"));
    assert_eq!(status()["proposals"]["outstanding"], 0);
}

#[test]
#[ignore = "needs Kafka: cargo verify"]
fn brokers_that_come_after_long_are_followed_without_a_restart() {
    let application = Application::start();
    let mut pod = Pod::new("away", application.port());
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = door.local_addr().unwrap();
    drop(door); // nobody listens there yet
    let document = pod.take_document();
    pod.put_document(&document.replace(&pod.brokers(), &address.to_string()));
    pod.start();
    until("it lives", || pod.alive());
    refused_without_growth(&pod);

    let broker = pod.topic().0.split(',').next().unwrap().to_owned();
    lead(address, broker);
    pod.until_ready();
    assert_eq!(pod.propose("after", "after").body, "after taken");
    assert_eq!(application.taken(), ["after"], "what was refused was not ordered, and is not now");
    println!("resident afterwards: {} KiB", pod.resident_kib());
}

/// From now on an address leads to a broker.
fn lead(from: SocketAddr, to: String) {
    let listener = TcpListener::bind(from).unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let broker = TcpStream::connect(&to).unwrap();
            let ends = (client.try_clone().unwrap(), broker.try_clone().unwrap());
            std::thread::spawn(move || io::copy(&mut &client, &mut &broker));
            std::thread::spawn(move || io::copy(&mut &ends.1, &mut &ends.0));
        }
    });
}
