//! Hop-by-hop headers (RFC 9110 §7.6.1): those of one connection, which no proxy hands on.

use http::{HeaderMap, header};

const ALWAYS: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Whether `name` (in lower case) belongs to the connection; `headers` may name more of them in `Connection`.
#[must_use]
pub(super) fn is_hop_by_hop(headers: &HeaderMap, name: &str) -> bool {
    let listed = || {
        headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|listed| listed.trim().eq_ignore_ascii_case(name))
    };
    // A client that lists one of these as its connection's would take away what its request means.
    let needed = matches!(name, "host" | "content-type" | "content-length");
    ALWAYS.contains(&name) || (!needed && listed())
}

/// Takes them away.
pub(super) fn strip(headers: &mut HeaderMap) {
    let named: Vec<_> =
        headers.keys().filter(|name| is_hop_by_hop(headers, name.as_str())).cloned().collect();
    for name in named {
        headers.remove(name);
    }
}
