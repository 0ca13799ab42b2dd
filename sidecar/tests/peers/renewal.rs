//! Certificates and authorities are exchanged while calls are under way.

use bytes::Bytes;
use decree_sidecar::peers::identity::{Identity, Material};
use std::time::Duration;

use crate::authority::{Authority, When, identity, peer, scope};
use crate::door::{Caller, Door, LIMIT};
use crate::proxy::Proxy;

/// `own`, signed by one, with peers of both taken.
fn between(signs: &Authority, other: &Authority, pod: &str) -> Material {
    let mut material = signs.sign(&peer(pod), When::Now);
    material.authorities.push_str(&other.certificate);
    material
}

#[tokio::test]
async fn an_authority_is_exchanged_with_an_overlap_and_no_call_fails() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let door = Door::open(old.agent("a-0")).await;
    let proxy = Proxy::start(door.address).await;
    let caller = Caller::new(old.agent("a-1"));
    let target = proxy.target("a-0");
    let call = |path: &'static str| {
        let (peers, target) = (caller.peers.clone(), target.clone());
        tokio::spawn(async move { peers.call(&target, path, Bytes::new(), LIMIT).await })
    };
    call("/echo").await.unwrap().unwrap();
    let both = |signs: &Authority, other: &Authority, pod: &str| {
        Some(identity(&between(signs, other, pod), &peer(pod)))
    };
    // First both ends take both, then each is signed by the new one, then the old one is forgotten.
    let steps = [
        (both(&old, &new, "a-0"), both(&old, &new, "a-1")),
        (both(&new, &old, "a-0"), both(&new, &old, "a-1")),
        (Some(new.agent("a-0")), Some(new.agent("a-1"))),
    ];
    for (n, (at_door, at_caller)) in steps.into_iter().enumerate() {
        let under_way = call("/slow");
        tokio::time::sleep(Duration::from_millis(100)).await;
        caller.identity.send_replace(at_caller);
        call("/echo").await.unwrap().unwrap();
        let begun = proxy.connections();
        assert!(begun >= n + 2, "{begun}: with another certificate there is another connection");
        assert_eq!(under_way.await.unwrap().unwrap(), "at last", "what was under way has ended in peace");
        door.identity.send_replace(at_door);
        call("/echo").await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn material_that_does_not_fit_together_is_refused_with_words() {
    let authority = Authority::new("ca");
    let (own, other) = (peer("a-0"), peer("a-1"));
    let good = authority.sign(&own, When::Now);
    let read = |material: &Material, pod: &str| {
        Identity::read(material, scope(&own), pod).map(drop).map_err(|error| error.to_string())
    };
    read(&good, "a-0").unwrap();
    let key_of_another = Material { key: authority.sign(&other, When::Now).key, ..good.clone() };
    assert!(read(&key_of_another, "a-0").unwrap_err().contains("key"));
    assert!(read(&good, "a-1").unwrap_err().contains("not of pod a-1"));
    assert!(read(&Material { authorities: String::new(), ..good.clone() }, "a-0").is_err());
    assert!(read(&Material { key: "no key".into(), ..good.clone() }, "a-0").is_err());
    assert!(!format!("{good:?}").contains("PRIVATE"));
}
