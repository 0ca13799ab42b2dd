//! Garbage and thousands of idle connections on every port of the real process: it stays up, small, and answers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::application::Application;
use super::client::{request, until};
use super::pod::Pod;

/// The container's limit is 128 MiB; a test build takes more than the image's.
const RESIDENT_KIB: u64 = 120 << 10;
/// So close to what it was before the crowd came.
const GIVEN_BACK_KIB: u64 = 8 << 10;
/// More than any door takes.
const CONNECTIONS: usize = 1500;

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&to, Duration::from_secs(10)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// What is answered to bytes, as far as anything is.
fn said(mut stream: impl Read + Write, bytes: &[u8]) -> String {
    let mut answer = Vec::new();
    // It may close before it has read all.
    let _ = stream.write_all(bytes).and_then(|()| stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

fn noise(seed: u32, size: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as u8
    };
    (0..size).map(|_| byte()).collect()
}

#[test]
fn garbage_and_crowds_on_every_port_leave_it_small_and_answering() {
    decree_sidecar::descriptors::raise();
    let application = Application::start();
    let mut pod = Pod::without_kafka(application.port());
    pod.start();
    until("it lives", || pod.alive());
    let at_start = pod.resident_kib();
    println!("resident at the start: {at_start} KiB");

    for seed in 0..200 {
        for door in pod.doors() {
            let answer = said(connect(door), &noise(seed, 100 + seed as usize * 300));
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        }
        let answer = said(UnixStream::connect(pod.socket()).unwrap(), &noise(seed, 3000));
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    println!("resident after garbage: {} KiB", pod.resident_kib());

    let mut crowd = Vec::new();
    let head = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}", "y".repeat(30 << 10));
    for n in 0..CONNECTIONS {
        for door in pod.doors() {
            let mut stream = connect(door);
            // Every other one is idle, the others have said almost as much as may be said.
            let _ = stream.write_all(if n % 2 == 0 { b"" } else { head.as_bytes() });
            crowd.push(stream);
        }
        if n % 100 == 0 {
            assert!(pod.alive(), "the health port answers meanwhile");
        }
    }
    assert!(pod.alive());
    let status = request(pod.doors()[0], "GET", "/v1/status", &[], "");
    assert_eq!(status.status, 200, "the application's door makes room: {status:?}");
    let resident = pod.resident_kib();
    println!("resident with {} connections: {resident} KiB", crowd.len());
    assert!(resident < RESIDENT_KIB, "{resident} KiB");
    drop(crowd);
    until("it answers as before", || {
        request(pod.doors()[2], "GET", "/", &[], "").status == 404 && pod.alive()
    });
    until("what they took is given back", || pod.resident_kib() < at_start + GIVEN_BACK_KIB);
    println!("resident afterwards: {} KiB, at most {} KiB", pod.resident_kib(), pod.most_kib());
}
