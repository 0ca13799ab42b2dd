//! How many writes have reached the disk, beside the store: by this it is seen when the store has lost some of them.
//!
//! A member that forgets what it has acknowledged breaks the promise of its group, so it must not go on. The file is
//! also the lock: one process at a time has the store.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// The number, twice: once with its bits turned over.
const SIZE: usize = 16;

/// The file that holds it.
#[derive(Debug)]
pub(super) struct Mark(File);

impl Mark {
    /// Made with the store, durably.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let mark = Self(File::create(path)?);
        mark.set(0)?;
        mark.0.sync_all()?;
        Ok(mark)
    }

    /// Opens it for as long as it lives, and reads what it says.
    pub(super) fn open(path: &Path) -> Result<(Self, u64)> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| Error::new(error.kind(), "it is locked by another process"))?;
        let mut bytes = [0; SIZE];
        file.read_exact_at(&mut bytes, 0)?;
        let [number, turned] = [0, 8].map(|at| {
            let mut half = [0; 8];
            half.copy_from_slice(&bytes[at..at + 8]);
            u64::from_be_bytes(half)
        });
        if number != !turned {
            return Err(Error::new(ErrorKind::InvalidData, "the mark beside the store is damaged"));
        }
        Ok((Self(file), number))
    }

    /// So many writes are on the disk. Itself it need not reach the disk at once: an older number finds less, and
    /// never too much.
    pub(super) fn set(&self, number: u64) -> Result<()> {
        let mut bytes = [0; SIZE];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        bytes[8..].copy_from_slice(&(!number).to_be_bytes());
        self.0.write_all_at(&bytes, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_was_set_last_and_damage_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mark");
        let mark = Mark::create(&path).unwrap();
        mark.set(7).unwrap();
        let (mark, said) = Mark::open(&path).unwrap();
        assert_eq!(said, 7);
        assert!(Mark::open(&path).unwrap_err().to_string().contains("locked"));
        drop(mark);
        std::fs::write(&path, [7; SIZE]).unwrap();
        assert!(Mark::open(&path).is_err());
        std::fs::write(&path, []).unwrap();
        assert!(Mark::open(&path).is_err());
    }
}
