//! Records as they are written, and as other tools write them.

#![allow(clippy::unwrap_used)]

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
