//! What every log must do: the conformance suite that each adapter passes, the real ones included.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use decree_wire::command::{Command, Request};
use decree_wire::control::{Barrier, Control};
use decree_wire::entry::Body;
use decree_wire::position::Position;
use decree_wire::record::Record;
use tokio::time::Instant;

use super::{Error, Log, NewEntry, Stored};

/// Makes logs for the suite.
#[async_trait]
pub trait Factory: Sync {
    /// A new, empty log, of a name of its own.
    async fn create(&self) -> Arc<dyn Log>;
    /// Deletes the log and makes it again under the same name; gives a log that sees it.
    async fn recreate(&self, log: Arc<dyn Log>) -> Arc<dyn Log>;
    /// Appends a record as a client does that knows nothing of Decree.
    async fn plain(&self, log: &Arc<dyn Log>, record: Record) -> Position;
}

/// How long anything may take before the suite gives up.
const LIMIT: Duration = Duration::from_secs(30);
const WAIT: Duration = Duration::from_millis(500);

/// Runs every check, each on a log of its own.
///
/// # Panics
/// When a check fails.
pub async fn all(factory: &dyn Factory) {
    appends_are_read_in_order(factory).await;
    reading_begins_anywhere(factory).await;
    an_empty_log_is_caught_up(factory).await;
    a_reader_follows(factory).await;
    the_same_entry_twice_is_two_entries(factory).await;
    concurrent_appends_have_positions_of_their_own(factory).await;
    every_kind_of_entry_comes_back(factory).await;
    what_was_trimmed_is_an_error(factory).await;
    what_lies_behind_the_end_is_an_error(factory).await;
    an_incarnation_is_one_life(factory).await;
    marks_are_stable(factory).await;
}

