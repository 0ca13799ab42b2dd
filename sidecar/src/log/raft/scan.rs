//! Looks for settings among what is certainly ordered, a bounded piece at a time: no replica is needed for it.

use std::time::Duration;

use decree_wire::control::Control;
use decree_wire::entry::Body;
use decree_wire::member::Scanned;
use decree_wire::position::Position;
use decree_wire::record;
use openraft::EntryPayload;
use tokio::time::Instant;

use super::head;
use super::local::{Leader, Local};
use super::sealed;
use super::types::Proposal;
use crate::log::Error;

/// One look goes through so much at most.
const ENTRIES: u64 = 20_000;
const BYTES: usize = 4 << 20;
const LIMIT: Duration = Duration::from_millis(500);
/// What is read at once.
const PIECE: usize = 256 << 10;

/// Looks for the next settings from a position on. On the leader nothing that was ordered before is missed; elsewhere what
/// this member has not heard of yet is.
///
/// # Errors
/// If the disk can't be read, or the leader can't say what is ordered.
pub async fn scan(local: &Local, from: Option<Position>) -> Result<Scanned, Error> {
    let damaged = |error: &dyn std::fmt::Display| Error::Invalid(error.to_string());
    let end = match local.leader() {
        Leader::Me => head::here(local)
            .await
            .ok_or_else(|| Error::Unreachable("no quorum confirms that this member leads".into()))?,
        Leader::Other(..) | Leader::Unknown => *local.store.readable().borrow(),
    };
    let first = local.store.first();
    let mut next = from.map_or(first, |from| local.index(from).unwrap_or(first)).max(first);
    let (until, last) = (Instant::now() + LIMIT, next.saturating_add(ENTRIES));
    let mut bytes = 0;
    while next < end.min(last) && bytes < BYTES && Instant::now() < until {
        let read = local.store.read(next..end.min(last), PIECE).await.map_err(|error| damaged(&error))?;
        if read.is_empty() {
            // What was to be read was trimmed meanwhile.
            next = local.store.first().max(next + 1);
            continue;
        }
        for entry in read {
            let index = entry.log_id.index();
            next = index + 1;
            let EntryPayload::Normal(Proposal { record, .. }) = entry.payload else { continue };
            bytes += record.len();
            let position = local.position(index);
            let record = sealed::open(record).map_err(|error| damaged(&error))?;
            match record::decode(&record) {
                Body::Control(Control::Settings(settings)) => {
                    return Ok(Scanned::Settings { position, settings: Box::new(settings) });
                }
                Body::Control(Control::Unknown { kind, reason }) if kind == "settings" => {
                    return Ok(Scanned::Unreadable { why: format!("at position {position}: {reason}") });
                }
                Body::Control(_) | Body::Command(_) | Body::Void(_) => {}
            }
        }
        tokio::task::yield_now().await;
    }
    let (next, end) = (local.position(next), local.position(end));
    Ok(if next < end { Scanned::Unfinished { next, end } } else { Scanned::Nothing { next } })
}
