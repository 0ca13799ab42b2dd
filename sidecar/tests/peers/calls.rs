//! What a call is worth: it is answered, or its error says whether the peer may have it; and in time.

use std::time::{Duration, Instant};

use bytes::Bytes;
use decree_sidecar::peers::{BODY_BYTES, Error};

use crate::authority::Authority;
use crate::door::{Caller, Door, LIMIT};
use crate::proxy::Proxy;

#[tokio::test]
async fn calls_are_answered_on_one_connection_and_each_knows_who_asks() {
    let authority = Authority::new("ca");
    let door = Door::open(authority.agent("a-0")).await;
    let proxy = Proxy::start(door.address).await;
    let caller = Caller::new(authority.agent("a-1"));
    let target = proxy.target("a-0");
    let calls = (0..200).map(|n| {
        let (peers, target) = (caller.peers.clone(), target.clone());
        tokio::spawn(async move {
            let answer = peers.call(&target, "/echo", Bytes::from(n.to_string()), LIMIT).await.unwrap();
            assert_eq!(answer, format!("a-1 says {n}"));
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn large_bodies_pass_and_too_large_ones_are_refused_unread() {
    let authority = Authority::new("ca");
    let door = Door::open(authority.agent("a-0")).await;
    let caller = Caller::new(authority.agent("a-1"));
    let large = Bytes::from(vec![7; BODY_BYTES]);
    let answer = caller.peers.call(&door.target("a-0"), "/size", large, LIMIT * 4).await.unwrap();
    assert_eq!(answer, BODY_BYTES.to_string());
    let larger = Bytes::from(vec![7; BODY_BYTES + 1]);
    let refused = caller.peers.call(&door.target("a-0"), "/size", larger, LIMIT).await;
    assert!(matches!(refused, Err(Error::Refused { status: 413, .. })), "{refused:?}");
    let unknown = caller.peers.call(&door.target("a-0"), "/nothing", Bytes::new(), LIMIT).await;
    assert!(matches!(unknown, Err(Error::Refused { status: 404, .. })), "{unknown:?}");
}

#[tokio::test]
async fn errors_tell_what_was_not_sent_from_what_may_have_been_received() {
    let authority = Authority::new("ca");
    let caller = Caller::new(authority.agent("a-1"));
    let door = Door::open(authority.agent("a-0")).await;
    let (address, target) = (door.address, door.target("a-0"));
    let call = |path: &'static str, limit| {
        let (peers, target) = (caller.peers.clone(), target.clone());
        async move { peers.call(&target, path, Bytes::new(), limit).await }
    };
    let begun = Instant::now();
    let late = call("/slow", Duration::from_millis(200)).await;
    assert!(matches!(late, Err(Error::NoAnswer { .. })), "{late:?}");
    assert!(begun.elapsed() < Duration::from_secs(1));

    let asked = tokio::spawn(call("/slow", LIMIT));
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(door);
    let lost = asked.await.unwrap();
    assert!(matches!(lost, Err(Error::NoAnswer { .. })), "{lost:?}");
    assert!(begun.elapsed() < LIMIT, "a connection that is lost is no wait for the limit");

    let nobody = call("/echo", LIMIT).await;
    assert!(matches!(nobody, Err(Error::NotSent { .. })), "{nobody:?}");

    let door = Door::open_at(address, authority.agent("a-0")).await;
    let begun = Instant::now();
    while let Err(error) = call("/echo", LIMIT).await {
        assert!(matches!(error, Error::NotSent { .. }), "{error:?}");
        assert!(begun.elapsed() < LIMIT, "it is dialled again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    door.close().await;
}

#[tokio::test]
async fn a_peer_that_went_silent_is_given_up_and_dialled_anew() {
    let authority = Authority::new("ca");
    let door = Door::open(authority.agent("a-0")).await;
    let proxy = Proxy::start(door.address).await;
    let caller = Caller::new(authority.agent("a-1"));
    let target = proxy.target("a-0");
    caller.peers.call(&target, "/echo", Bytes::new(), LIMIT).await.unwrap();
    proxy.silence();
    let begun = Instant::now();
    let silent = caller.peers.call(&target, "/echo", Bytes::new(), Duration::from_millis(100)).await;
    assert!(matches!(silent, Err(Error::NoAnswer { .. })), "{silent:?}");
    let lost = caller.peers.call(&target, "/echo", Bytes::new(), LIMIT * 4).await;
    assert!(matches!(lost, Err(Error::NoAnswer { .. } | Error::NotSent { .. })), "{lost:?}");
    assert!(begun.elapsed() < LIMIT, "asked whether it lives, it said nothing");
    proxy.speak();
    let begun = Instant::now();
    while caller.peers.call(&target, "/echo", Bytes::new(), LIMIT).await.is_err() {
        assert!(begun.elapsed() < LIMIT * 2, "it is dialled again");
    }
    assert!(proxy.connections() >= 2);
}

/// The round trip of a small call, alone and beside others: `cargo test --release -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints a figure"]
async fn the_round_trip_of_a_small_call() {
    let authority = Authority::new("ca");
    let door = Door::open(authority.agent("a-0")).await;
    let caller = Caller::new(authority.agent("a-1"));
    for clients in [1, 16, 128] {
        let begun = Instant::now();
        let each = (0..clients).map(|_| {
            let (peers, target) = (caller.peers.clone(), door.target("a-0"));
            tokio::spawn(async move {
                let mut took = Vec::new();
                while begun.elapsed() < Duration::from_secs(2) {
                    let sent = Instant::now();
                    peers.call(&target, "/raw", Bytes::from_static(&[7; 300]), LIMIT).await.unwrap();
                    took.push(sent.elapsed());
                }
                took
            })
        });
        let mut all = Vec::new();
        for client in each.collect::<Vec<_>>() {
            all.extend(client.await.unwrap());
        }
        all.sort_unstable();
        let at = |share: usize| all[all.len() * share / 100];
        println!("{clients:>4} at once: {:>6}/s, p50 {:?}, p99 {:?}", all.len() / 2, at(50), at(99));
    }
}