async fn appends_are_read_in_order(factory: &dyn Factory) {
    let log = factory.create().await;
    let mut positions = Vec::new();
    for n in 0..20 {
        positions.push(append(&log, n).await);
    }
    assert!(positions.windows(2).all(|p| p[0] < p[1]), "positions must grow: {positions:?}");
    let read = read(&log, Position(0), 20).await;
    assert_eq!(read.iter().map(|s| s.entry.position).collect::<Vec<_>>(), positions);
    assert_eq!(read.iter().map(number).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    assert!(log.head().await.expect("head") > positions[19]);
}

async fn reading_begins_anywhere(factory: &dyn Factory) {
    let log = factory.create().await;
    let mut positions = Vec::new();
    for n in 0..5 {
        positions.push(append(&log, n).await);
    }
    for (n, from) in positions.iter().enumerate() {
        let read = read(&log, *from, 5 - n).await;
        assert_eq!(number(&read[0]), n);
    }
}

async fn an_empty_log_is_caught_up(factory: &dyn Factory) {
    let log = factory.create().await;
    let head = log.head().await.expect("head");
    assert_eq!(log.earliest().await.expect("earliest"), head);
    let mut reader = log.read(head).await.expect("read at the head");
    let deadline = Instant::now() + LIMIT;
    loop {
        let batch = reader.next(WAIT).await.expect("next");
        assert!(batch.entries.is_empty());
        if batch.end.is_some_and(|end| batch.next >= end) {
            break;
        }
        assert!(Instant::now() < deadline, "an empty log's reader never heard of the end: {batch:?}");
    }
}

async fn a_reader_follows(factory: &dyn Factory) {
    let log = factory.create().await;
    let mut reader = log.read(Position(0)).await.expect("read");
    for n in 0..3 {
        let at = append(&log, n).await;
        let deadline = Instant::now() + LIMIT;
        loop {
            let batch = reader.next(WAIT).await.expect("next");
            if let Some(stored) = batch.entries.first() {
                assert_eq!((stored.entry.position, number(stored)), (at, n));
                assert_eq!(batch.next, at.next());
                break;
            }
            assert!(Instant::now() < deadline, "the entry at {at} never came");
        }
    }
    reader.commit(Position(3)).await.expect("commit");
    let deadline = Instant::now() + LIMIT;
    loop {
        let batch = reader.next(WAIT).await.expect("next");
        if batch.end.is_some_and(|end| batch.next >= end) {
            break;
        }
        assert!(Instant::now() < deadline, "the reader never caught up: {batch:?}");
    }
}

async fn the_same_entry_twice_is_two_entries(factory: &dyn Factory) {
    let log = factory.create().await;
    let (first, second) = (append(&log, 7).await, append(&log, 7).await);
    assert_ne!(first, second);
    let read = read(&log, Position(0), 2).await;
    assert_eq!(read[0].entry.body, read[1].entry.body);
}

async fn concurrent_appends_have_positions_of_their_own(factory: &dyn Factory) {
    let log = factory.create().await;
    let appends = (0..50).map(|n| {
        let log = Arc::clone(&log);
        tokio::spawn(async move { (append(&log, n).await, n) })
    });
    let mut appended = Vec::new();
    for append in appends.collect::<Vec<_>>() {
        appended.push(append.await.expect("append"));
    }
    appended.sort();
    let read = read(&log, Position(0), 50).await;
    assert_eq!(read.iter().map(|s| (s.entry.position, number(s))).collect::<Vec<_>>(), appended);
}

async fn every_kind_of_entry_comes_back(factory: &dyn Factory) {
    let log = factory.create().await;
    let request = Command {
        id: Some("r".into()),
        request: Some(Request {
            method: "PUT".into(),
            target: "/v1/x?y".into(),
            headers: vec![("x-a".into(), Bytes::from_static(b"1"))],
        }),
        head: Some(Position(3)),
        ..Command::default()
    };
    let barrier = Control::Barrier(Barrier { agent: "a".into() });
    log.append(&NewEntry::Command(request.clone())).await.expect("append a request");
    log.append(&NewEntry::Control(barrier.clone())).await.expect("append a control entry");
    let plain = Record { value: Some(Bytes::from_static(b"{}")), headers: vec![] };
    factory.plain(&log, plain).await;
    factory.plain(&log, Record::default()).await;
    let bodies: Vec<_> = read(&log, Position(0), 4).await.into_iter().map(|s| s.entry.body).collect();
    let plain = Command { payload: Bytes::from_static(b"{}"), ..Command::default() };
    assert_eq!(
        bodies,
        [
            Body::Command(request),
            Body::Control(barrier),
            Body::Command(plain),
            Body::Command(Command::default())
        ]
    );
}

async fn what_was_trimmed_is_an_error(factory: &dyn Factory) {
    let log = factory.create().await;
    let mut positions = Vec::new();
    for n in 0..6 {
        positions.push(append(&log, n).await);
    }
    log.trim(positions[3]).await.expect("trim");
    assert_eq!(log.earliest().await.expect("earliest"), positions[3]);
    assert_eq!(number(&read(&log, positions[3], 3).await[0]), 3);
    let error = first_error(&log, positions[0]).await;
    assert!(matches!(error, Error::Trimmed { .. }), "reading what was trimmed: {error:?}");
}

async fn what_lies_behind_the_end_is_an_error(factory: &dyn Factory) {
    let log = factory.create().await;
    let at = append(&log, 0).await;
    let error = first_error(&log, Position(at.0 + 10)).await;
    assert!(matches!(error, Error::LostEnd { .. }), "reading behind the end: {error:?}");
}

async fn an_incarnation_is_one_life(factory: &dyn Factory) {
    let log = factory.create().await;
    let first = log.incarnation().await.expect("incarnation");
    append(&log, 0).await;
    assert_eq!(log.incarnation().await.expect("incarnation"), first);
    let again = factory.recreate(log).await;
    let second = again.incarnation().await.expect("incarnation");
    assert_ne!(first, second);
    let head = again.head().await.expect("head");
    assert_eq!(again.earliest().await.expect("earliest"), head, "nothing of the other life is in it");
}

async fn marks_are_stable(factory: &dyn Factory) {
    let log = factory.create().await;
    append(&log, 0).await;
    append(&log, 1).await;
    let (once, twice) = (read(&log, Position(0), 2).await, read(&log, Position(0), 2).await);
    assert_eq!(once, twice);
    assert_ne!(once[0].mark, once[1].mark);
}

async fn append(log: &Arc<dyn Log>, n: usize) -> Position {
    let command =
        Command { id: Some(n.to_string()), payload: Bytes::from(n.to_string()), ..Command::default() };
    log.append(&NewEntry::Command(command)).await.expect("append")
}

async fn read(log: &Arc<dyn Log>, from: Position, count: usize) -> Vec<Stored> {
    let mut reader = log.read(from).await.expect("read");
    let mut read = Vec::new();
    let deadline = Instant::now() + LIMIT;
    while read.len() < count {
        assert!(Instant::now() < deadline, "only {} of {count} entries came", read.len());
        read.extend(reader.next(WAIT).await.expect("next").entries);
    }
    assert_eq!(read.len(), count);
    read
}

async fn first_error(log: &Arc<dyn Log>, from: Position) -> Error {
    let mut reader = match log.read(from).await {
        Ok(reader) => reader,
        Err(error) => return error,
    };
    let deadline = Instant::now() + LIMIT;
    loop {
        match reader.next(WAIT).await {
            Err(error) if !error.retryable() => return error,
            Ok(batch) => assert!(batch.entries.is_empty(), "a reader went on from somewhere else: {batch:?}"),
            Err(_) => {}
        }
        assert!(Instant::now() < deadline, "reading from {from} is no error");
    }
}

fn number(stored: &Stored) -> usize {
    match &stored.entry.body {
        Body::Command(command) => {
            std::str::from_utf8(&command.payload).ok().and_then(|n| n.parse().ok()).expect("a number")
        }
        other => unreachable!("not a command of the suite: {other:?}"),
    }
}
