//! Whether a command may be delivered twice, as the settings say. In doubt it may not.

use decree_wire::command::{Command, Request};
use decree_wire::settings::{ClassSettings, IdempotentRule};

/// Some servers take the method from these instead.
const METHOD_OVERRIDES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];

/// Whether the application may have `command` twice.
pub(super) fn idempotent(command: &Command, class: &ClassSettings) -> bool {
    class.idempotent
        || command.request.as_ref().is_some_and(|request| allowed(request, &class.idempotent_rules))
}

fn allowed(request: &Request, rules: &[IdempotentRule]) -> bool {
    let Some(path) = plain(request) else { return false };
    let matches =
        |rule: &&IdempotentRule| rule.methods.contains(&request.method) && under(&rule.path_prefix, path);
    rules.iter().find(matches).is_some_and(|rule| rule.idempotent)
}

/// The path, where every server reads it alike.
fn plain(request: &Request) -> Option<&str> {
    let path = request.target.split(['?', '#']).next().unwrap_or_default();
    let odd = path.contains(['%', '\\', ';']) || path.contains("//") || path.contains("/.");
    let overridden = request.headers.iter().any(|(name, _)| METHOD_OVERRIDES.contains(&name.as_str()));
    (!odd && !overridden).then_some(path)
}

/// Whether `path` is `prefix` or below it, at a segment's border.
fn under(prefix: &str, path: &str) -> bool {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn request(method: &str, target: &str) -> Command {
        let request = Request { method: method.into(), target: target.into(), headers: vec![] };
        Command { request: Some(request), ..Command::default() }
    }

    fn class() -> ClassSettings {
        let rule = |path_prefix: &str, idempotent| IdempotentRule {
            methods: vec!["PUT".into()],
            path_prefix: path_prefix.into(),
            idempotent,
        };
        let idempotent_rules = vec![rule("/data/count", false), rule("/data/", true)];
        ClassSettings { idempotent_rules, ..ClassSettings::default() }
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        for (method, target, expected) in [
            ("PUT", "/data/x?y=/..", true),
            ("PUT", "/data", true),
            ("PUT", "/data/count", false),
            ("PUT", "/data/count/er", false),
            ("PUT", "/data/counter", true),
            ("POST", "/data/x", false),
            ("PUT", "/other", false),
        ] {
            assert_eq!(idempotent(&request(method, target), &class()), expected, "{method} {target}");
        }
        assert!(!idempotent(&Command::default(), &class()));
        let whole = ClassSettings { idempotent: true, ..ClassSettings::default() };
        assert!(idempotent(&Command::default(), &whole));
    }

    #[test]
    fn what_servers_may_read_otherwise_is_not() {
        for target in
            ["/data/%63ount", "/data/x/../count", "/data//count", "/data/a\\..\\count", "/data/x;/count"]
        {
            assert!(!idempotent(&request("PUT", target), &class()), "{target}");
        }
        let mut overridden = request("PUT", "/data/x");
        if let Some(request) = &mut overridden.request {
            request.headers.push(("x-http-method-override".into(), Bytes::from_static(b"POST")));
        }
        assert!(!idempotent(&overridden, &class()));
    }
}
