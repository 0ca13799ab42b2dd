//! A record as the bytes that a group orders: written once by who proposes, read by who applies, untouched between.
//!
//! ```text
//!   format 1 · value · number of headers · (name · value)…      all numbers u32, big endian
//!   text = length, bytes          value = length + 1, bytes; 0: there is none
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use decree_wire::record::Record;

const FORMAT: u8 = 1;

/// Bytes that are no record of a format that this build knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("read a record: {0}")]
pub struct Error(String);

/// Writes a record.
#[must_use]
pub fn seal(record: &Record) -> Bytes {
    let text: usize =
        record.headers.iter().map(|(n, v)| n.len() + 8 + v.as_ref().map_or(0, Bytes::len)).sum();
    let mut out = BytesMut::with_capacity(9 + text + record.value.as_ref().map_or(0, Bytes::len));
    out.put_u8(FORMAT);
    put_value(&mut out, record.value.as_ref());
    out.put_u32(length(record.headers.len()));
    for (name, value) in &record.headers {
        out.put_u32(length(name.len()));
        out.put_slice(name.as_bytes());
        put_value(&mut out, value.as_ref());
    }
    out.freeze()
}

/// Reads a record; what it holds shares the memory of `bytes`.
///
/// # Errors
/// If it is none.
pub fn open(mut bytes: Bytes) -> Result<Record, Error> {
    let format = bytes.try_get_u8().map_err(|_| Error("it is empty".into()))?;
    if format != FORMAT {
        return Err(Error(format!("format {format} is not known to this build")));
    }
    let value = take_value(&mut bytes)?;
    let count = number(&mut bytes)?;
    let mut headers = Vec::with_capacity(count.min(64));
    for _ in 0..count {
        let length = number(&mut bytes)?;
        let name = take(&mut bytes, length)?;
        let name = std::str::from_utf8(&name).map_err(|_| Error("a name is no text".into()))?.to_owned();
        headers.push((name, take_value(&mut bytes)?));
    }
    if bytes.is_empty() {
        Ok(Record { value, headers })
    } else {
        Err(Error("it goes on behind its end".into()))
    }
}

fn length(of: usize) -> u32 {
    u32::try_from(of).expect("invariant: a record is far below 4 GiB")
}

fn put_value(out: &mut BytesMut, value: Option<&Bytes>) {
    match value {
        None => out.put_u32(0),
        Some(value) => {
            out.put_u32(length(value.len() + 1));
            out.put_slice(value);
        }
    }
}

fn number(bytes: &mut Bytes) -> Result<usize, Error> {
    let number = bytes.try_get_u32().map_err(|_| Error("it ends early".into()))?;
    usize::try_from(number).map_err(|error| Error(error.to_string()))
}

fn take(bytes: &mut Bytes, length: usize) -> Result<Bytes, Error> {
    if bytes.len() < length { Err(Error("it ends early".into())) } else { Ok(bytes.split_to(length)) }
}

fn take_value(bytes: &mut Bytes) -> Result<Option<Bytes>, Error> {
    match number(bytes)? {
        0 => Ok(None),
        length => take(bytes, length - 1).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let headers = vec![
            ("ce_id".into(), Some(Bytes::from_static(b"7"))),
            ("ce_id".into(), None),
            (String::new(), Some(Bytes::new())),
        ];
        Record { value: Some(Bytes::from_static(b"payload")), headers }
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        for record in [record(), Record::default(), Record { value: Some(Bytes::new()), headers: vec![] }] {
            assert_eq!(open(seal(&record)), Ok(record));
        }
    }

    #[test]
    fn what_is_cut_or_goes_on_or_is_of_another_format_is_an_error() {
        let whole = seal(&record());
        for end in 0..whole.len() {
            assert!(open(whole.slice(..end)).is_err(), "cut to {end}");
        }
        assert!(open([&whole[..], b"x"].concat().into()).is_err());
        assert!(open([b"\x02", &whole[1..]].concat().into()).is_err());
    }
}
