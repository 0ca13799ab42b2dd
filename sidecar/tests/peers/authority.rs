//! Authorities that vouch for agents, and agents that nobody should.

use std::collections::BTreeSet;
use std::sync::Arc;

use decree_sidecar::peers::identity::{Identity, Material, Scope};
use decree_wire::identity::Peer;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) certificate: String,
}

/// When a certificate is good.
#[derive(Clone, Copy)]
pub(crate) enum When {
    Now,
    LongAgo,
    InTheFuture,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    pub(crate) fn sign(&self, peer: &Peer, when: When) -> Material {
        self.sign_name(&peer.to_string(), when)
    }

    /// For whoever has that name.
    pub(crate) fn sign_name(&self, name: &str, when: When) -> Material {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(name.try_into().unwrap())];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let (from, to) = match when {
            When::Now => (2020, 2120),
            When::LongAgo => (2020, 2021),
            When::InTheFuture => (2119, 2120),
        };
        (params.not_before, params.not_after) =
            (rcgen::date_time_ymd(from, 1, 1), rcgen::date_time_ymd(to, 1, 1));
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Material { authorities: self.certificate.clone(), certificate, key: key.serialize_pem() }
    }

    /// For a key that somebody else holds.
    pub(crate) fn sign_key(&self, peer: &Peer, key: &impl PublicKeyData) -> String {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(peer.to_string().try_into().unwrap())];
        params.signed_by(key, &self.issuer).unwrap().pem()
    }

    /// A certificate of a host, and its key.
    pub(crate) fn sign_host(&self, host: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([host.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// An agent of the engine, good now.
    pub(crate) fn agent(&self, pod: &str) -> Arc<Identity> {
        identity(&self.sign(&peer(pod), When::Now), &peer(pod))
    }
}

pub(crate) fn peer(pod: &str) -> Peer {
    Peer {
        cluster: "c".into(),
        namespace: "shop".into(),
        engine: "policy".into(),
        pod: pod.into(),
        uid: format!("uid-of-{pod}"),
    }
}

/// As that agent reads it: what it is told is its own engine.
pub(crate) fn identity(material: &Material, own: &Peer) -> Arc<Identity> {
    Arc::new(Identity::read(material, scope(own), &own.pod).unwrap())
}

pub(crate) fn scope(own: &Peer) -> Scope {
    let Peer { cluster, namespace, engine, .. } = own.clone();
    Scope { cluster, namespace, engine, gone: BTreeSet::new() }
}
