//! From a signing request and the name of a peer to its certificate. Pure.

use std::time::SystemTime;

use decree_wire::identity::Peer;
use decree_wire::issuance::Issued;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose,
    SanType,
};

use crate::certs::authority::{self, Material};
use crate::certs::profile::PEER_LIFE;

/// A sidecar asks again after a third of a certificate's life: two thirds remain for whatever keeps it from getting one.
const RENEWALS: u32 = 3;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was sent.
    #[error("read the signing request: {0}")]
    Request(#[source] rcgen::Error),
    /// The authority.
    #[error(transparent)]
    Authority(#[from] authority::Error),
    /// The library refused.
    #[error("sign a certificate for {0}")]
    Sign(Box<Peer>, #[source] rcgen::Error),
}

/// A certificate for `peer`, whatever the request says: of it only the public key counts, for which it proves that its
/// author has the other half.
///
/// # Errors
/// If the request is none, or the authority can't sign.
pub fn issue(authority: &Material, peer: &Peer, request: &str, now: SystemTime) -> Result<Issued, Error> {
    let request = CertificateSigningRequestParams::from_pem(request).map_err(Error::Request)?;
    let issuer = authority::issuer(&authority.ca, &authority.ca_key)?;
    let sign = |source| Error::Sign(Box::new(peer.clone()), source);
    let mut params = CertificateParams::default();
    let name = peer.to_string().try_into().map_err(sign)?;
    params.subject_alt_names = vec![SanType::URI(name)];
    // For people; a common name holds 64 characters, and no peer reads it.
    params.distinguished_name.push(DnType::CommonName, peer.pod.chars().take(64).collect::<String>());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    authority::lasting(&mut params, now, PEER_LIFE);
    let certificate = params.signed_by(&request.public_key, &issuer).map_err(sign)?.pem();
    let renew_after_seconds = PEER_LIFE.as_secs() / u64::from(RENEWALS);
    Ok(Issued { certificate, authorities: authority.trusted(), renew_after_seconds })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, IsCa, KeyPair};
    use x509_parser::pem::parse_x509_pem;
    use x509_parser::prelude::GeneralName;

    use super::*;
    use crate::certs::profile::Profile;

    fn peer() -> Peer {
        "decree://c-1/shop/policy/opa-0/u-1".parse().unwrap()
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn request(params: &CertificateParams) -> String {
        params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
    }

    #[test]
    fn a_certificate_says_who_the_pod_is_and_nothing_that_was_asked_for() {
        let authority = authority::found(&Profile::peers("decree://c-1".into()), now()).unwrap();
        let mut greedy = CertificateParams::new(["other.example".to_owned()]).unwrap();
        greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        greedy.subject_alt_names.push(SanType::URI("decree://c-1".try_into().unwrap()));
        let issued = issue(&authority, &peer(), &request(&greedy), now()).unwrap();
        let (_, pem) = parse_x509_pem(issued.certificate.as_bytes()).unwrap();
        let certificate = pem.parse_x509().unwrap();
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names, [GeneralName::URI("decree://c-1/shop/policy/opa-0/u-1")]);
        assert!(!certificate.is_ca());
        let (_, ca) = parse_x509_pem(authority.ca.as_bytes()).unwrap();
        let ca = ca.parse_x509().unwrap();
        certificate.verify_signature(Some(ca.public_key())).unwrap();
        let (begin, end) =
            (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp());
        assert_eq!((1_800_000_000 - begin, end - 1_800_000_000), (2 * 3600, 24 * 3600));
        assert_eq!((issued.authorities, issued.renew_after_seconds), (authority.ca, 8 * 3600));
    }

    #[test]
    fn while_an_authority_takes_over_all_are_trusted() {
        let profile = Profile::peers("decree://c-1".into());
        let old = authority::found(&profile, now()).unwrap();
        let announced = authority::announce(&old, &profile, now()).unwrap();
        let request = request(&CertificateParams::default());
        let before = issue(&announced, &peer(), &request, now()).unwrap();
        let swapped = authority::swap(&announced, &profile, now()).unwrap();
        let after = issue(&swapped, &peer(), &request, now()).unwrap();
        for (issued, which) in [(&before, &old.ca), (&after, &swapped.ca)] {
            let (_, pem) = parse_x509_pem(issued.certificate.as_bytes()).unwrap();
            let (_, ca) = parse_x509_pem(which.as_bytes()).unwrap();
            let ca = ca.parse_x509().unwrap();
            pem.parse_x509().unwrap().verify_signature(Some(ca.public_key())).unwrap();
            assert!(issued.authorities.contains(&old.ca) && issued.authorities.contains(&swapped.ca));
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let authority = authority::found(&Profile::peers("decree://c-1".into()), now()).unwrap();
        let garbled = request(&CertificateParams::default()).replace('A', "B");
        for text in ["", "-----BEGIN CERTIFICATE REQUEST-----", &garbled] {
            let refused = issue(&authority, &peer(), text, now());
            assert!(matches!(refused, Err(Error::Request(_))), "{refused:?}");
        }
    }
}
