//! The delivery that was begun last, in a file of its own: what comes before each delivery has to cost little.
//!
//! Each delivery has a number, and the store's rows say up to which number all have ended. So a delivery ends in the one
//! commit that records what became of it, and nothing is written here for that. Two places take turns, each with a
//! checksum: of a write that was broken off nothing counts, as its delivery was not begun either.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use xxhash_rust::xxh3::xxh3_64;

use super::super::rows::Begun;
use super::fault::Error;

/// The file's name, in the store's folder.
const NAME: &str = "begun";
/// One place; a life of some thousand listeners fits in.
const PLACE: usize = 16 << 10;
/// Checksum, length and number come first.
const HEAD: usize = 8 + 4 + 8;

/// The file.
#[derive(Debug)]
pub(super) struct Deliveries {
    file: File,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    /// Of the delivery that was begun last.
    number: u64,
    /// Kept, so that none has to be made for each.
    buffer: Vec<u8>,
}

impl Deliveries {
    /// Opens it, and reads which delivery was begun last; its number comes with it.
    pub(super) fn open(folder: &Path) -> Result<(Self, Option<(u64, Begun)>), Error> {
        let io = |error: std::io::Error| Error { attempt: "open", detail: error.to_string() };
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).read(true).write(true).open(folder.join(NAME));
        let file = file.map_err(io)?;
        // All of it is there from the start: a disk that is full later on can't stand in the way of a delivery.
        let there = usize::try_from(file.metadata().map_err(io)?.len()).unwrap_or(usize::MAX);
        let missing = (2 * PLACE).saturating_sub(there);
        file.write_all_at(&vec![0; missing], there as u64).map_err(io)?;
        let mut places = vec![0; 2 * PLACE];
        file.read_exact_at(&mut places, 0).map_err(io)?;
        let last = places.chunks(PLACE).filter_map(decode).max_by_key(|(number, _)| *number);
        let number = last.as_ref().map_or(0, |(number, _)| *number);
        let written = Mutex::new(Written { number, buffer: Vec::new() });
        Ok((Self { file, written }, last))
    }

    /// Goes on behind that number.
    pub(super) fn go_on_behind(&self, number: u64) {
        let mut written = self.written();
        written.number = written.number.max(number);
    }

    /// Writes down that a delivery begins: it is in the page cache when this returns.
    pub(super) fn begin(&self, begun: &Begun) -> Result<(), Error> {
        let failed = |detail: String| Error { attempt: "write", detail };
        let mut written = self.written();
        let number = written.number + 1;
        let mut bytes = std::mem::take(&mut written.buffer);
        bytes.clear();
        bytes.resize(HEAD, 0);
        let mut bytes = postcard::to_extend(begun, bytes).map_err(|error| failed(error.to_string()))?;
        let length = bytes.len() - HEAD;
        if bytes.len() > PLACE {
            return Err(failed(format!(
                "a delivery takes {length} bytes there, of {} at most",
                PLACE - HEAD
            )));
        }
        bytes[8..12].copy_from_slice(&(length as u32).to_be_bytes());
        bytes[12..HEAD].copy_from_slice(&number.to_be_bytes());
        let sum = xxh3_64(&bytes[8..]);
        bytes[..8].copy_from_slice(&sum.to_be_bytes());
        let place = (number % 2) * PLACE as u64;
        self.file.write_all_at(&bytes, place).map_err(|error| failed(error.to_string()))?;
        (written.number, written.buffer) = (number, bytes);
        Ok(())
    }

    /// The number of the delivery that was begun last.
    pub(super) fn number(&self) -> u64 {
        self.written().number
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// None for a place that was never written, or not to its end.
fn decode(place: &[u8]) -> Option<(u64, Begun)> {
    let (sum, rest) = place.split_first_chunk::<8>()?;
    let (length, _) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let checked = rest.get(..4 + 8 + length)?;
    if xxh3_64(checked) != u64::from_be_bytes(*sum) {
        return None;
    }
    let (number, begun) = checked.get(4..)?.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*number), postcard::from_bytes(begun).ok()?))
}

#[cfg(test)]
mod tests {
    use decree_wire::position::Position;

    use super::*;
    use crate::life::Incarnation;

    fn begun(position: u64) -> Begun {
        let life = Incarnation { boot: "boot".into(), listeners: [7].into() };
        Begun { position: Position(position), attempt: 1, life, idempotent: false }
    }

    #[test]
    fn the_last_one_is_known_again_and_one_that_was_broken_off_was_not_begun() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Deliveries::open(folder.path()).unwrap();
        let (deliveries, last) = open();
        assert_eq!(last, None);
        for position in 1..=5 {
            deliveries.begin(&begun(position)).unwrap();
        }
        assert_eq!(open().1, Some((5, begun(5))));
        let (deliveries, _) = open();
        deliveries.begin(&begun(6)).unwrap();
        // Each byte of the sixth's place in turn was not written.
        let file = &deliveries.file;
        let mut whole = vec![0; deliveries.written().buffer.len()];
        file.read_exact_at(&mut whole, 0).unwrap();
        for (at, byte) in (0..).zip(&whole) {
            file.write_all_at(&[!byte], at).unwrap();
            let (again, last) = open();
            assert_eq!((again.number(), last), (5, Some((5, begun(5)))), "byte {at}");
            file.write_all_at(&[*byte], at).unwrap();
        }
        assert_eq!(open().1, Some((6, begun(6))));
    }

    #[test]
    fn a_file_that_was_not_made_whole_is_made_so() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(NAME), [0; 100]).unwrap();
        let (deliveries, last) = Deliveries::open(folder.path()).unwrap();
        assert_eq!((last, deliveries.file.metadata().unwrap().len()), (None, 2 * PLACE as u64));
        deliveries.go_on_behind(9);
        deliveries.begin(&begun(3)).unwrap();
        assert_eq!(Deliveries::open(folder.path()).unwrap().1, Some((10, begun(3))));
    }
}
