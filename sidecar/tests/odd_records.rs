//! Whatever stands in the log, every replica makes the same of it, halts where it must, and loses nothing behind it.

#![allow(clippy::unwrap_used, clippy::panic)]

mod odd {
    pub(crate) mod corpus;
}
#[allow(dead_code)] // it serves other tests too
#[path = "replica/agent.rs"]
mod agent;

use bytes::Bytes;
use decree_sidecar::replica::{Counts, Resolution};
use decree_wire::heartbeat::Digest;
use decree_wire::position::Position;
use decree_wire::record::{MAX_VALUE, Record};

use agent::World;
use odd::corpus::corpus;

/// Some time: the log's own.
const LOG_TIME: i64 = 1_767_323_045_678;

async fn filled() -> (World, Vec<(&'static str, Position)>) {
    let world = World::new().await;
    let mut positions = Vec::new();
    for (what, record) in corpus() {
        positions.push((what, world.log.append_record(record, LOG_TIME)));
    }
    let large = Record { value: Some(Bytes::from(vec![0; MAX_VALUE])), headers: vec![] };
    positions.push(("as large as may be", world.log.append_record(large, LOG_TIME)));
    let larger = Record { value: Some(Bytes::from(vec![0; MAX_VALUE + 1])), headers: vec![] };
    positions.push(("larger than may be", world.log.append_record(larger, LOG_TIME)));
    positions.push(("the last", world.command("last", "last").await));
    (world, positions)
}

/// What a replica with a disk of its own makes of it all.
async fn judged(replicates: bool) -> (Option<Digest>, Counts, Vec<(&'static str, String)>) {
    let (world, positions) = filled().await;
    let folder = tempfile::tempdir().unwrap();
    let agent = world.start_as(replicates, folder.path());
    let last = positions.last().unwrap().1;
    // Waited for from the start: a large outcome takes the place of all that were kept before.
    let waits = positions.into_iter().map(|(what, position)| {
        let handle = &agent.handle;
        async move { (what, word(handle.resolved(position).await.unwrap())) }
    });
    let (progress, judgements) = tokio::join!(agent.at(last), futures::future::join_all(waits));
    agent.stop().await;
    (progress.digest, progress.counts, judgements)
}

fn word(resolution: Resolution) -> String {
    match resolution {
        Resolution::Applied { outcome } => format!("applied {}", outcome.status),
        Resolution::Void(why) => format!("void: {why}"),
        other => format!("{other:?}").chars().take(40).collect(),
    }
}

#[tokio::test(start_paused = true)]
async fn every_replica_makes_the_same_of_every_record() {
    for replicates in [false, true] {
        let (digest, counts, judgements) = judged(replicates).await;
        let again = judged(replicates).await;
        assert_eq!((&digest, counts, &judgements), (&again.0, again.1, &again.2));
        assert!(digest.is_some() && counts.applied > 0 && counts.void > 0, "{counts:?}");
        assert_eq!((counts.duplicates, counts.reused), if replicates { (0, 0) } else { (1, 1) });
        assert!(judgements.iter().all(|(_, word)| word.len() < 500), "{judgements:#?}");
        let last = judgements.last().unwrap();
        assert!(last.1.starts_with(if replicates { "void" } else { "applied 200" }), "{last:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_void_and_what_is_not_is_as_documented() {
    let (_, _, judgements) = judged(false).await;
    let void: Vec<_> =
        judgements.iter().filter(|(_, word)| word.starts_with("void")).map(|(what, _)| *what).collect();
    assert_eq!(
        void,
        [
            "an empty id",
            "an id without a value",
            "an id that is no text",
            "two ids",
            "a long id",
            "another version of CloudEvents",
            "a reserved type",
            "half a request",
            "a request with no header",
            "a request with a broken value",
            "a target that is none",
            "forged attributes",
            "a version beyond numbers",
            "a head from the future",
            "a media type with a line break",
            "a header with a strange name",
            "an attribute in capitals",
            "more attributes than may be",
            "thousands of attributes",
            "more headers than may be",
            "larger than may be",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_control_entry_of_garbage_halts_the_agent_which_says_why_in_few_words() {
    let long = vec![b'['; 1 << 20];
    for (kind, value) in [
        ("settings", &b"{}"[..]),
        ("settings", b"\xff"),
        ("settings", &long),
        ("barrier", b""),
        ("skip", b"{\"position\":1}"),
        ("", b"{}"),
    ] {
        let world = World::new().await;
        let before = world.command("before", "x").await;
        let ce_type = Bytes::from(format!("dev.decree.control.{kind}"));
        let headers = vec![("ce_type".to_owned(), Some(ce_type))];
        let value = Some(Bytes::copy_from_slice(value));
        let garbage = world.log.append_record(Record { value, headers }, LOG_TIME);
        world.command("behind", "x").await;
        let agent = world.start();
        let trouble = agent.halted().await;
        assert_eq!(trouble.reason, "UnknownControl");
        assert!(trouble.message.contains(&format!("at position {garbage}")), "{}", trouble.message);
        assert!(trouble.message.len() < 700, "{}", trouble.message);
        assert_eq!(world.app.positions(), [before.0], "nothing behind it is applied");
        agent.stop().await;
    }
}
