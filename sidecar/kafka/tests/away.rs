//! Brokers that take a connection and never say a word: what is asked of them ends, and nothing piles up meanwhile.
//!
//! A process of its own: what it measures is the process' memory.
#![allow(clippy::panic)]

use std::time::Duration;

use decree_kafka::{
    Admin, Connection, Error, MultiReader, NewRecord, Producer, ProducerSettings, Reader, ReaderSettings,
};
use tokio::net::TcpListener;

/// So many rounds before the memory is measured for the first time, and as often in between.
const ROUNDS: usize = 15;
const LIMIT: Duration = Duration::from_millis(200);

/// Takes connections and holds them.
async fn hole() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            held.push(connection);
        }
    });
    address
}

fn resident_kbytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has a size");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_ends_every_call_and_fills_nothing() {
    let connection = Connection::plain([hole().await, "127.0.0.1:1".into()], "away-test");
    let settings = ProducerSettings { delivery_limit: LIMIT, queue_records: 100, queue_kbytes: 256 };
    let admin = Admin::open(&connection, LIMIT).expect("open");
    let producer = Producer::open(&connection, &settings).expect("open");
    let mut reader = Reader::open(&connection, ReaderSettings::new("t", 0, "g")).expect("open");
    let multi = MultiReader::open(&connection, "g", 64).expect("open");
    let record = NewRecord { value: Some(vec![0; 1024].into()), ..NewRecord::default() };

    let mut full = 0;
    let mut measured = Vec::new();
    for round in 0..=3 * ROUNDS {
        let mut waiting = Vec::new();
        for _ in 0..200 {
            match producer.enqueue("t", &record) {
                Ok(delivery) => waiting.push(delivery),
                Err(Error::QueueFull { .. }) => full += 1,
                Err(error) => panic!("{error}"),
            }
        }
        for delivery in waiting {
            let error = delivery.await.expect_err("nobody takes it");
            assert!(matches!(error, Error::NotDelivered { .. }), "it was never sent: {error:?}");
        }
        let asked = admin.topic("t").await.expect_err("nobody answers");
        assert!(matches!(asked, Error::Unreachable { .. } | Error::Timeout { .. }), "{asked:?}");
        // Each answers within its limit, with nothing or with the reason.
        let _ = reader.next(1, 1, Duration::from_millis(1)).await;
        let _ = multi.next(1, Duration::from_millis(1)).await;
        if round > 0 && round % ROUNDS == 0 {
            measured.push(resident_kbytes());
        }
    }
    println!("{full} records found the queue full; resident: {measured:?} kB");
    assert!(full > 0, "the queue has no bound");
    assert!(measured[2] < measured[1] + 2048, "memory grows: {measured:?} kB");
}
