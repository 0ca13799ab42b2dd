//! HTTP request → command: what travels of a replicated request, and what must stay out of the log.

use bytes::Bytes;
use decree_wire::attributes::{CONTENT_TYPE, HTTP_PREFIX, TRACEPARENT, TRACESTATE, header, name};
use decree_wire::command::{Command, Request};
use decree_wire::proposal;
use http::request::Parts;
use http::{HeaderMap, HeaderValue};

use super::hop::is_hop_by_hop;

/// Never in a command: credentials expire and a replay must not fail for it; answers must be comparable, so nobody
/// negotiates their encoding; the body's length and framing are the sender's.
const STAYS_OUT: [&str; 6] =
    ["authorization", "proxy-authorization", "cookie", "accept-encoding", "content-length", "expect"];
/// In fields of their own.
const FIELDS: [&str; 5] = [CONTENT_TYPE, TRACEPARENT, TRACESTATE, "ce-id", "ce-source"];

/// The request as a command, its id empty if the client named none (`Idempotency-Key`, or `ce-id`).
///
/// # Errors
/// If what names the command can't be read; the client's fault in each case.
pub(super) fn capture(parts: &Parts, body: Bytes, delivered: &HeaderMap) -> Result<Command, proposal::Error> {
    let Command { id, source, content_type, .. } = named(&parts.headers)?;
    let plain = |header: &str| parts.headers.get(header).map(HeaderValue::to_str);
    Ok(Command {
        id,
        source,
        content_type,
        traceparent: plain(TRACEPARENT).and_then(Result::ok).map(str::to_owned),
        tracestate: plain(TRACESTATE).and_then(Result::ok).map(str::to_owned),
        request: Some(Request {
            method: parts.method.as_str().to_owned(),
            target: target(parts),
            headers: kept(parts, delivered),
        }),
        payload: body,
        ..Command::default()
    })
}

/// The client's own id and source, and the media type, read by the rules of a proposal on the local API.
fn named(headers: &HeaderMap) -> Result<Command, proposal::Error> {
    let naming = ["ce-id", "ce-source", header::IDEMPOTENCY_KEY, CONTENT_TYPE];
    let only: HeaderMap = headers
        .iter()
        .filter(|(header, _)| naming.contains(&header.as_str()))
        .map(|(header, value)| (header.clone(), value.clone()))
        .collect();
    proposal::from_http(&only, Bytes::new())
}

fn target(parts: &Parts) -> String {
    let target = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    if target.starts_with('/') { target.to_owned() } else { format!("/{target}") }
}

/// `delivered`: what each delivery gets from the engine is a credential, whatever it is called.
fn kept(parts: &Parts, delivered: &HeaderMap) -> Vec<(String, Bytes)> {
    let reserved = format!("{HTTP_PREFIX}{}", name::RESERVED);
    let travels = |header: &str| {
        !is_hop_by_hop(&parts.headers, header)
            && !STAYS_OUT.contains(&header)
            && !FIELDS.contains(&header)
            && !delivered.contains_key(header)
            && !header.starts_with(header::RESERVED)
            && !header.starts_with(&reserved)
    };
    let own = parts
        .headers
        .iter()
        .filter(|(header, _)| travels(header.as_str()))
        .map(|(header, value)| (header.as_str().to_owned(), Bytes::copy_from_slice(value.as_bytes())));
    own.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(headers: &[(&str, &str)]) -> Result<Command, proposal::Error> {
        let mut request = http::Request::builder().method("PUT").uri("/v1/data/x?pretty=1");
        for (header, value) in headers {
            request = request.header(*header, *value);
        }
        let delivered = HeaderMap::from_iter([(
            http::HeaderName::from_static("x-token"),
            HeaderValue::from_static("secret"),
        )]);
        capture(&request.body(()).unwrap().into_parts().0, Bytes::from_static(b"5"), &delivered)
    }

    fn names(command: &Command) -> Vec<&str> {
        command.request.as_ref().unwrap().headers.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn a_request_travels_with_its_end_to_end_headers() {
        let command = captured(&[
            ("host", "policy"),
            ("x-a", "1"),
            ("x-a", "2"),
            ("content-type", "application/json"),
            ("traceparent", "00-1"),
            ("if-match", "\"3\""),
            ("ce-type", "sale"),
        ])
        .unwrap();
        assert_eq!(names(&command), ["host", "x-a", "x-a", "if-match", "ce-type"]);
        assert_eq!(command.content_type.as_deref(), Some("application/json"));
        assert_eq!(command.traceparent.as_deref(), Some("00-1"));
        assert_eq!((command.kind, command.id, command.source), (None, None, None));
        let request = command.request.unwrap();
        assert_eq!((request.method.as_str(), request.target.as_str()), ("PUT", "/v1/data/x?pretty=1"));
    }

    #[test]
    fn credentials_hops_and_decrees_own_stay_out() {
        let command = captured(&[
            ("authorization", "Bearer x"),
            ("proxy-authorization", "x"),
            ("cookie", "x"),
            ("x-token", "the engine adds one at delivery"),
            ("accept-encoding", "gzip"),
            ("content-length", "1"),
            ("expect", "100-continue"),
            ("connection", "keep-alive, X-Mine"),
            ("x-mine", "1"),
            ("keep-alive", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("decree-position", "9"),
            ("decree-read", "barrier"),
            ("ce-decreehead", "9"),
        ])
        .unwrap();
        assert_eq!(names(&command), [""; 0]);
    }

    #[test]
    fn the_clients_own_id_is_the_commands() {
        let command = captured(&[("idempotency-key", "\"k 1\""), ("ce-source", "till")]).unwrap();
        assert_eq!((command.id.as_deref(), command.source.as_deref()), (Some("k 1"), Some("till")));
        assert_eq!(captured(&[("ce-id", "a")]).unwrap().id.as_deref(), Some("a"));
        assert_eq!(captured(&[("ce-id", "a"), ("idempotency-key", "b")]), Err(proposal::Error::TwoIds));
    }
}
