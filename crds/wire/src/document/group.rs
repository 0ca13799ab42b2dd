//! What a sidecar is told of the group that orders its engine's commands.

use serde::{Deserialize, Serialize};

use crate::group::Genesis;
use crate::position::Incarnation;
use crate::settings::Settings;

/// The Raft group among the engine's sidecars.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// The `ConsensusGroup`'s name.
    pub name: String,
    /// How it began; none until that is decided, and where [`Fixed`] decides it. A sidecar follows no other.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub genesis: Option<Genesis>,
    /// No word of a leader for so long, in milliseconds, and another one is elected.
    pub election_timeout_ms: u64,
    /// How often a leader says that it is there, in milliseconds.
    pub heartbeat_interval_ms: u64,
    /// Files beside the document by which this agent is known to its peers; none: [`Group::issuer`] issues a certificate.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub identity: Option<IdentityFiles>,
    /// Who issues certificates to those who show their pod's token.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub issuer: Option<Issuer>,
    /// Uids of pods that were deleted while their certificates are still valid.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub gone: Vec<String>,
    /// The members, where no operator sees to them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fixed: Option<Fixed>,
}

/// Files with what makes an identity, as PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityFiles {
    /// The authorities that vouch for peers.
    pub authorities: String,
    /// This agent's certificate, with those between it and its authority.
    pub certificate: String,
    /// Its key, not encrypted.
    pub key: String,
}

/// Where certificates are asked for: see [`crate::issuance`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuer {
    /// `host:port`. It answers with a certificate of that host.
    pub address: String,
    /// The file with the authorities that vouch for it, as PEM.
    pub authorities: String,
}

/// A group whose members are written down. They form it by themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fixed {
    /// Which group it is: members of another incarnation are refused.
    pub incarnation: Incarnation,
    /// All of them vote. The first begins the group.
    pub members: Vec<FixedMember>,
    /// What the log's first settings entry says.
    pub settings: Settings,
}

/// A member that is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedMember {
    /// The pod's name, as in its certificate.
    pub pod: String,
    /// `host:port` of its peers' port.
    pub address: String,
}

impl Group {
    /// What a sidecar can't follow, in words for a person.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |ok: bool, fault: &str| {
            if !ok {
                faults.push(fault.to_owned());
            }
        };
        check(!self.name.is_empty(), "group.name is empty");
        check(self.heartbeat_interval_ms > 0, "group.heartbeatIntervalMs is 0");
        check(
            self.heartbeat_interval_ms.saturating_mul(3) <= self.election_timeout_ms,
            "group.electionTimeoutMs is less than three times group.heartbeatIntervalMs; one late heartbeat would depose a leader",
        );
        check(
            self.identity.is_some() || self.issuer.is_some(),
            "neither group.identity nor group.issuer is there: no peer would know this agent",
        );
        if let Some(fixed) = &self.fixed {
            check(!fixed.members.is_empty(), "group.fixed.members is empty");
            let all = || fixed.members.iter().enumerate();
            let twice = all().any(|(n, own)| fixed.members[..n].iter().any(|other| other.pod == own.pod));
            check(!twice, "group.fixed.members names a pod twice");
            check(
                all().all(|(_, own)| own.address.contains(':')),
                "a fixed member's address is not HOST:PORT",
            );
            check(
                self.genesis.is_none(),
                "both group.genesis and group.fixed would decide how the group begins",
            );
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_group_is_whole_or_says_what_is_wrong() {
        let text = r#"{"name":"p","electionTimeoutMs":1000,"heartbeatIntervalMs":100,
            "identity":{"authorities":"a","certificate":"c","key":"k"},
            "fixed":{"incarnation":"i","members":[{"pod":"a-0","address":"h:1"},{"pod":"a-1","address":"h:2"}],
                     "settings":{"engine":{"namespace":"a","name":"b"},"cluster":"c","classes":{},
                                 "dedup":{"window":1,"outcomes":1,"outcomeBytes":1}}}}"#;
        let group: Group = serde_json::from_str(text).unwrap();
        assert_eq!(group.faults(), Vec::<String>::new());
        let bad = text
            .replace("a-1", "a-0")
            .replace("h:2", "h")
            .replace("1000", "200")
            .replace("identity", "other");
        let faults = serde_json::from_str::<Group>(&bad).unwrap().faults().join("; ");
        for part in ["twice", "HOST:PORT", "electionTimeoutMs", "issuer"] {
            assert!(faults.contains(part), "{faults}");
        }
    }
}
