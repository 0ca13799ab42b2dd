//! Odd records: each reads as a command, a control entry or nothing, always as the same, and never breaks the reader.

#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;

fn with(headers: Vec<(String, Option<Bytes>)>, value: Option<Bytes>) -> Record {
    Record { value, headers }
}

fn header(name: &str, value: impl Into<Bytes>) -> (String, Option<Bytes>) {
    (name.to_owned(), Some(value.into()))
}

fn void(record: &Record) -> String {
    match decode(record) {
        Body::Void(why) => why,
        body => panic!("not void: {body:?}"),
    }
}

#[test]
fn a_null_value_and_no_bytes_are_empty_commands() {
    for value in [None, Some(Bytes::new())] {
        let Body::Command(command) = decode(&with(vec![header("ce_id", "1")], value)) else { panic!() };
        assert!(command.payload.is_empty());
    }
}

#[test]
fn beyond_the_limits_a_record_is_void_and_at_them_it_is_not() {
    let large = |size| with(vec![], Some(Bytes::from(vec![0; size])));
    assert!(matches!(decode(&large(MAX_VALUE)), Body::Command(_)));
    assert!(void(&large(MAX_VALUE + 1)).contains("16777216"));

    let strangers = |n: usize| with((0..n).map(|n| header(&format!("x{n}"), "")).collect(), None);
    assert!(matches!(decode(&strangers(MAX_HEADERS)), Body::Command(_)));
    assert!(void(&strangers(MAX_HEADERS + 1)).contains("4096"));

    let own = |n: usize| with((0..n).map(|n| header(&format!("ce_x{n}"), "")).collect(), None);
    assert!(matches!(decode(&own(MAX_OWN_HEADERS)), Body::Command(_)));
    assert!(void(&own(MAX_OWN_HEADERS + 1)).contains("256"));

    let long = |n: usize| with(vec![header("ce_x", "y".repeat(n))], None);
    assert!(matches!(decode(&long(MAX_OWN_HEADER_BYTES - 4)), Body::Command(_)));
    assert!(void(&long(MAX_OWN_HEADER_BYTES - 3)).contains("24576"));

    let named = |n: usize| with(vec![header("ce_id", "y".repeat(n))], None);
    assert!(matches!(decode(&named(MAX_ID)), Body::Command(_)));
    assert!(void(&named(MAX_ID + 1)).contains("1024"));
}

#[test]
fn what_is_decrees_own_can_not_be_forged() {
    let request = |forged: &str| {
        let method = [header("ce_type", TYPE_HTTP), header("ce_decreemethod", "PUT")];
        let rest = [header("ce_decreetarget", "/"), header(forged, "9"), header("http_x-a", "1")];
        with(method.into_iter().chain(rest).collect(), None)
    };
    for forged in ["http_decree-position", "http_Decree-Seed", "http_decree-later"] {
        let Body::Command(command) = decode(&request(forged)) else { panic!("{forged}") };
        assert_eq!(command.request.unwrap().headers, [("x-a".to_owned(), Bytes::from_static(b"1"))]);
    }
    for reserved in ["ce_decreeposition", "ce_decreeseed", "ce_decree"] {
        assert!(void(&with(vec![header(reserved, "1")], None)).contains("reserved"), "{reserved}");
    }
}

#[test]
fn reasons_are_short_whatever_a_record_holds() {
    let long = "é".repeat(10_000);
    let cases = ["ce_specversion", "ce_type", "ce_decreehead", "ce_decreeversion", "ce_decreeposition"];
    for name in cases {
        let text = if name == "ce_type" { format!("{TYPE_RESERVED}{long}") } else { long.clone() };
        assert!(void(&with(vec![header(name, text)], None)).len() < 400, "{name}");
    }
    for name in [format!("ce_{long}"), format!("http_{long}"), "ce_".into(), "http_".into()] {
        assert!(void(&with(vec![header(&name, "1")], None)).len() < 400);
    }
}

