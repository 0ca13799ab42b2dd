//! Which requests become commands: method and path prefix, read as generously as any server might read them.
//!
//! A request that *could* reach a replicated path must not pass by the log, so a path matches if any reading of it
//! does: as it stands, percent-decoded (also twice), with backslashes, `;parameters`, empty and dot segments taken
//! away, in any case. Ordering one request too many does no harm; passing one by does. The command still carries the
//! path as it was sent, and every application reads that alike.

use decree_wire::document::Rule;
use http::{HeaderMap, Method, Uri, header};

/// Headers by which frameworks let a client say another method than the request line's.
const METHOD_OVERRIDES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];
/// A path that still changes after so many decodings is somebody's trick, and is ordered.
const DECODINGS: usize = 6;

/// The same in the query, or in a form's body.
const METHOD_PARAMETER: &str = "_method";

/// Whether the request becomes a command.
#[must_use]
pub(super) fn matches(rules: &[Rule], method: &Method, uri: &Uri, headers: &HeaderMap) -> bool {
    let mut methods = vec![method.as_str().to_owned()];
    methods.extend(uri.query().into_iter().flat_map(in_query));
    // A form's body may say any method, and is not read before it is known whose the request is.
    let any = method == Method::POST && is_form(headers);
    for name in METHOD_OVERRIDES {
        methods.extend(
            headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).map(str::to_ascii_uppercase),
        );
    }
    let mut prefixes = rules
        .iter()
        .filter(|rule| {
            any || rule.methods.iter().any(|m| methods.iter().any(|own| m.eq_ignore_ascii_case(own)))
        })
        .map(|rule| rule.path_prefix.as_str())
        .peekable();
    prefixes.peek().is_some() && {
        let readings = readings(uri.path());
        prefixes.any(|prefix| {
            let prefix = prefix.to_ascii_lowercase();
            match &readings {
                Some(readings) => readings.iter().any(|reading| under(&prefix, reading)),
                None => true,
            }
        })
    }
}

/// The methods that a query names, each as it stands and decoded.
fn in_query(query: &str) -> Vec<String> {
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let parameters = query.split(['&', ';']).filter_map(|parameter| parameter.split_once('='));
    parameters
        .filter(|(name, _)| decoded(name).eq_ignore_ascii_case(METHOD_PARAMETER))
        .map(|(_, value)| decoded(value).trim().to_owned())
        .collect()
}

fn is_form(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONTENT_TYPE).iter().any(|value| {
        let media = value.as_bytes().to_ascii_lowercase();
        media.starts_with(b"application/x-www-form-urlencoded") || media.starts_with(b"multipart/form-data")
    })
}

/// Whether `path` is `prefix` or below it, at a segment's border. `/v1` is below `/v1/`: many servers take them for one.
fn under(prefix: &str, path: &str) -> bool {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Every way in which a server may read `path`, in lower case; none if there is no end to it.
fn readings(path: &str) -> Option<Vec<String>> {
    let mut all = Vec::new();
    let mut current = path.to_owned();
    for _ in 0..DECODINGS {
        let lower = current.to_ascii_lowercase();
        for plain in [lower.replace('\\', "/"), without_parameters(&lower.replace('\\', "/"))] {
            let visible: String = plain.chars().filter(|c| !c.is_control() && *c != ' ').collect();
            for slashes in [without_empty_segments(&visible), visible] {
                all.push(without_dot_segments(&slashes));
                all.push(without_empty_segments(&without_dot_segments(&slashes)));
                all.push(slashes);
            }
        }
        let decoded = percent_encoding::percent_decode_str(&current).decode_utf8_lossy().into_owned();
        if decoded == current {
            return Some(all);
        }
        current = decoded;
    }
    None
}

fn without_parameters(path: &str) -> String {
    let names: Vec<&str> =
        path.split('/').map(|segment| segment.split(';').next().unwrap_or_default()).collect();
    names.join("/")
}

fn without_empty_segments(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !out.ends_with('/') {
            out.push(c);
        }
    }
    out
}

