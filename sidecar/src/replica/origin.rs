//! Where following begins: is this the log that was followed, does the last entry still stand, which settings govern.

use std::time::Duration;

use decree_wire::control::Control;
use decree_wire::entry::Body;
use decree_wire::position::{EngineName, Incarnation, Position};
use decree_wire::settings::Settings;
use tokio::time::Instant;

use super::halt::Halt;
use super::rows::Last;
use super::trouble;
use crate::log::{Error, Log, Mark, Reader, Stored};

/// How long the last entry is waited for. A new leader's end may lag for a moment behind what was read before.
const LIMIT: Duration = Duration::from_secs(15);
const WAIT: Duration = Duration::from_millis(500);

/// A log that may be followed.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) incarnation: Incarnation,
    pub(super) reader: Box<dyn Reader>,
    /// What was read already, in order.
    pub(super) ahead: Vec<Stored>,
}

/// Where a replica stood in the log that it followed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stood<'a> {
    /// Before its first entry.
    Before,
    /// After this entry, and so it goes on.
    After(&'a Last),
    /// After this entry once; now it begins anew.
    Once(&'a Last),
}

/// Makes sure that the log is the one that was followed, and has what was applied.
pub(super) async fn open(
    log: &dyn Log,
    expected: Option<Incarnation>,
    stood: Option<(&Incarnation, Stood<'_>)>,
) -> Result<Origin, Halt> {
    let Some(expected) = expected else { return Err(Halt::Wait(trouble::waiting_for_topic())) };
    let found = log.incarnation().await.map_err(|error| lost(&error))?;
    if let Some((before, _)) = stood.filter(|(before, _)| **before != found) {
        let why = format!("its id was {before} and is {found}");
        return Err(Halt::ForAll(trouble::replaced(&why)));
    }
    if found != expected {
        return Err(Halt::Wait(trouble::other_topic(&found, &expected)));
    }
    let (reader, ahead) = match stood.map(|(_, stood)| stood) {
        None | Some(Stood::Before) => read(log, Position(0)).await?,
        Some(Stood::After(last)) => resume(log, last).await?,
        Some(Stood::Once(last)) => {
            // Not the least is replayed of a log that does not have what was applied before.
            drop(resume(log, last).await?);
            read(log, Position(0)).await?
        }
    };
    Ok(Origin { incarnation: found, reader, ahead })
}

/// Reads the last entry again, and goes on behind it.
async fn resume(log: &dyn Log, last: &Last) -> Result<(Box<dyn Reader>, Vec<Stored>), Halt> {
    let mut reader = match log.read(last.position).await {
        Ok(reader) => reader,
        Err(error) => return behind(log, last, error).await,
    };
    let deadline = Instant::now() + LIMIT;
    loop {
        let batch = match reader.next(WAIT).await {
            Ok(batch) => batch,
            Err(error) => return behind(log, last, error).await,
        };
        let mut entries = batch.entries.into_iter();
        if let Some(first) = entries.next() {
            if first.entry.position != last.position || !same(first.mark, last.mark) {
                // This agent's alone: another may not have come as far, and goes on.
                let why = format!("another entry stands where position {} was applied", last.position);
                return Err(Halt::For(trouble::replaced(&why)));
            }
            return Ok((reader, entries.collect()));
        }
        if Instant::now() >= deadline {
            return Err(match batch.end {
                Some(end) if batch.next >= end => Halt::For(trouble::replaced(&format!(
                    "it ends at {end}, and position {} was applied",
                    last.position
                ))),
                _ => Halt::Wait(trouble::unreachable(&Error::Unreachable(format!(
                    "position {} did not come within {LIMIT:?}",
                    last.position
                )))),
            });
        }
    }
}

/// Whether an entry is the one that was read before.
pub(super) fn same(now: Mark, then: Mark) -> bool {
    let epochs = now.leader_epoch.zip(then.leader_epoch);
    now.hash == then.hash && epochs.is_none_or(|(now, then)| now == then)
}

/// Where only the last entry was trimmed and its successor stands, nothing is missing.
async fn behind(log: &dyn Log, last: &Last, error: Error) -> Result<(Box<dyn Reader>, Vec<Stored>), Halt> {
    match error {
        Error::Trimmed { earliest, .. } if earliest <= last.position.next() => {
            read(log, last.position.next()).await
        }
        error => Err(lost(&error)),
    }
}

/// A reader that has read once: whether the position is there shows only then.
async fn read(log: &dyn Log, from: Position) -> Result<(Box<dyn Reader>, Vec<Stored>), Halt> {
    let mut reader = log.read(from).await.map_err(|error| lost(&error))?;
    let batch = reader.next(WAIT).await.map_err(|error| lost(&error))?;
    Ok((reader, batch.entries))
}

/// What an error at the opening means. Afterwards every error leads here again, so that one word is not believed.
fn lost(error: &Error) -> Halt {
    match error {
        Error::Trimmed { asked, earliest } => Halt::For(trouble::trimmed(*asked, *earliest)),
        Error::LostEnd { .. } => Halt::For(trouble::replaced(&error.to_string())),
        Error::Unreachable(_)
        | Error::Unknown(_)
        | Error::Full
        | Error::TooLarge(_)
        | Error::Replaced(_)
        | Error::Missing(_)
        | Error::Invalid(_) => Halt::Wait(trouble::unreachable(error)),
    }
}

/// The first settings entry among `stored`, which governs from the log's start.
pub(super) fn settings(
    stored: &[Stored],
    engine: &EngineName,
    cluster: &str,
) -> Result<Option<Settings>, Halt> {
    for Stored { entry, .. } in stored {
        match &entry.body {
            Body::Control(Control::Settings(settings)) => {
                let own = settings.engine == *engine && settings.cluster == cluster;
                return match own {
                    true => Ok(Some(settings.clone())),
                    false => Err(Halt::ForAll(trouble::foreign(settings, engine))),
                };
            }
            Body::Control(Control::Unknown { kind, reason }) if kind == "settings" => {
                return Err(Halt::For(trouble::unknown_control(entry.position, kind, reason)));
            }
            Body::Control(_) | Body::Command(_) | Body::Void(_) => {}
        }
    }
    Ok(None)
}