/// Names as Decree has them, broken, doubled, and as strangers have them.
fn a_name() -> impl Strategy<Value = String> {
    let known = [
        "ce_specversion",
        "ce_id",
        "ce_source",
        "ce_type",
        "ce_time",
        "ce_decreeversion",
        "ce_decreehead",
        "ce_decreemethod",
        "ce_decreetarget",
        "ce_region",
        "http_x-a",
        "http_host",
        "http_content-length",
        "content-type",
        "traceparent",
        "tracestate",
        "ce_",
        "http_",
        "",
        "\u{fffd}",
    ];
    let known = prop::sample::select(known.to_vec()).prop_map(str::to_owned);
    prop_oneof![4 => known, 1 => "(ce_|http_)?[a-zA-Z0-9_-]{0,12}", 1 => "\\PC{0,8}"]
}

fn a_value() -> impl Strategy<Value = Option<Bytes>> {
    let known = [
        "1.0",
        "0.3",
        "1",
        "-1",
        "+5",
        "18446744073709551615",
        "99999999999999999999",
        "PUT",
        "CONNECT",
        "/",
        "/v1/x?a=%20",
        "*",
        "//",
        "dev.decree.http",
        "dev.decree.command",
        "dev.decree.control.barrier",
        "dev.decree.control.settings",
        "dev.decree.control.later",
        "dev.decree.x",
        "a\nb",
        "é",
        " ",
    ];
    let known =
        prop::sample::select(known.to_vec()).prop_map(|text| Some(Bytes::from_static(text.as_bytes())));
    let random = option::of(vec(any::<u8>(), 0..12)).prop_map(|bytes| bytes.map(Bytes::from));
    prop_oneof![4 => known, 1 => random]
}

fn a_record() -> impl Strategy<Value = Record> {
    let value = option::of(vec(any::<u8>(), 0..32)).prop_map(|bytes| bytes.map(Bytes::from));
    (vec((a_name(), a_value()), 0..10), value).prop_map(|(headers, value)| Record { value, headers })
}

prop_compose! {
    fn a_request()(
        method in "[A-Z]{1,8}", target in "/[a-z0-9/%?&=.-]{0,20}",
        headers in vec(("x-[a-z]{1,6}", "[!-~]{0,8}"), 0..4),
    ) -> Request {
        let headers = headers.into_iter().map(|(name, value)| (name, Bytes::from(value))).collect();
        Request { method, target, headers }
    }
}

prop_compose! {
    fn a_command()(
        (id, source, kind, time) in (option::of("\\PC{1,20}"), option::of("\\PC{1,20}"), option::of("[a-c.]{0,9}"), option::of("\\PC{0,9}")),
        (content_type, traceparent, tracestate) in (option::of("[!-~]{0,12}"), option::of("[!-~]{0,12}"), option::of("[!-~]{0,12}")),
        version in option::of(any::<u32>()),
        head in option::of(any::<u64>().prop_map(Position)),
        extensions in btree_map("x[a-z0-9]{0,8}", "\\PC{0,9}", 0..4),
        request in option::of(a_request()),
        payload in vec(any::<u8>(), 0..64),
    ) -> Command {
        // A replicated request's type is Decree's own.
        let kind = kind.filter(|_| request.is_none());
        Command {
            id, source, kind, time, content_type, version, traceparent, tracestate, head, extensions, request,
            payload: payload.into(),
        }
    }
}

proptest! {
    #[test]
    fn any_record_reads_as_the_same_thing_twice(record in a_record()) {
        prop_assert_eq!(decode(&record), decode(&record));
    }

    #[test]
    fn what_was_written_is_read(command in a_command()) {
        let record = encode_command(&command);
        prop_assert_eq!(fits(&record), Ok(()));
        prop_assert_eq!(decode(&record), Body::Command(command));
    }

    #[test]
    fn what_was_read_of_a_stranger_can_be_written_and_is_read_as_the_same(record in a_record()) {
        match decode(&record) {
            Body::Command(command) => {
                prop_assert_eq!(decode(&encode_command(&command)), Body::Command(command));
            }
            Body::Control(Control::Unknown { .. }) | Body::Void(_) => {}
            Body::Control(control) => {
                let written = encode_control(&control).unwrap();
                prop_assert_eq!(decode(&written), Body::Control(control));
            }
        }
    }
}
