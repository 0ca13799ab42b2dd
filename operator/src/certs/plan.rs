//! Decides what is to be done about the certificates that were found: nothing, a new one, or all anew.

use std::time::{Duration, SystemTime};

use x509_parser::pem::{Pem, parse_x509_pem};
use x509_parser::prelude::{GeneralName, X509Certificate};

use super::authority::Material;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// All is well.
    Keep,
    /// The authority signs a new certificate.
    Renew(&'static str),
    /// A new authority.
    Found(&'static str),
}

/// Decides for the certificates that were `found`, which are to be good for `names`.
#[must_use]
pub fn plan(found: Option<&Material>, names: &[String], now: SystemTime) -> Plan {
    let Some(material) = found else { return Plan::Found("there is none") };
    let Some(ca) = pem(&material.ca) else { return Plan::Found("the authority can't be read") };
    let Ok(ca) = ca.parse_x509() else { return Plan::Found("the authority can't be read") };
    if rcgen::KeyPair::from_pem(&material.ca_key).is_err() {
        return Plan::Found("the authority's key can't be read");
    }
    if due(&ca, now) {
        return Plan::Found("the authority nears its end");
    }
    let Some(certificate) = pem(&material.certificate) else {
        return Plan::Renew("the certificate can't be read");
    };
    let Ok(certificate) = certificate.parse_x509() else {
        return Plan::Renew("the certificate can't be read");
    };
    if rcgen::KeyPair::from_pem(&material.key).is_err() {
        return Plan::Renew("the certificate's key can't be read");
    }
    if certificate.verify_signature(Some(ca.public_key())).is_err() {
        return Plan::Renew("the certificate is not of this authority");
    }
    if !names.iter().all(|name| is_for(&certificate, name)) {
        return Plan::Renew("the certificate is for other names");
    }
    if due(&certificate, now) {
        return Plan::Renew("the certificate nears its end");
    }
    Plan::Keep
}

/// After two thirds of its life, so that a third remains for whatever keeps it from being renewed.
fn due(certificate: &X509Certificate<'_>, now: SystemTime) -> bool {
    let validity = certificate.validity();
    let (begin, end) = (time(validity.not_before.timestamp()), time(validity.not_after.timestamp()));
    let life = end.duration_since(begin).unwrap_or_default();
    now < begin || now >= begin + life * 2 / 3
}

fn time(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

fn is_for(certificate: &X509Certificate<'_>, name: &str) -> bool {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return false };
    names
        .value
        .general_names
        .iter()
        .any(|general| matches!(general, GeneralName::DNSName(dns) if *dns == name))
}

fn pem(text: &str) -> Option<Pem> {
    parse_x509_pem(text.as_bytes()).ok().map(|(_, pem)| pem)
}

#[cfg(test)]
mod tests {
    use super::super::authority;
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn names() -> Vec<String> {
        vec!["decree-webhook.decree.svc".to_owned()]
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + 20_000 * DAY
    }

    #[test]
    fn a_certificate_lives_two_thirds_of_its_life() {
        let material = authority::found(&names(), now()).unwrap();
        assert_eq!(plan(Some(&material), &names(), now()), Plan::Keep);
        assert_eq!(plan(Some(&material), &names(), now() + 59 * DAY), Plan::Keep);
        assert!(matches!(plan(Some(&material), &names(), now() + 61 * DAY), Plan::Renew(_)));
        assert!(matches!(plan(Some(&material), &names(), now() + 200 * DAY), Plan::Renew(_)));
    }

    #[test]
    fn renewal_keeps_the_authority() {
        let material = authority::found(&names(), now()).unwrap();
        let later = now() + 61 * DAY;
        let renewed = authority::renew(&material, &names(), later).unwrap();
        assert_eq!(renewed.ca, material.ca);
        assert_ne!(renewed.certificate, material.certificate);
        assert_eq!(plan(Some(&renewed), &names(), later), Plan::Keep);
    }

    #[test]
    fn an_authority_that_nears_its_end_is_founded_anew() {
        let mut material = authority::found(&names(), now()).unwrap();
        let later = now() + 4 * 365 * DAY;
        material = authority::renew(&material, &names(), later).unwrap();
        assert_eq!(plan(Some(&material), &names(), later), Plan::Found("the authority nears its end"));
    }

    #[test]
    fn what_does_not_fit_together_is_made_anew() {
        assert!(matches!(plan(None, &names(), now()), Plan::Found(_)));
        let good = authority::found(&names(), now()).unwrap();
        let other = authority::found(&names(), now()).unwrap();
        let elsewhere = vec!["other.decree.svc".to_owned()];
        assert!(matches!(plan(Some(&good), &elsewhere, now()), Plan::Renew(_)));

        let foreign = Material { certificate: other.certificate, key: other.key, ..good.clone() };
        assert_eq!(
            plan(Some(&foreign), &names(), now()),
            Plan::Renew("the certificate is not of this authority")
        );
        let torn = Material { certificate: "-----BEGIN".to_owned(), ..good.clone() };
        assert!(matches!(plan(Some(&torn), &names(), now()), Plan::Renew(_)));
        let empty = Material { ca: String::new(), ..good };
        assert!(matches!(plan(Some(&empty), &names(), now()), Plan::Found(_)));
    }
}
