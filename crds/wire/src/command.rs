//! A command: an opaque payload with an identity, a content type, a type, a version and a trace context.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::position::{EngineName, Incarnation, Position};

/// What is proposed. The payload is carried untouched and never parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// `ce_id` as the client gave it; none for a plain record.
    pub id: Option<String>,
    /// `ce_source` as the client gave it; none means the engine.
    pub source: Option<String>,
    /// `ce_type` as the client gave it; never one of Decree's own.
    pub kind: Option<String>,
    /// `ce_time`: passed on, decides nothing.
    pub time: Option<String>,
    /// The payload's media type.
    pub content_type: Option<String>,
    /// The command version that the proposer speaks, from 1.
    pub version: Option<u32>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// W3C trace context.
    pub tracestate: Option<String>,
    /// The head (next position) that the accepting sidecar knew; none if no sidecar proposed it.
    pub head: Option<Position>,
    /// Other CloudEvents attributes, by name.
    pub extensions: BTreeMap<String, String>,
    /// Present on a replicated HTTP request.
    pub request: Option<Request>,
    /// The payload, or the replicated request's body.
    pub payload: Bytes,
}

/// A replicated HTTP request's own parts beside its body and content type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method, as it was sent.
    pub method: String,
    /// Path and query, beginning with `/`.
    pub target: String,
    /// The headers that travel, in order, names in lower case.
    pub headers: Vec<(String, Bytes)>,
}

/// Which command it is: two commands of one identity are one command.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// Who proposed it: the client's own `ce_source`, else the engine, never the pod.
    pub source: String,
    /// The id, unique within the source.
    pub id: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.id, self.source)
    }
}

/// SHA-256 over what makes a repeat the same command: method, target, type, content type, payload.
///
/// A `traceparent`, a `ce_time` or a header may differ between two attempts of one client; these may not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The `ce_source` of a command whose client named none.
#[must_use]
pub fn engine_source(engine: &EngineName) -> String {
    format!("/decree/{}/{}", engine.namespace, engine.name)
}

impl Command {
    /// The command's identity, given where in which log it stands.
    ///
    /// A record without an id is identified by its place, so two plain records are never the same command.
    #[must_use]
    pub fn identity(&self, engine: &EngineName, incarnation: &Incarnation, position: Position) -> Identity {
        match &self.id {
            Some(id) => self.named(engine, id),
            None => Identity { source: format!("kafka:{incarnation}/0"), id: position.to_string() },
        }
    }

    /// The identity of a command that has an id, before it has a place; none if it has no id.
    #[must_use]
    pub fn proposed_identity(&self, engine: &EngineName) -> Option<Identity> {
        self.id.as_ref().map(|id| self.named(engine, id))
    }

    fn named(&self, engine: &EngineName, id: &str) -> Identity {
        Identity { source: self.source.clone().unwrap_or_else(|| engine_source(engine)), id: id.to_owned() }
    }

    /// What a repeat under the same identity must share.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let request = self.request.as_ref();
        let parts: [Option<&[u8]>; 5] = [
            request.map(|r| r.method.as_bytes()),
            request.map(|r| r.target.as_bytes()),
            self.kind.as_deref().map(str::as_bytes),
            self.content_type.as_deref().map(str::as_bytes),
            Some(&self.payload),
        ];
        let mut hash = Sha256::new();
        for part in parts {
            // Length first, or two fields could trade bytes; an absent part differs from an empty one.
            match part {
                Some(bytes) => {
                    hash.update([1]);
                    hash.update((bytes.len() as u64).to_be_bytes());
                    hash.update(bytes);
                }
                None => hash.update([0]),
            }
        }
        Fingerprint(hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine() -> EngineName {
        EngineName { namespace: "shop".into(), name: "policy".into() }
    }

    #[test]
    fn identity_is_the_clients_source_or_the_engine_never_the_place() {
        let topic = Incarnation("t".into());
        let mut command = Command { id: Some("1".into()), ..Command::default() };
        assert_eq!(command.identity(&engine(), &topic, Position(3)).source, "/decree/shop/policy");
        command.source = Some("till-7".into());
        let identity = command.identity(&engine(), &topic, Position(9));
        assert_eq!((identity.source.as_str(), identity.id.as_str()), ("till-7", "1"));
    }

    #[test]
    fn a_plain_record_is_its_place() {
        let identity = Command::default().identity(&engine(), &Incarnation("t".into()), Position(3));
        assert_eq!((identity.source.as_str(), identity.id.as_str()), ("kafka:t/0", "3"));
    }

    #[test]
    fn a_fingerprint_ignores_trace_and_time_and_sees_the_rest() {
        let base = Command {
            kind: Some("a".into()),
            content_type: Some("b".into()),
            payload: Bytes::from_static(b"p"),
            ..Command::default()
        };
        let traced = Command { traceparent: Some("00-1".into()), time: Some("now".into()), ..base.clone() };
        assert_eq!(base.fingerprint(), traced.fingerprint());
        let moved = Command { kind: Some("ab".into()), content_type: Some(String::new()), ..base.clone() };
        assert_ne!(base.fingerprint(), moved.fingerprint());
        let request = Request { method: "PUT".into(), target: "/".into(), headers: vec![] };
        assert_ne!(base.fingerprint(), Command { request: Some(request), ..base.clone() }.fingerprint());
    }
}