fn without_dot_segments(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(out.pop()),
            other => out.push(other),
        }
    }
    format!("/{}", out.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(prefix: &str, method: &str, path: &str) -> bool {
        let rules = [Rule { methods: vec!["PUT".into(), "PATCH".into()], path_prefix: prefix.into() }];
        matches(&rules, &method.parse().unwrap(), &path.parse().unwrap(), &HeaderMap::new())
    }

    #[test]
    fn a_prefix_ends_at_a_segments_border() {
        for (prefix, path, expected) in [
            ("/v1/", "/v1/x", true),
            ("/v1/", "/v1/", true),
            ("/v1/", "/v1", true),
            ("/v1/", "/v1x", false),
            ("/v1", "/v1", true),
            ("/v1", "/v1/x", true),
            ("/v1", "/v1x", false),
            ("/v1", "/v2/x", false),
            ("/v1", "/x/v1", false),
            ("/", "/anything", true),
        ] {
            assert_eq!(ordered(prefix, "PUT", path), expected, "{prefix} {path}");
        }
    }

    #[test]
    fn other_methods_pass() {
        assert!(ordered("/v1/", "PATCH", "/v1/x"));
        assert!(!ordered("/v1/", "GET", "/v1/x"));
        assert!(!ordered("/v1/", "POST", "/v1/x"));
    }

    #[test]
    fn no_spelling_passes_by_the_log() {
        for path in [
            "//v1/data",
            "/v1//data",
            "/V1/Data",
            "/%76%31/data",
            "/v1%2fdata/x",
            "/%2576%2531/data",
            "/x/../v1/data",
            "/x/%2e%2e/v1/data",
            "/x/%252e%252e/v1/data",
            "/./v1/data",
            "/x/..;/v1/data",
            "/;a=b/v1/data",
            "/v1;a/data",
            "/v1/data/../data/x",
            "/x\\..\\v1\\data",
            "/v1/%2e%2e/v1/data",
            "/a//../../v1/data",
            "/a/../v1/data//../x",
            "/%09v1/data",
        ] {
            assert!(ordered("/v1/data", "PUT", path), "{path}");
        }
    }

    #[test]
    fn endless_encodings_are_ordered() {
        assert!(ordered("/v1", "PUT", &format!("/%{}76", "25".repeat(20))));
    }

    #[test]
    fn a_method_in_a_header_counts() {
        let rules = [Rule { methods: vec!["PUT".into()], path_prefix: "/v1".into() }];
        let headers =
            [("x-http-method-override".parse().unwrap(), "put".parse().unwrap())].into_iter().collect();
        assert!(matches(&rules, &Method::POST, &Uri::from_static("/v1/x"), &headers));
        assert!(!matches(&rules, &Method::POST, &Uri::from_static("/v2/x"), &headers));
    }

    #[test]
    fn a_method_in_the_query_counts_and_a_form_may_hold_any() {
        for query in ["_method=put", "a=1&_METHOD=PUT", "%5Fmethod=%50ut", "a;_method=patch"] {
            assert!(ordered("/v1", "POST", &format!("/v1/x?{query}")), "{query}");
            assert!(!ordered("/v1", "POST", &format!("/v2/x?{query}")), "{query}");
        }
        assert!(!ordered("/v1", "POST", "/v1/x?method=put&_method=get"));
        let rules = [Rule { methods: vec!["PUT".into()], path_prefix: "/v1".into() }];
        for (media, expected) in [
            ("application/x-www-form-urlencoded", true),
            ("Multipart/Form-Data; boundary=x", true),
            ("application/json", false),
        ] {
            let headers: HeaderMap = [(header::CONTENT_TYPE, media.parse().unwrap())].into_iter().collect();
            assert_eq!(matches(&rules, &Method::POST, &Uri::from_static("/v1/x"), &headers), expected);
            assert!(!matches(&rules, &Method::POST, &Uri::from_static("/v2/x"), &headers));
            assert!(!matches(&rules, &Method::GET, &Uri::from_static("/v1/x"), &headers));
        }
    }
}
