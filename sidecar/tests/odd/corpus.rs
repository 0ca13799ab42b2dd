//! Odd records that somebody with a plain Kafka client may write: each is a command like any other, or void everywhere.

use bytes::Bytes;
use decree_wire::record::Record;

fn record(headers: &[(&str, &[u8])], value: Option<&[u8]>) -> Record {
    let headers =
        headers.iter().map(|(name, value)| ((*name).to_owned(), Some(Bytes::copy_from_slice(value))));
    Record { value: value.map(Bytes::copy_from_slice), headers: headers.collect() }
}

/// What they are, and themselves, in the order in which they are written.
pub(crate) fn corpus() -> Vec<(&'static str, Record)> {
    let request = |more: &[(&str, &[u8])]| {
        let method: (&str, &[u8]) = ("ce_decreemethod", b"PUT");
        let parts = [("ce_type", &b"dev.decree.http"[..]), method, ("ce_decreetarget", b"/v1/x")];
        record(&[&parts[..], more].concat(), Some(b"x"))
    };
    let many = |count: usize, prefix: &str| Record {
        value: Some(Bytes::from_static(b"many headers")),
        headers: (0..count).map(|n| (format!("{prefix}{n}"), Some(Bytes::from_static(b"1")))).collect(),
    };
    let no_value =
        |name: &str| Record { value: Some(Bytes::from_static(b"x")), headers: vec![(name.to_owned(), None)] };
    vec![
        ("nothing at all", record(&[], None)),
        ("no bytes", record(&[], Some(b""))),
        ("bytes that are no text", record(&[], Some(b"\xff\x00\xfe"))),
        ("a null with an id", record(&[("ce_id", b"null")], None)),
        ("the same id with no bytes: the same command", record(&[("ce_id", b"null")], Some(b""))),
        ("the same id with content", record(&[("ce_id", b"null")], Some(b"other"))),
        ("an empty id", record(&[("ce_id", b"")], Some(b"x"))),
        ("an id without a value", no_value("ce_id")),
        ("an id that is no text", record(&[("ce_id", b"\xff\xfe")], Some(b"x"))),
        ("two ids", record(&[("ce_id", b"a"), ("ce_id", b"b")], Some(b"x"))),
        ("a long id", record(&[("ce_id", &[b'i'; 2000])], Some(b"x"))),
        ("an id in another tongue", record(&[("ce_id", "\u{e9}\n\u{1f980}".as_bytes())], Some(b"x"))),
        ("another version of CloudEvents", record(&[("ce_specversion", b"0.3")], Some(b"x"))),
        ("half of the attributes", record(&[("ce_specversion", b"1.0"), ("ce_type", b"sale")], Some(b"x"))),
        ("a reserved type", record(&[("ce_type", b"dev.decree.later")], Some(b"x"))),
        (
            "half a request",
            record(&[("ce_type", b"dev.decree.http"), ("ce_decreemethod", b"PUT")], Some(b"x")),
        ),
        ("a request", request(&[("ce_id", b"r1"), ("http_x-a", b"1"), ("http_x-a", b"2")])),
        (
            "a request with forged headers",
            request(&[
                ("http_decree-position", b"99"),
                ("http_decree-later", b"1"),
                ("http_content-length", b"7"),
                ("http_transfer-encoding", b"chunked"),
                ("http_connection", b"close"),
                ("http_host", b"elsewhere"),
            ]),
        ),
        ("a request with no header", request(&[("http_", b"1")])),
        ("a request with a broken value", request(&[("http_x-a", b"a\r\nb: c")])),
        (
            "a tunnel",
            record(
                &[
                    ("ce_type", b"dev.decree.http"),
                    ("ce_decreemethod", b"CONNECT"),
                    ("ce_decreetarget", b"/"),
                ],
                None,
            ),
        ),
        (
            "a target that is none",
            record(
                &[
                    ("ce_type", b"dev.decree.http"),
                    ("ce_decreemethod", b"PUT"),
                    ("ce_decreetarget", b"http://x/"),
                ],
                None,
            ),
        ),
        ("forged attributes", record(&[("ce_decreeposition", b"1")], Some(b"x"))),
        ("a version beyond numbers", record(&[("ce_decreeversion", b"4294967296")], Some(b"x"))),
        (
            "a head from the future",
            record(&[("ce_id", b"f"), ("ce_decreehead", b"18446744073709551615")], Some(b"x")),
        ),
        ("a head from long ago", record(&[("ce_id", b"p"), ("ce_decreehead", b"0")], Some(b"x"))),
        ("a time that is none", record(&[("ce_time", b"yesterday")], Some(b"x"))),
        ("a trace that is none", record(&[("traceparent", b"\xff"), ("tracestate", b"")], Some(b"x"))),
        ("a media type with a line break", record(&[("content-type", b"a/b\r\nx: y")], Some(b"x"))),
        ("a header without a name", record(&[("", b"1")], Some(b"x"))),
        ("a header with a strange name", record(&[("\u{1f980} ", b"\xff"), ("ce_\u{e9}", b"1")], Some(b"x"))),
        ("an attribute in capitals", record(&[("ce_Region", b"eu")], Some(b"x"))),
        (
            "a barrier that nobody asked for",
            record(&[("ce_type", b"dev.decree.control.barrier")], Some(br#"{"agent":"nobody"}"#)),
        ),
        ("as many attributes as may be", many(256, "ce_x")),
        ("more attributes than may be", many(257, "ce_x")),
        ("thousands of attributes", many(4000, "ce_x")),
        ("thousands of a stranger's headers", many(4096, "x-")),
        ("more headers than may be", many(20_000, "x-")),
        ("one megabyte", record(&[("ce_id", b"m1")], Some(&vec![b'm'; 1_000_000]))),
    ]
}
