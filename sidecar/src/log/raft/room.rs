//! Whether the disk has room: proposals are refused before it is full, as a full one would end the member.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// So much of the disk is kept free, or this part of a small one.
const RESERVE: u64 = 128 << 20;
const PART: u64 = 8;
/// How often it is looked.
const PACE: Duration = Duration::from_secs(1);

/// Bytes that are free, and that a disk has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// To be used by this process.
    pub free: u64,
    /// At all.
    pub size: u64,
}

impl Space {
    /// Of the disk that a folder is on.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn of(folder: &Path) -> std::io::Result<Self> {
        let found = rustix::fs::statvfs(folder)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Self { free: bytes(found.f_bavail), size: bytes(found.f_blocks) })
    }

    /// Whether there is more than the reserve, or than this part of it on a small disk.
    fn exceeds(self, reserve: u64, part: u64) -> bool {
        self.free > reserve.min(self.size / part)
    }
}

/// What was seen last.
#[derive(Clone, Debug)]
pub struct Room {
    folder: PathBuf,
    free: Arc<AtomicU64>,
    size: Arc<AtomicU64>,
}

impl Room {
    /// Looks once.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn open(folder: &Path) -> std::io::Result<Self> {
        let Space { free, size } = Space::of(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            free: Arc::new(AtomicU64::new(free)),
            size: Arc::new(AtomicU64::new(size)),
        })
    }

    /// Goes on looking.
    pub async fn watch(self) {
        loop {
            tokio::time::sleep(PACE).await;
            self.look();
        }
    }

    /// Looks now.
    pub fn look(&self) {
        match Space::of(&self.folder) {
            Ok(Space { free, size }) => {
                self.free.store(free, Ordering::Relaxed);
                self.size.store(size, Ordering::Relaxed);
            }
            Err(error) => {
                tracing::warn!(%error, folder = %self.folder.display(), "can't see how full the disk is")
            }
        }
    }

    fn space(&self) -> Space {
        Space { free: self.free.load(Ordering::Relaxed), size: self.size.load(Ordering::Relaxed) }
    }

    /// Whether new entries may be proposed.
    ///
    /// # Errors
    /// If not: in words for a person.
    pub fn for_proposals(&self) -> Result<(), String> {
        self.check((RESERVE, PART), "new entries")
    }

    /// Whether a leader's entries may be taken: these stop later, so that a group goes on as long as it can.
    ///
    /// # Errors
    /// If not: in words for a person.
    pub fn for_entries(&self) -> Result<(), String> {
        self.check((RESERVE / 2, PART * 2), "entries of the leader")
    }

    fn check(&self, (reserve, part): (u64, u64), what: &str) -> Result<(), String> {
        let space = self.space();
        if space.exceeds(reserve, part) {
            return Ok(());
        }
        Err(format!(
            "the disk of {} has {} MiB left, of {}: {what} are refused until there is more room; enlarge the volume, \
             or free some of it",
            self.folder.display(),
            space.free >> 20,
            space.size >> 20,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(free: u64, size: u64) -> Room {
        let atomic = |n| Arc::new(AtomicU64::new(n));
        Room { folder: "/x".into(), free: atomic(free), size: atomic(size) }
    }

    #[test]
    fn proposals_stop_before_entries_do_and_a_small_disk_keeps_a_part() {
        for (free, size, proposals, entries) in [
            (1 << 30, 100 << 30, true, true),
            (127 << 20, 100 << 30, false, true),
            (63 << 20, 100 << 30, false, false),
            (9 << 20, 64 << 20, true, true),
            (8 << 20, 64 << 20, false, true),
            (4 << 20, 64 << 20, false, false),
        ] {
            let room = room(free, size);
            assert_eq!(
                (room.for_proposals().is_ok(), room.for_entries().is_ok()),
                (proposals, entries),
                "{free}"
            );
        }
    }

    #[test]
    fn the_disk_of_a_folder_has_a_size() {
        let folder = tempfile::tempdir().unwrap();
        let space = Space::of(folder.path()).unwrap();
        assert!(space.size > 0 && space.free <= space.size);
    }
}
