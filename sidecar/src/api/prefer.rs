//! `Prefer` (RFC 7240): how long a proposer waits, and for what.

use std::time::Duration;

use http::HeaderMap;

use crate::propose::{DEFAULT_WAIT, MAX_WAIT, Wait};

/// What the client prefers. What can't be understood is no preference, as the RFC wants it.
#[must_use]
pub(super) fn wait(headers: &HeaderMap) -> Wait {
    let preferences = || {
        headers
            .get_all("prefer")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(|preference| preference.split(';').next().unwrap_or_default().trim())
    };
    let seconds = preferences().find_map(|preference| {
        let (name, value) = preference.split_once('=')?;
        let value = value.trim().trim_matches('"');
        if name.trim().eq_ignore_ascii_case("wait") { value.parse().ok() } else { None }
    });
    let limit = seconds.map_or(DEFAULT_WAIT, Duration::from_secs).min(MAX_WAIT);
    if preferences().any(|preference| preference.eq_ignore_ascii_case("respond-async")) {
        Wait::Ordered(limit)
    } else {
        Wait::Applied(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&'static str]) -> Wait {
        let pairs = values.iter().map(|v| (http::HeaderName::from_static("prefer"), v.parse().unwrap()));
        wait(&pairs.collect())
    }

    #[test]
    fn preferences_as_the_rfc_writes_them() {
        assert_eq!(of(&[]), Wait::Applied(DEFAULT_WAIT));
        assert_eq!(of(&["wait=2"]), Wait::Applied(Duration::from_secs(2)));
        assert_eq!(of(&["respond-async, wait=10"]), Wait::Ordered(Duration::from_secs(10)));
        assert_eq!(of(&["handling=lenient", "Wait = \"3\"; x"]), Wait::Applied(Duration::from_secs(3)));
        assert_eq!(of(&["wait=soon"]), Wait::Applied(DEFAULT_WAIT));
        assert_eq!(of(&["wait=99999999"]), Wait::Applied(MAX_WAIT));
    }
}
