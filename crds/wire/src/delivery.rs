//! Entry → HTTP headers of a delivery: what an application is told beside the payload, the same in every agent.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::attributes::{
    CONTENT_TYPE, HTTP_PREFIX, SPEC_VERSION, TRACEPARENT, TRACESTATE, TYPE_COMMAND, TYPE_HTTP, header, name,
};
use crate::command::{Command, Identity};
use crate::position::{Incarnation, Position, seed};

/// What CloudEvents over HTTP wants encoded in a header's value, beside everything that is not ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// Where and when an entry stands, for the headers of its delivery.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Whose position it is.
    pub incarnation: &'a Incarnation,
    /// The entry's place.
    pub position: Position,
    /// Log time made monotonic, in milliseconds since 1970.
    pub log_time: i64,
}

/// The headers with which `command` is POSTed to an `apply` endpoint.
///
/// Every attribute is there as CloudEvents has it; a record without an id or a source shows the identity that it has.
#[must_use]
pub fn apply_headers(command: &Command, identity: &Identity, place: Place<'_>) -> HeaderMap {
    let mut out = HeaderMap::new();
    let own_type = if command.request.is_some() { TYPE_HTTP } else { TYPE_COMMAND };
    for (header, value) in command.request.iter().flat_map(|r| &r.headers) {
        append(&mut out, header, value);
    }
    set(&mut out, name::SPECVERSION, SPEC_VERSION);
    set(&mut out, name::ID, &identity.id);
    set(&mut out, name::SOURCE, &identity.source);
    set(&mut out, name::TYPE, command.kind.as_deref().unwrap_or(own_type));
    for (attribute, value) in &command.extensions {
        set(&mut out, attribute, value);
    }
    if let Some(time) = &command.time {
        set(&mut out, name::TIME, time);
    }
    if let Some(request) = &command.request {
        set(&mut out, name::METHOD, &request.method);
        set(&mut out, name::TARGET, &request.target);
    }
    place_headers(&mut out, command, place);
    out
}

/// The headers with which a replicated request is sent to the application: its own, and where it stands in the log.
#[must_use]
pub fn replicate_headers(command: &Command, identity: &Identity, place: Place<'_>) -> HeaderMap {
    let mut out = HeaderMap::new();
    for (header, value) in command.request.iter().flat_map(|r| &r.headers) {
        append(&mut out, header, value);
    }
    set(&mut out, name::ID, &identity.id);
    set(&mut out, name::SOURCE, &identity.source);
    place_headers(&mut out, command, place);
    out
}

/// Log time as RFC 3339 in UTC, with milliseconds.
#[must_use]
pub fn format_time(milliseconds: i64) -> String {
    match jiff::Timestamp::from_millisecond(milliseconds) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => String::from("1970-01-01T00:00:00.000Z"), // a broker's -1: no time known
    }
}

fn place_headers(out: &mut HeaderMap, command: &Command, place: Place<'_>) {
    for (header, value) in [
        (CONTENT_TYPE, &command.content_type),
        (TRACEPARENT, &command.traceparent),
        (TRACESTATE, &command.tracestate),
    ] {
        if let Some(value) = value {
            plain(out, header, value);
        }
    }
    plain(out, header::POSITION, &place.position.to_string());
    plain(out, header::TIME, &format_time(place.log_time));
    plain(out, header::SEED, &format!("{:016x}", seed(place.incarnation, place.position)));
    plain(out, header::VERSION, &command.version.unwrap_or(1).to_string());
}

fn set(out: &mut HeaderMap, attribute: &str, value: &str) {
    plain(out, &format!("{HTTP_PREFIX}{attribute}"), &utf8_percent_encode(value, ENCODED).to_string());
}

fn plain(out: &mut HeaderMap, header: &str, value: &str) {
    if let (Ok(header), Ok(value)) = (HeaderName::from_bytes(header.as_bytes()), HeaderValue::from_str(value))
    {
        out.insert(header, value);
    }
}

fn append(out: &mut HeaderMap, header: &str, value: &[u8]) {
    if let (Ok(header), Ok(value)) =
        (HeaderName::from_bytes(header.as_bytes()), HeaderValue::from_bytes(value))
    {
        out.append(header, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Request;

    fn lines(headers: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<_> =
            headers.iter().map(|(k, v)| format!("{k}: {}", v.to_str().unwrap())).collect();
        lines.sort();
        lines
    }

    fn identity() -> Identity {
        Identity { source: "/decree/shop/policy".into(), id: "é 1".into() }
    }

    #[test]
    fn golden_apply() {
        let incarnation = Incarnation("topic".into());
        let command = Command {
            kind: Some("sale".into()),
            content_type: Some("application/json".into()),
            ..Command::default()
        };
        let place = Place { incarnation: &incarnation, position: Position(7), log_time: 1_767_323_045_678 };
        assert_eq!(
            lines(&apply_headers(&command, &identity(), place)),
            [
                "ce-id: %C3%A9%201",
                "ce-source: /decree/shop/policy",
                "ce-specversion: 1.0",
                "ce-type: sale",
                "content-type: application/json",
                "decree-position: 7",
                "decree-seed: 06006ecf532fa333",
                "decree-time: 2026-01-02T03:04:05.678Z",
                "decree-version: 1",
            ]
        );
    }

    #[test]
    fn a_requests_own_headers_come_back_and_cannot_pass_for_decrees() {
        let incarnation = Incarnation("topic".into());
        let command = Command {
            request: Some(Request {
                method: "PUT".into(),
                target: "/".into(),
                headers: vec![
                    ("x-a".into(), "1".into()),
                    ("x-a".into(), "2".into()),
                    ("decree-position".into(), "99".into()),
                ],
            }),
            ..Command::default()
        };
        let place = Place { incarnation: &incarnation, position: Position(7), log_time: -1 };
        let headers = replicate_headers(&command, &identity(), place);
        assert_eq!(headers.get_all("x-a").iter().count(), 2);
        assert_eq!(headers.get_all("decree-position").iter().collect::<Vec<_>>(), ["7"]);
    }
}
