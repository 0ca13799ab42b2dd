//! HTTP request → command: the binary mode of the CloudEvents 1.0 HTTP protocol binding; a plain body is enough.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use percent_encoding::percent_decode_str;

use crate::attributes::{
    CONTENT_TYPE, HTTP_PREFIX, SPEC_VERSION, TRACEPARENT, TRACESTATE, TYPE_RESERVED, header, name,
};
use crate::command::Command;
use crate::record::MAX_ID;

/// Why a request is no command. Each says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A header's value can't be read.
    #[error("header {0} is not valid UTF-8 in percent-encoding; encode it as CloudEvents over HTTP asks")]
    Unreadable(String),
    /// An attribute that CloudEvents wants non-empty.
    #[error("header {0} is empty; leave it out or give it a value")]
    Empty(String),
    /// A header that names one thing, more than once.
    #[error("header {0} is there more than once; send it once")]
    Twice(String),
    /// An id or a source that would not fit into answers.
    #[error("header {0} is longer than {MAX_ID} bytes; use a shorter one")]
    TooLong(String),
    /// Two ids.
    #[error("idempotency-key and ce-id differ; send one of them, or the same value in both")]
    TwoIds,
    /// Not CloudEvents 1.0.
    #[error("ce-specversion is {0:?}; send 1.0")]
    SpecVersion(String),
    /// A name that is Decree's own.
    #[error("{0} is reserved for Decree; use another name")]
    Reserved(String),
}

/// Reads a proposal. The id stays empty if the client sent none: the caller makes one up.
///
/// # Errors
/// As [`Error`] lists; the request is the client's fault in each case.
pub fn from_http(headers: &HeaderMap, payload: Bytes) -> Result<Command, Error> {
    let mut command = Command { payload, ..Command::default() };
    for (header, value) in headers {
        let Some(attribute) = header.as_str().strip_prefix(HTTP_PREFIX) else { continue };
        once(headers, header.as_str())?;
        let text = decode(header.as_str(), value)?;
        match attribute {
            name::SPECVERSION if text == SPEC_VERSION => {}
            name::SPECVERSION => return Err(Error::SpecVersion(text)),
            name::ID => command.id = Some(naming(header.as_str(), text)?),
            name::SOURCE => command.source = Some(naming(header.as_str(), text)?),
            name::TYPE if text.starts_with(TYPE_RESERVED) => return Err(Error::Reserved(text)),
            name::TYPE => command.kind = Some(non_empty(header.as_str(), text)?),
            name::TIME => command.time = Some(text),
            _ if attribute.starts_with(name::RESERVED) => return Err(Error::Reserved(header.to_string())),
            _ => drop(command.extensions.insert(attribute.to_owned(), text)),
        }
    }
    let key = idempotency_key(headers)?;
    match (&command.id, key) {
        (Some(id), Some(key)) if *id != key => return Err(Error::TwoIds),
        (None, key) => command.id = key,
        _ => {}
    }
    once(headers, CONTENT_TYPE)?;
    command.content_type = plain(headers, CONTENT_TYPE)?;
    command.traceparent = plain(headers, TRACEPARENT).ok().flatten();
    command.tracestate = plain(headers, TRACESTATE).ok().flatten();
    Ok(command)
}

/// The client's `Idempotency-Key`, without the quotes that its specification asks for and many clients leave out.
///
/// # Errors
/// If it is empty, too long, there twice or not text.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Error> {
    once(headers, header::IDEMPOTENCY_KEY)?;
    let Some(key) = plain(headers, header::IDEMPOTENCY_KEY)? else { return Ok(None) };
    let key = key.strip_prefix('"').and_then(|k| k.strip_suffix('"')).unwrap_or(&key);
    naming(header::IDEMPOTENCY_KEY, key.to_owned()).map(Some)
}

fn plain(headers: &HeaderMap, header: &str) -> Result<Option<String>, Error> {
    let text = |v: &HeaderValue| v.to_str().map(str::to_owned);
    headers.get(header).map(text).transpose().map_err(|_| Error::Unreadable(header.to_owned()))
}

fn decode(header: &str, value: &HeaderValue) -> Result<String, Error> {
    let unreadable = || Error::Unreadable(header.to_owned());
    let text = std::str::from_utf8(value.as_bytes()).map_err(|_| unreadable())?;
    Ok(percent_decode_str(text).decode_utf8().map_err(|_| unreadable())?.into_owned())
}

/// Of two values a proxy before this door may have seen the other one.
fn once(headers: &HeaderMap, header: &str) -> Result<(), Error> {
    if headers.get_all(header).iter().count() <= 1 { Ok(()) } else { Err(Error::Twice(header.to_owned())) }
}

fn naming(header: &str, text: String) -> Result<String, Error> {
    if text.len() > MAX_ID {
        return Err(Error::TooLong(header.to_owned()));
    }
    non_empty(header, text)
}

fn non_empty(header: &str, text: String) -> Result<String, Error> {
    if text.is_empty() { Err(Error::Empty(header.to_owned())) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&'static str, &'static str)]) -> Result<Command, Error> {
        let headers = pairs
            .iter()
            .map(|(k, v)| (k.parse::<http::HeaderName>().unwrap(), HeaderValue::from_static(v)))
            .collect();
        from_http(&headers, Bytes::from_static(b"x"))
    }

    #[test]
    fn a_plain_body_is_enough() {
        assert_eq!(read(&[]).unwrap(), Command { payload: Bytes::from_static(b"x"), ..Command::default() });
    }

    #[test]
    fn attributes_are_read_and_decoded() {
        let command = read(&[
            ("ce-specversion", "1.0"),
            ("ce-id", "a%20b"),
            ("ce-source", "till"),
            ("ce-type", "sale"),
            ("ce-region", "%E2%82%AC"),
            ("content-type", "application/json"),
            ("idempotency-key", "\"a b\""),
        ])
        .unwrap();
        assert_eq!(command.id.as_deref(), Some("a b"));
        assert_eq!(command.extensions["region"], "€");
        assert_eq!(command.content_type.as_deref(), Some("application/json"));
    }

    #[test]
    fn what_is_refused() {
        assert_eq!(read(&[("ce-id", "a"), ("idempotency-key", "b")]), Err(Error::TwoIds));
        assert_eq!(read(&[("ce-id", "")]), Err(Error::Empty("ce-id".into())));
        assert_eq!(read(&[("idempotency-key", "\"\"")]), Err(Error::Empty("idempotency-key".into())));
        for header in ["ce-id", "ce-region", "idempotency-key", "content-type"] {
            assert_eq!(read(&[(header, "a"), (header, "a")]), Err(Error::Twice(header.into())));
        }
        let long: &'static str = "x".repeat(MAX_ID + 1).leak();
        assert_eq!(read(&[("idempotency-key", long)]), Err(Error::TooLong("idempotency-key".into())));
        assert_eq!(read(&[("ce-source", long)]), Err(Error::TooLong("ce-source".into())));
        assert_eq!(read(&[("ce-decreehead", "1")]), Err(Error::Reserved("ce-decreehead".into())));
        assert!(matches!(read(&[("ce-type", "dev.decree.control.skip")]), Err(Error::Reserved(_))));
        assert!(matches!(read(&[("ce-specversion", "0.3")]), Err(Error::SpecVersion(_))));
    }
}
