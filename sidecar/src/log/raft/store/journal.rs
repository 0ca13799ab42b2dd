//! Looks through the store's journals before its library does, which takes the first byte that makes no sense for the
//! end, or refuses them altogether.
//!
//! Each batch is on the disk before the next is begun. So at most the last one can be torn, by a machine that lost its
//! power: it was never acknowledged, and is cut off. Anything else is damage, and no end.
//!
//! ```text
//!   batch   1 · count u32 · number u64    item…    3 · XXH3 of the items u64 · "FJL\x03"     little endian
//!   item    2 · kind u8 · compression u8 · keyspace u64 · key u16 · value u32 · stored u32 · key · value as stored
//!           4 · keyspace u64
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, Read, Result, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::fault::Error;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const MAGIC: [u8; 4] = *b"FJL\x03";
const ZEROS: [u8; 16 << 10] = [0; 16 << 10];

/// Cuts off what was torn.
///
/// # Errors
/// If something else is damaged.
pub(super) fn mend(store: &Path) -> std::result::Result<(), Error> {
    let mut journals = journals(store).map_err(Error::io("open"))?;
    let newest = journals.pop();
    for (journal, newest) in
        journals.iter().map(|path| (path, false)).chain(newest.iter().map(|path| (path, true)))
    {
        let damage = look(journal).map_err(Error::io("open"))?;
        match damage {
            None => {}
            Some(Damage { at, inner: false }) if newest => {
                tracing::warn!(journal = %journal.display(), at, "cutting off a write that was torn");
                cut(journal, at).map_err(Error::io("open"))?;
            }
            Some(Damage { at, .. }) => {
                let detail = format!(
                    "{} is damaged at byte {at}; this member must be replaced by a new one, with an empty folder",
                    journal.display()
                );
                return Err(Error { attempt: "open", detail });
            }
        }
    }
    Ok(())
}

/// The oldest first.
fn journals(store: &Path) -> Result<Vec<PathBuf>> {
    let mut journals = Vec::new();
    for file in fs::read_dir(store)? {
        let path = file?.path();
        let number =
            path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse::<u64>().ok());
        journals.extend(number.map(|number| (number, path)));
    }
    journals.sort();
    Ok(journals.into_iter().map(|(_, path)| path).collect())
}

/// Where a journal stops making sense, though something is written there.
struct Damage {
    at: u64,
    /// A whole batch follows.
    inner: bool,
}

fn look(journal: &Path) -> Result<Option<Damage>> {
    let mut input = BufReader::new(File::open(journal)?);
    let mut at = 0;
    while let Some(length) = batch(&mut input) {
        at += length;
    }
    input.seek(SeekFrom::Start(at))?;
    let written = written(&mut input)?;
    if written == 0 {
        return Ok(None);
    }
    let mut rest = vec![0; usize::try_from(written).unwrap_or(usize::MAX)];
    input.seek(SeekFrom::Start(at))?;
    input.read_exact(&mut rest)?;
    let inner = (1..rest.len()).any(|from| rest[from] == START && batch(&mut &rest[from..]).is_some());
    Ok(Some(Damage { at, inner }))
}

/// How many bytes there are from here up to the last that is not zero: files are made longer than what is in them.
fn written(input: &mut impl Read) -> Result<u64> {
    let (mut read, mut written, mut piece) = (0, 0, ZEROS);
    loop {
        let count = input.read(&mut piece)?;
        if count == 0 {
            return Ok(written);
        }
        // Mostly there is nothing, for 64 MiB: compared at once, that is quick.
        if piece[..count] != ZEROS[..count]
            && let Some(last) = piece[..count].iter().rposition(|byte| *byte != 0)
        {
            written = read + last as u64 + 1;
        }
        read += count as u64;
    }
}

fn cut(journal: &Path, at: u64) -> Result<()> {
    let file = OpenOptions::new().write(true).open(journal)?;
    file.set_len(at)?;
    file.sync_all()
}

/// The length of the batch that begins here; none if there is no whole one.
fn batch(input: &mut impl Read) -> Option<u64> {
    let ([tag], count, _) = (take::<1>(input)?, u32::from_le_bytes(take(input)?), take::<8>(input)?);
    if tag != START {
        return None;
    }
    let (mut hash, mut length) = (Xxh3::new(), 13);
    for _ in 0..count {
        length += item(input, &mut hash)?;
    }
    let ([tag], checksum, magic) = (take::<1>(input)?, u64::from_le_bytes(take(input)?), take::<4>(input)?);
    (tag == END && magic == MAGIC && checksum == hash.digest()).then_some(length + 13)
}

fn item(input: &mut impl Read, hash: &mut Xxh3) -> Option<u64> {
    let [tag] = take::<1>(input)?;
    hash.update(&[tag]);
    match tag {
        CLEAR => {
            hash.update(&take::<8>(input)?);
            Some(9)
        }
        ITEM => {
            let head = take::<20>(input)?;
            hash.update(&head);
            let key = u64::from(u16::from_le_bytes([head[10], head[11]]));
            let stored = u64::from(u32::from_le_bytes([head[16], head[17], head[18], head[19]]));
            hashed(input, key + stored, hash)?;
            Some(21 + key + stored)
        }
        _ => None,
    }
}

/// Feeds so many bytes to the hash; none if they are not there.
fn hashed(input: &mut impl Read, mut length: u64, hash: &mut Xxh3) -> Option<()> {
    let mut piece = [0; 4 << 10];
    while length > 0 {
        let count = usize::try_from(length).unwrap_or(usize::MAX).min(piece.len());
        input.read_exact(&mut piece[..count]).ok()?;
        hash.update(&piece[..count]);
        length -= count as u64;
    }
    Some(())
}

fn take<const N: usize>(input: &mut impl Read) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes).ok().map(|()| bytes)
}
