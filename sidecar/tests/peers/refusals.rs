//! Who is not let in, and what that costs: strangers, other engines, certificates out of time, nonsense.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use decree_sidecar::peers::Error;
use decree_sidecar::peers::identity::{Identity, Scope};
use decree_wire::identity::Peer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::authority::{Authority, When, identity, peer, scope};
use crate::careless;
use crate::door::{Caller, Door, LIMIT, refused};

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LIMIT, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Refused by the door for that reason, and certain that nothing was received.
async fn is_refused(door: &Door, identity: Arc<Identity>, reason: &str) {
    let before = door.refused(reason);
    let caller = Caller::new(identity);
    let answer = caller.peers.call(&door.target("a-0"), "/echo", Bytes::new(), LIMIT).await;
    assert!(matches!(answer, Err(Error::NotSent { .. })), "{reason}: {answer:?}");
    until(reason, || door.refused(reason) == before + 1).await;
}

#[tokio::test]
async fn strangers_and_certificates_out_of_time_are_refused_with_a_count() {
    let authority = Authority::new("ca");
    let door = Door::open(authority.agent("a-0")).await;
    let own = peer("a-1");
    let signed = |by: &Authority, own: &Peer, when| {
        // They trust the door; the door must not trust them.
        let mut material = by.sign(own, when);
        material.authorities.clone_from(&authority.certificate);
        identity(&material, own)
    };
    is_refused(&door, signed(&Authority::new("ca"), &own, When::Now), "authority").await;
    is_refused(&door, signed(&authority, &own, When::LongAgo), "expired").await;
    is_refused(&door, signed(&authority, &own, When::InTheFuture), "not_yet_valid").await;
    let caller = Caller::new(signed(&authority, &own, When::Now));
    caller.peers.call(&door.target("a-0"), "/echo", Bytes::new(), LIMIT).await.unwrap();
}

#[tokio::test]
async fn another_engine_is_refused_by_both_ends() {
    let authority = Authority::new("ca");
    let door = Door::open(authority.agent("a-0")).await;
    for stranger in [
        Peer { engine: "other".into(), ..peer("a-1") },
        Peer { namespace: "other".into(), ..peer("a-1") },
        Peer { cluster: "other".into(), ..peer("a-1") },
    ] {
        let caller = Caller::new(identity(&authority.sign(&stranger, When::Now), &stranger));
        let answer = caller.peers.call(&door.target("a-0"), "/echo", Bytes::new(), LIMIT).await;
        assert!(matches!(answer, Err(Error::NotSent { .. })), "{answer:?}");
        assert_eq!(refused(&caller.metrics, "engine"), 1, "it does not take the door for its peer");
    }
    // And one that does not care who answers.
    let stranger = Peer { engine: "other".into(), ..peer("a-1") };
    let status = knock_with(&door, &authority, &stranger).await;
    assert!(status.is_err(), "{status:?}");
    until("a count", || door.refused("engine") == 1).await;
}

/// A client of rustls alone, that trusts whoever answers: what it is answered on the first read.
async fn knock_with(door: &Door, authority: &Authority, peer: &Peer) -> std::io::Result<usize> {
    let material = authority.sign(peer, When::Now);
    let config = careless::config(Some(&material));
    let stream = TcpStream::connect(door.address).await?;
    let name = "peer.decree.invalid".try_into().unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    stream.read(&mut [0; 64]).await
}

#[tokio::test]
async fn without_a_certificate_nobody_comes_in() {
    let authority = Authority::new("ca");
    let door = Door::open(authority.agent("a-0")).await;
    let stream = TcpStream::connect(door.address).await.unwrap();
    let name = "peer.decree.invalid".try_into().unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(careless::config(None)));
    if let Ok(mut stream) = connector.connect(name, stream).await {
        assert!(stream.read(&mut [0; 64]).await.is_err());
    }
    until("a count", || door.refused("no_certificate") == 1).await;
}

#[tokio::test]
async fn a_deleted_pods_certificate_is_refused_and_its_connection_ended() {
    let authority = Authority::new("ca");
    let own = peer("a-0");
    let material = authority.sign(&own, When::Now);
    let door = Door::open(identity(&material, &own)).await;
    let caller = Caller::new(authority.agent("a-1"));
    let target = door.target("a-0");
    let call = || caller.peers.call(&target, "/echo", Bytes::new(), LIMIT);
    call().await.unwrap();
    let gone = Scope { gone: BTreeSet::from([peer("a-1").uid]), ..scope(&own) };
    door.identity.send_replace(Some(Arc::new(Identity::read(&material, gone, "a-0").unwrap())));
    until("its connection is refused", || door.refused("gone") > 0).await;
    let refused = call().await;
    assert!(refused.is_err(), "{refused:?}");
}

#[tokio::test]
async fn another_pod_at_a_peers_address_is_not_that_peer() {
    let authority = Authority::new("ca");
    let door = Door::open(authority.agent("a-0")).await;
    let caller = Caller::new(authority.agent("a-1"));
    let answer = caller.peers.call(&door.target("a-2"), "/echo", Bytes::new(), LIMIT).await;
    assert!(matches!(&answer, Err(Error::NotSent { why, .. }) if why.contains("a-0")), "{answer:?}");
    assert_eq!(refused(&caller.metrics, "pod"), 1);
}

#[tokio::test]
async fn nonsense_is_cut_off_and_keeps_nobody_out() {
    let authority = Authority::new("ca");
    let door = Door::open(authority.agent("a-0")).await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(door.address).await.unwrap());
    }
    let mut taken = 0;
    for _ in 0..8 {
        let mut stream = TcpStream::connect(door.address).await.unwrap();
        let nonsense = vec![0xd6; 1 << 16];
        while taken < 1 << 30 && stream.write_all(&nonsense).await.is_ok() {
            taken += nonsense.len();
        }
    }
    assert!(taken < 64 << 20, "{taken} bytes of nonsense were taken");
    until("a count", || door.refused("handshake") >= 8).await;
    assert!(door.refused("crowded") >= 200 - 32, "who had to make room is counted too");
    let caller = Caller::new(authority.agent("a-1"));
    let answer = caller.peers.call(&door.target("a-0"), "/echo", Bytes::from("me"), LIMIT).await.unwrap();
    assert_eq!(answer, "a-1 says me");
    drop(silent);
}
