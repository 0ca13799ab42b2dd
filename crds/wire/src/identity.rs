//! Who a peer is: the name that its certificate carries, as a URI.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const SCHEME: &str = "decree://";

/// The agent that a certificate is for: `decree://<cluster>/<namespace>/<engine>/<pod>/<uid>`, the certificate's one
/// subject alternative name of that scheme.
///
/// A URI and no DNS name: pods have none that lasts, and what a peer must be known by (engine, uid) is no host's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Peer {
    /// The uid of the cluster's `kube-system` namespace.
    pub cluster: String,
    /// The pod's namespace, and the engine's.
    pub namespace: String,
    /// The engine.
    pub engine: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's uid: the next pod of that name is another peer.
    pub uid: String,
}

/// Why a text is no peer's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no peer's name, decree://CLUSTER/NAMESPACE/ENGINE/POD/UID")]
pub struct Error(String);

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, namespace, engine, pod, uid } = self;
        write!(f, "{SCHEME}{cluster}/{namespace}/{engine}/{pod}/{uid}")
    }
}

impl FromStr for Peer {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error(crate::shown::shown(text));
        let parts: Vec<&str> = text.strip_prefix(SCHEME).ok_or_else(bad)?.split('/').collect();
        let [cluster, namespace, engine, pod, uid] = parts.as_slice() else { return Err(bad()) };
        if !parts.iter().all(|part| is_part(part)) {
            return Err(bad());
        }
        let own = |part: &&str| (*part).to_owned();
        let (cluster, namespace, engine) = (own(cluster), own(namespace), own(engine));
        Ok(Self { cluster, namespace, engine, pod: own(pod), uid: own(uid) })
    }
}

/// What names and uids of Kubernetes are made of, so that no part can pose as two.
fn is_part(part: &str) -> bool {
    (1..=253).contains(&part.len())
        && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

impl From<Peer> for String {
    fn from(peer: Peer) -> Self {
        peer.to_string()
    }
}

impl TryFrom<String> for Peer {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

/// The operator, as its certificate names it: `decree://<cluster>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Operator {
    /// The uid of the cluster's `kube-system` namespace.
    pub cluster: String,
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.cluster)
    }
}

impl FromStr for Operator {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let cluster = text.strip_prefix(SCHEME).filter(|part| is_part(part));
        cluster
            .map(|cluster| Self { cluster: cluster.to_owned() })
            .ok_or_else(|| Error(crate::shown::shown(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_was_written_and_nothing_else_is_one() {
        let text = "decree://c-1/shop/policy/opa-7c9-x/0b1f";
        let peer: Peer = text.parse().unwrap();
        assert_eq!(
            (peer.engine.as_str(), peer.uid.as_str(), peer.to_string().as_str()),
            ("policy", "0b1f", text)
        );
        for other in [
            "",
            "decree://",
            "decree://c/shop/policy/opa",
            "decree://c/shop/policy/opa/u/x",
            "decree://c/shop//opa/u",
            "decree://c/shop/a%2fb/opa/u",
            "https://c/shop/policy/opa/u",
        ] {
            assert!(other.parse::<Peer>().is_err(), "{other}");
        }
    }

    #[test]
    fn the_operator_is_no_agent_and_no_agent_the_operator() {
        let operator: Operator = "decree://c-1".parse().unwrap();
        assert_eq!((operator.cluster.as_str(), operator.to_string().as_str()), ("c-1", "decree://c-1"));
        assert!("decree://c-1".parse::<Peer>().is_err());
        for other in ["decree://", "decree://c-1/", "decree://c-1/shop/policy/opa/u", "https://c-1"] {
            assert!(other.parse::<Operator>().is_err(), "{other}");
        }
    }
}
