//! Entry ⇄ Kafka record, in the binary mode of the CloudEvents 1.0 Kafka protocol binding.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};

use crate::attributes::{
    CONTENT_TYPE, RECORD_PREFIX, REQUEST_HEADER_PREFIX, SPEC_VERSION, TRACEPARENT, TRACESTATE, TYPE_COMMAND,
    TYPE_CONTROL_PREFIX, TYPE_HTTP, TYPE_RESERVED, name,
};
use crate::command::{Command, Request};
use crate::control::Control;
use crate::entry::Body;
use crate::position::Position;

/// A record's headers in order. A header may have no value, and a name may come twice.
pub type Headers = Vec<(String, Option<Bytes>)>;

/// A record's key is never used: there is one partition, and no compaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// None (a tombstone) reads as an empty payload.
    pub value: Option<Bytes>,
    /// In order.
    pub headers: Headers,
}

/// A command as a record.
#[must_use]
pub fn encode_command(command: &Command) -> Record {
    let mut out = Writer(Vec::with_capacity(12));
    let own_type = if command.request.is_some() { TYPE_HTTP } else { TYPE_COMMAND };
    out.attribute(name::SPECVERSION, Some(SPEC_VERSION));
    out.attribute(name::ID, command.id.as_deref());
    out.attribute(name::SOURCE, command.source.as_deref());
    out.attribute(name::TYPE, Some(command.kind.as_deref().unwrap_or(own_type)));
    out.attribute(name::TIME, command.time.as_deref());
    out.attribute(name::VERSION, command.version.map(|v| v.to_string()).as_deref());
    out.attribute(name::HEAD, command.head.map(|p| p.to_string()).as_deref());
    if let Some(request) = &command.request {
        out.attribute(name::METHOD, Some(&request.method));
        out.attribute(name::TARGET, Some(&request.target));
    }
    for (extension, value) in &command.extensions {
        out.attribute(extension, Some(value));
    }
    out.plain(CONTENT_TYPE, command.content_type.as_deref());
    out.plain(TRACEPARENT, command.traceparent.as_deref());
    out.plain(TRACESTATE, command.tracestate.as_deref());
    for (header, value) in command.request.iter().flat_map(|r| &r.headers) {
        out.0.push((format!("{REQUEST_HEADER_PREFIX}{header}"), Some(value.clone())));
    }
    Record { value: Some(command.payload.clone()), headers: out.0 }
}

/// A control entry as a record.
///
/// # Errors
/// As [`Control::encode`].
pub fn encode_control(control: &Control) -> Result<Record, serde_json::Error> {
    let mut out = Writer(Vec::with_capacity(3));
    out.attribute(name::SPECVERSION, Some(SPEC_VERSION));
    out.attribute(name::TYPE, Some(&format!("{TYPE_CONTROL_PREFIX}{}", control.kind())));
    out.plain(CONTENT_TYPE, Some("application/json"));
    Ok(Record { value: Some(control.encode()?.into()), headers: out.0 })
}

struct Writer(Headers);

impl Writer {
    fn attribute(&mut self, attribute: &str, value: Option<&str>) {
        self.plain(&format!("{RECORD_PREFIX}{attribute}"), value);
    }

    fn plain(&mut self, header: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.0.push((header.to_owned(), Some(Bytes::copy_from_slice(value.as_bytes()))));
        }
    }
}

/// Reads a record, whoever wrote it. Total and deterministic: what is no command and no control entry is void, in
/// every replica alike.
#[must_use]
pub fn decode(record: &Record) -> Body {
    match read(record) {
        Ok(body) => body,
        Err(reason) => Body::Void(reason),
    }
}

