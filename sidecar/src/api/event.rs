//! Entries and outcomes as JSON, their payloads in the manner of CloudEvents: `data`, or `data_base64`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use decree_wire::attributes::{TYPE_COMMAND, TYPE_CONTROL_PREFIX, TYPE_HTTP};
use decree_wire::command::Command;
use decree_wire::delivery::format_time;
use decree_wire::entry::{Body, Entry};
use decree_wire::position::{EngineName, Incarnation};
use serde_json::{Map, Value, json};

use crate::app::Outcome;

/// More of a payload is not shown, but how much it is: as text it takes up to six times the memory, in every stream. It
/// is more than any sidecar proposes; where the topic allows larger records, who needs them reads the topic.
const SHOWN_BYTES: usize = 1 << 20;

/// One entry of the log as one line of JSON.
#[must_use]
pub(super) fn line(entry: &Entry, engine: &EngineName, incarnation: &Incarnation) -> String {
    let mut out = Map::new();
    out.insert("position".into(), json!(entry.position));
    out.insert("time".into(), json!(format_time(entry.log_time)));
    match &entry.body {
        Body::Command(command) => {
            let identity = command.identity(engine, incarnation, entry.position);
            out.insert("id".into(), json!(identity.id));
            out.insert("source".into(), json!(identity.source));
            describe(&mut out, command);
            with_data(out, command.content_type.as_deref(), &command.payload)
        }
        Body::Control(control) => {
            out.insert("type".into(), json!(format!("{TYPE_CONTROL_PREFIX}{}", control.kind())));
            let value = control.encode().unwrap_or_default();
            if value.is_empty() {
                return Value::Object(out).to_string();
            }
            with_data(out, Some("application/json"), &value)
        }
        Body::Void(why) => {
            out.insert("void".into(), json!(why));
            Value::Object(out).to_string()
        }
    }
}

fn describe(out: &mut Map<String, Value>, command: &Command) {
    let own_type = if command.request.is_some() { TYPE_HTTP } else { TYPE_COMMAND };
    out.insert("type".into(), json!(command.kind.as_deref().unwrap_or(own_type)));
    for (name, value) in [
        ("contenttype", &command.content_type),
        ("clienttime", &command.time),
        ("traceparent", &command.traceparent),
    ] {
        if let Some(value) = value {
            out.insert(name.into(), json!(value));
        }
    }
    if let Some(version) = command.version {
        out.insert("version".into(), json!(version));
    }
    if let Some(request) = &command.request {
        out.insert("method".into(), json!(request.method));
        out.insert("target".into(), json!(request.target));
    }
    if !command.extensions.is_empty() {
        out.insert("extensions".into(), json!(command.extensions));
    }
}

/// The payload is untouched: JSON goes in as it was written, so that no number loses a digit.
fn with_data(mut out: Map<String, Value>, content_type: Option<&str>, payload: &[u8]) -> String {
    if payload.is_empty() {
        return Value::Object(out).to_string();
    }
    if payload.len() > SHOWN_BYTES {
        out.insert("omittedBytes".into(), json!(payload.len()));
        return Value::Object(out).to_string();
    }
    let text = std::str::from_utf8(payload).ok();
    match text {
        Some(text)
            if is_json(content_type) && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() =>
        {
            let head = Value::Object(out).to_string();
            // Line breaks in valid JSON are white space; in a line they would end it.
            let data = text.replace(['\n', '\r'], " ");
            format!("{},\"data\":{data}}}", head.strip_suffix('}').unwrap_or(&head))
        }
        Some(text) => {
            out.insert("data".into(), json!(text));
            Value::Object(out).to_string()
        }
        None => {
            out.insert("data_base64".into(), json!(STANDARD.encode(payload)));
            Value::Object(out).to_string()
        }
    }
}

fn is_json(content_type: Option<&str>) -> bool {
    let Some(content_type) = content_type else { return false };
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media == "application/json" || media.ends_with("+json")
}

/// An application's answer.
#[must_use]
pub(super) fn outcome(outcome: &Outcome) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("status".into(), json!(outcome.status));
    let content_type = outcome.headers.iter().find(|(name, _)| name == "content-type");
    if let Some(content_type) = content_type.and_then(|(_, value)| std::str::from_utf8(value).ok()) {
        out.insert("contenttype".into(), json!(content_type));
    }
    match std::str::from_utf8(&outcome.body) {
        Ok(text) => out.insert("data".into(), json!(text)),
        Err(_) => out.insert("data_base64".into(), json!(STANDARD.encode(&outcome.body))),
    };
    if let Some(omitted) = outcome.omitted {
        out.insert("omittedBytes".into(), json!(omitted.bytes));
    }
    out
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use decree_wire::control::{Barrier, Control};
    use decree_wire::position::Position;

    use super::*;

    fn shown(body: Body) -> String {
        let entry = Entry { position: Position(7), log_time: 1_767_323_045_678, body };
        let engine = EngineName { namespace: "shop".into(), name: "policy".into() };
        line(&entry, &engine, &Incarnation("t".into()))
    }

    #[test]
    fn json_goes_in_as_it_was_written_on_one_line() {
        let command = Command {
            id: Some("a".into()),
            content_type: Some("application/json; charset=utf-8".into()),
            payload: Bytes::from_static(b"{\"n\":\n12345678901234567890.5}"),
            extensions: [("region".to_owned(), "eu}".to_owned())].into(),
            ..Command::default()
        };
        let line = shown(Body::Command(command));
        assert!(line.ends_with(r#","data":{"n": 12345678901234567890.5}}"#), "{line}");
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["position"], 7);
        assert_eq!(read["source"], "/decree/shop/policy");
        assert_eq!(read["time"], "2026-01-02T03:04:05.678Z");
        assert_eq!(read["extensions"]["region"], "eu}");
    }

    #[test]
    fn text_bytes_control_and_void() {
        let of = |payload: &'static [u8], content_type: &str| {
            let command = Command {
                content_type: Some(content_type.into()),
                payload: Bytes::from_static(payload),
                ..Command::default()
            };
            serde_json::from_str::<Value>(&shown(Body::Command(command))).unwrap()
        };
        assert_eq!(of(b"a\nb", "text/plain")["data"], "a\nb");
        assert_eq!(of(b"{", "application/json")["data"], "{");
        assert_eq!(of(b"\xff", "x/y")["data_base64"], "/w==");
        assert_eq!(of(b"\xff", "x/y")["id"], "7");
        assert_eq!(of(&[b'x'; SHOWN_BYTES], "text/plain")["data"].as_str().unwrap().len(), SHOWN_BYTES);
        let large = of(&[b'x'; SHOWN_BYTES + 1], "text/plain");
        assert_eq!((&large["data"], &large["omittedBytes"]), (&Value::Null, &(SHOWN_BYTES + 1).into()));
        let barrier = shown(Body::Control(Control::Barrier(Barrier { agent: "opa-0".into() })));
        let barrier: Value = serde_json::from_str(&barrier).unwrap();
        assert_eq!(barrier["type"], "dev.decree.control.barrier");
        assert_eq!(barrier["data"]["agent"], "opa-0");
        assert!(shown(Body::Void("half".into())).contains(r#""void":"half""#));
    }
}
