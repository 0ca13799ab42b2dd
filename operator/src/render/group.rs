//! What the sidecars' document says of the group that orders. Pure.

use std::time::Duration;

use decree_crds::ConsensusGroupSpec;
use decree_wire::document::file;
use decree_wire::document::group::{Group, Issuer};
use decree_wire::group::Genesis;

/// The group of that name. Before its genesis is known sidecars wait until they are told of it; `issuer` is where they get
/// their certificates.
#[must_use]
pub fn group(name: &str, spec: &ConsensusGroupSpec, genesis: Option<Genesis>, issuer: &str) -> Group {
    Group {
        name: name.to_owned(),
        genesis,
        election_timeout_ms: milliseconds(spec.election_timeout.into()),
        heartbeat_interval_ms: milliseconds(spec.heartbeat_interval.into()),
        identity: None,
        issuer: Some(Issuer { address: issuer.to_owned(), authorities: file::ISSUER.to_owned() }),
        gone: Vec::new(),
        fixed: None,
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use decree_wire::document::Document;

    use super::*;
    use crate::render::document::{Log, document};
    use crate::spec::{Order, example};

    #[test]
    fn a_sidecar_can_read_it_before_the_group_has_begun() {
        let mut engine = example();
        engine.order = Order::Group("policy".into());
        let group = group("policy", &ConsensusGroupSpec::default(), None, "decree-webhook.decree.svc:443");
        let written = document(&engine, "cluster", Log::Group(Box::new(group)), 1);
        let read = Document::read(&serde_json::to_vec(&written).unwrap()).unwrap();
        assert_eq!(read, written);
        assert!(read.kafka.is_none());
        let group = read.group.unwrap();
        assert_eq!((group.election_timeout_ms, group.heartbeat_interval_ms), (1000, 100));
        assert_eq!(written.files().collect::<Vec<_>>(), ["issuer-ca.crt"]);
    }
}