fn read(record: &Record) -> Result<Body, String> {
    let payload = record.value.clone().unwrap_or_default();
    let mut command = Command { payload, ..Command::default() };
    let (mut method, mut target, mut headers) = (None, None, Vec::new());
    for (header, value) in &record.headers {
        let value = value.clone().unwrap_or_default();
        if let Some(attribute) = header.strip_prefix(RECORD_PREFIX) {
            let text = text(header, &value)?;
            match attribute {
                name::SPECVERSION if text == SPEC_VERSION => {}
                name::SPECVERSION => return Err(format!("ce_specversion is {text:?}, not {SPEC_VERSION:?}")),
                name::ID => once(&mut command.id, header, non_empty(header, text)?)?,
                name::SOURCE => once(&mut command.source, header, non_empty(header, text)?)?,
                name::TYPE => once(&mut command.kind, header, text)?,
                name::TIME => once(&mut command.time, header, text)?,
                name::VERSION => once(&mut command.version, header, number(header, &text)?)?,
                name::HEAD => once(&mut command.head, header, Position(number(header, &text)?))?,
                name::METHOD => once(&mut method, header, text)?,
                name::TARGET => once(&mut target, header, text)?,
                _ => extension(&mut command, attribute, text)?,
            }
        } else if let Some(name) = header.strip_prefix(REQUEST_HEADER_PREFIX) {
            headers.push(request_header(name, value)?);
        } else {
            match header.as_str() {
                CONTENT_TYPE => once(&mut command.content_type, header, header_text(header, &value)?)?,
                TRACEPARENT => command.traceparent = header_text(header, &value).ok(),
                TRACESTATE => command.tracestate = header_text(header, &value).ok(),
                _ => {} // another tool's header: it decides nothing
            }
        }
    }
    match command.kind.take() {
        Some(kind) if kind == TYPE_HTTP => {
            command.request = Some(request(method, target, headers)?);
        }
        Some(kind) if kind == TYPE_COMMAND => {}
        Some(kind) => {
            if let Some(control) = kind.strip_prefix(TYPE_CONTROL_PREFIX) {
                return Ok(Body::Control(Control::decode(control, &command.payload)));
            }
            if kind.starts_with(TYPE_RESERVED) {
                return Err(format!("ce_type {kind:?} is reserved"));
            }
            command.kind = Some(kind);
        }
        None => {}
    }
    Ok(Body::Command(command))
}

fn once<T>(slot: &mut Option<T>, header: &str, value: T) -> Result<(), String> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("header {header} is there twice")),
    }
}

fn text(header: &str, value: &Bytes) -> Result<String, String> {
    String::from_utf8(value.to_vec()).map_err(|_| format!("header {header} is not UTF-8"))
}

fn non_empty(header: &str, text: String) -> Result<String, String> {
    if text.is_empty() { Err(format!("header {header} is empty")) } else { Ok(text) }
}

fn number<T: std::str::FromStr>(header: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("header {header} is not a number: {text:?}"))
}

/// A header that is handed on as an HTTP header has to be one.
fn header_text(header: &str, value: &Bytes) -> Result<String, String> {
    HeaderValue::from_bytes(value)
        .ok()
        .and_then(|v| v.to_str().map(str::to_owned).ok())
        .ok_or_else(|| format!("header {header} is not printable ASCII"))
}

fn extension(command: &mut Command, attribute: &str, value: String) -> Result<(), String> {
    if HeaderName::from_bytes(attribute.as_bytes()).is_err() || attribute.to_ascii_lowercase() != attribute {
        return Err(format!("{attribute:?} is no CloudEvents attribute name"));
    }
    match command.extensions.insert(attribute.to_owned(), value) {
        None => Ok(()),
        Some(_) => Err(format!("attribute {attribute} is there twice")),
    }
}

fn request_header(name: &str, value: Bytes) -> Result<(String, Bytes), String> {
    let valid = HeaderName::from_bytes(name.as_bytes()).is_ok() && HeaderValue::from_bytes(&value).is_ok();
    if valid { Ok((name.to_ascii_lowercase(), value)) } else { Err(format!("{name:?} is no HTTP header")) }
}

