//! The webhook's certificate authority is replaced under a stream of admissions, and not one of them fails.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use decree_e2e::install::{NAMESPACE, RELEASE};
use decree_e2e::{Bed, Namespace, manifests};
use decree_wire::pod::CONTAINER;
use serde_json::Value;

const ENGINE: &str = "ledger";
const LIMIT: Duration = Duration::from_secs(90);
/// So many clients create pods all the time.
const CLIENTS: usize = 3;
/// How long they go on after the new authority has signed.
const AFTER: Duration = Duration::from_secs(10);

#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_new_authority_signs_and_no_admission_fails() -> Result<()> {
    Bed::of_test()?.in_namespace("rotation", |namespace| {
        let bed = namespace.bed();
        namespace.apply(&manifests::recorder_engine(bed, ENGINE).to_string())?;
        namespace.wait_engine(ENGINE, "Ready", "True", LIMIT)?;
        let before = authority(bed)?;
        ensure!(bundle(bed)?.contains(&before), "the API server does not trust what signs");

        let (over, admitted) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let clients: Vec<_> =
                (0..CLIENTS).map(|_| scope.spawn(|| create_pods(namespace, &over, &admitted))).collect();
            let rotated = rotate(namespace, &before);
            over.store(true, Ordering::Relaxed);
            for client in clients {
                client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
            }
            let (announced, signed) = rotated?;
            println!(
                "announced after {announced:?}, signs after {signed:?}; {} admissions, none failed",
                admitted.load(Ordering::Relaxed)
            );
            Ok(())
        })
    })
}

#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_bundle_that_somebody_removed_is_back_at_once() -> Result<()> {
    let bed = Bed::of_test()?;
    let patch = r#"[{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]"#;
    let begun = Instant::now();
    bed.kubectl(&["patch", "mutatingwebhookconfiguration", RELEASE, "--type=json", "-p", patch])?;
    let authority = authority(&bed)?;
    decree_e2e::wait::until("the caBundle", Duration::from_secs(15), || {
        Ok(bundle(&bed).is_ok_and(|bundle| bundle.contains(&authority)).then_some(()))
    })?;
    println!("back after {:?}", begun.elapsed());
    Ok(())
}

/// Asks for a new authority and follows it: trusted first, then signing. Gives when each was seen.
fn rotate(namespace: &Namespace, before: &str) -> Result<(Duration, Duration)> {
    let bed = namespace.bed();
    let begun = Instant::now();
    let secret = format!("{RELEASE}-webhook-tls");
    bed.kubectl(&["--namespace", NAMESPACE, "annotate", "secret", &secret, "decree.dev/rotate-ca=now"])?;
    let next = namespace.wait("the next authority", LIMIT, || {
        let next = part(bed, "next-ca.crt")?;
        ensure!(authority(bed)? == before, "it signs, and was never announced");
        Ok(Some(next))
    })?;
    let announced = begun.elapsed();
    namespace.wait("the next authority to sign", LIMIT, || {
        let bundle = bundle(bed)?;
        let signs = authority(bed)? == next;
        ensure!(!signs || (bundle.contains(&next) && bundle.contains(before)), "it signs and is not trusted");
        Ok(signs.then_some(()))
    })?;
    let signed = begun.elapsed();
    std::thread::sleep(AFTER);
    ensure!(bundle(bed)?.contains(before), "the old one is trusted no more, and may still be served");
    let annotations = bed.kubectl_json(&["--namespace", NAMESPACE, "get", "secret", &secret])?;
    let annotations = &annotations["metadata"]["annotations"];
    ensure!(annotations["decree.dev/rotate-ca"].is_null(), "the wish is still there: {annotations}");
    Ok((announced, signed))
}

fn create_pods(namespace: &Namespace, over: &AtomicBool, admitted: &AtomicUsize) -> Result<()> {
    let pod = manifests::recorder_pod(ENGINE).to_string();
    let create = ["--namespace", namespace.name(), "create", "--dry-run=server", "-o", "json", "-f", "-"];
    while !over.load(Ordering::Relaxed) {
        let created = namespace.bed().kubectl_with_input(&create, &pod).context("create a pod")?;
        let created: Value = serde_json::from_str(&created).context("parse what kubectl printed")?;
        let first = &created["spec"]["initContainers"][0]["name"];
        ensure!(first == CONTAINER, "a pod was admitted without a sidecar: {first}");
        admitted.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Who signs now.
fn authority(bed: &Bed) -> Result<String> {
    part(bed, "ca.crt")
}

/// A part of the Secret with the certificates.
fn part(bed: &Bed, key: &str) -> Result<String> {
    let secret = format!("{RELEASE}-webhook-tls");
    let template = format!("go-template={{{{index .data \"{key}\" | base64decode}}}}");
    let text = bed.kubectl(&["--namespace", NAMESPACE, "get", "secret", &secret, "-o", &template])?;
    ensure!(text.contains("BEGIN CERTIFICATE"), "the Secret has no {key}");
    Ok(text)
}

/// Whom the API server trusts.
fn bundle(bed: &Bed) -> Result<String> {
    let template = "go-template={{(index .webhooks 0).clientConfig.caBundle | base64decode}}";
    bed.kubectl(&["get", "mutatingwebhookconfiguration", RELEASE, "-o", template])
}