fn request(
    method: Option<String>,
    target: Option<String>,
    headers: Vec<(String, Bytes)>,
) -> Result<Request, String> {
    let method = method.ok_or("a replicated request without ce_decreemethod")?;
    let target = target.ok_or("a replicated request without ce_decreetarget")?;
    if Method::from_bytes(method.as_bytes()).is_err() {
        return Err(format!("{method:?} is no HTTP method"));
    }
    if !target.starts_with('/') || target.parse::<http::uri::PathAndQuery>().is_err() {
        return Err(format!("{target:?} is no path and query"));
    }
    Ok(Request { method, target, headers })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::control::Barrier;

    fn headers(record: &Record) -> Vec<(&str, &str)> {
        let text = |v: &'_ Option<Bytes>| -> &'static str {
            Box::leak(String::from_utf8(v.clone().unwrap().to_vec()).unwrap().into_boxed_str())
        };
        record.headers.iter().map(|(k, v)| (k.as_str(), text(v))).collect()
    }

    fn record(headers: &[(&str, &[u8])], value: &'static [u8]) -> Record {
        Record {
            value: Some(Bytes::from_static(value)),
            headers: headers.iter().map(|(k, v)| ((*k).into(), Some(Bytes::copy_from_slice(v)))).collect(),
        }
    }

    #[test]
    fn golden_command() {
        let command = Command {
            id: Some("42".into()),
            source: Some("till".into()),
            kind: Some("sale".into()),
            time: Some("2026-01-02T03:04:05Z".into()),
            content_type: Some("application/json".into()),
            version: Some(2),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            head: Some(Position(7)),
            extensions: [("region".into(), "eu".into())].into(),
            payload: Bytes::from_static(b"{\"n\":1}"),
            ..Command::default()
        };
        let encoded = encode_command(&command);
        assert_eq!(
            headers(&encoded),
            [
                ("ce_specversion", "1.0"),
                ("ce_id", "42"),
                ("ce_source", "till"),
                ("ce_type", "sale"),
                ("ce_time", "2026-01-02T03:04:05Z"),
                ("ce_decreeversion", "2"),
                ("ce_decreehead", "7"),
                ("ce_region", "eu"),
                ("content-type", "application/json"),
                ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ]
        );
        assert_eq!(encoded.value.as_deref(), Some(&b"{\"n\":1}"[..]));
        assert_eq!(decode(&encoded), Body::Command(command));
    }

    #[test]
    fn golden_request() {
        let command = Command {
            id: Some("a".into()),
            request: Some(Request {
                method: "PUT".into(),
                target: "/v1/data/x?pretty".into(),
                headers: vec![("x-tenant".into(), Bytes::from_static(b"t"))],
            }),
            payload: Bytes::from_static(b"5"),
            ..Command::default()
        };
        let encoded = encode_command(&command);
        assert_eq!(
            headers(&encoded),
            [
                ("ce_specversion", "1.0"),
                ("ce_id", "a"),
                ("ce_type", "dev.decree.http"),
                ("ce_decreemethod", "PUT"),
                ("ce_decreetarget", "/v1/data/x?pretty"),
                ("http_x-tenant", "t"),
            ]
        );
        assert_eq!(decode(&encoded), Body::Command(command));
    }

    #[test]
    fn golden_control() {
        let control = Control::Barrier(Barrier { agent: "opa-0".into() });
        let encoded = encode_control(&control).unwrap();
        assert_eq!(
            headers(&encoded),
            [
                ("ce_specversion", "1.0"),
                ("ce_type", "dev.decree.control.barrier"),
                ("content-type", "application/json"),
            ]
        );
        assert_eq!(encoded.value.as_deref(), Some(&br#"{"agent":"opa-0"}"#[..]));
        assert_eq!(decode(&encoded), Body::Control(control));
    }

    #[test]
    fn a_plain_clients_record_is_a_command() {
        let body = decode(&record(&[("other-tool", b"\xff")], b"{}"));
        let expected = Command { payload: Bytes::from_static(b"{}"), ..Command::default() };
        assert_eq!(body, Body::Command(expected));
        assert_eq!(decode(&Record::default()), Body::Command(Command::default()));
    }

    #[test]
    fn half_right_headers_are_void() {
        let cases: [&[(&str, &[u8])]; 10] = [
            &[("ce_id", b"")],
            &[("ce_id", b"\xff")],
            &[("ce_id", b"1"), ("ce_id", b"1")],
            &[("ce_specversion", b"0.3")],
            &[("ce_decreeversion", b"-1")],
            &[("ce_decreehead", b"x")],
            &[("ce_type", b"dev.decree.http"), ("ce_decreemethod", b"PUT")],
            &[("ce_type", b"dev.decree.http"), ("ce_decreemethod", b"P T"), ("ce_decreetarget", b"/")],
            &[("ce_type", b"dev.decree.later")],
            &[("content-type", b"a\nb")],
        ];
        for case in cases {
            assert!(matches!(decode(&record(case, b"")), Body::Void(_)), "{case:?}");
        }
    }

    proptest! {
        #[test]
        fn decoding_never_panics_and_repeats_itself(
            pairs in proptest::collection::vec(("(ce_|http_)?[a-zA-Z_-]{0,12}", proptest::option::of(proptest::collection::vec(any::<u8>(), 0..12))), 0..6),
            value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..32)),
        ) {
            let record = Record {
                value: value.map(Bytes::from),
                headers: pairs.into_iter().map(|(k, v)| (k, v.map(Bytes::from))).collect(),
            };
            prop_assert_eq!(decode(&record), decode(&record));
        }
    }
}
