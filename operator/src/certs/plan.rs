//! Decides what is to be done about the certificates that were found: nothing, a new one, or the next authority.

use std::time::{Duration, SystemTime};

use x509_parser::pem::{Pem, parse_x509_pem};
use x509_parser::prelude::{GeneralName, X509Certificate};

use super::authority::{self, Material};
use super::profile::{Name, Profile};

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// All is well.
    Keep,
    /// The authority signs a new certificate.
    Renew(&'static str),
    /// A new authority, at once: there is nothing that could be served meanwhile.
    Found(&'static str),
    /// A new authority is made, to be trusted before it signs.
    Announce(&'static str),
    /// What was announced is trusted everywhere: it signs.
    Swap,
    /// What was signed by the authorities before is served nowhere any more.
    Retire,
}

impl Plan {
    /// What there is once it is carried out on `old`, at the time of `now`.
    ///
    /// # Errors
    /// If nothing could be made.
    pub fn carried_out(
        &self,
        old: Option<&Material>,
        profile: &Profile,
        now: SystemTime,
    ) -> Result<Material, authority::Error> {
        match (self, old) {
            (Self::Renew(_), Some(old)) => authority::renew(old, profile, now),
            (Self::Announce(_), Some(old)) => authority::announce(old, profile, now),
            (Self::Swap, Some(old)) => authority::swap(old, profile, now),
            (Self::Retire, Some(old)) => Ok(authority::retire(old)),
            (Self::Keep, Some(old)) => Ok(old.clone()),
            (Self::Found(_), _) | (_, None) => authority::found(profile, now),
        }
    }
}

/// What is known beside the certificates.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// What the authority is for.
    pub profile: &'a Profile,
    /// A person asks for a new authority.
    pub asked: bool,
    /// For how long all that is to be trusted has been trusted by everybody; none: it is not.
    pub trusted: Option<Duration>,
    /// The time.
    pub now: SystemTime,
}

/// Decides for the certificates that were `found`.
#[must_use]
pub fn plan(found: Option<&Material>, circumstances: &Circumstances<'_>) -> Plan {
    let &Circumstances { profile, now, .. } = circumstances;
    let Some(material) = found else { return Plan::Found("there is none") };
    let Some(ca) = pem(&material.ca) else { return Plan::Found("the authority can't be read") };
    let Ok(ca) = ca.parse_x509() else { return Plan::Found("the authority can't be read") };
    let authority = authority(material, &ca, circumstances);
    let signs = rcgen::KeyPair::from_pem(&material.ca_key).is_ok();
    let Some(certificate) = pem(&material.certificate) else {
        return remade(signs, "the certificate can't be read");
    };
    let Ok(certificate) = certificate.parse_x509() else {
        return remade(signs, "the certificate can't be read");
    };
    if rcgen::KeyPair::from_pem(&material.key).is_err() {
        return remade(signs, "the certificate's key can't be read");
    }
    if certificate.verify_signature(Some(ca.public_key())).is_err() {
        return remade(signs, "the certificate is not of this authority");
    }
    if !profile.names.iter().all(|name| is_for(&certificate, name)) {
        return remade(signs, "the certificate is for other names");
    }
    if let Some(plan) = authority {
        return plan;
    }
    if due(&certificate, now) && material.next.is_none() {
        return remade(signs, "the certificate nears its end");
    }
    let made = authority::made(time(certificate.validity().not_before.timestamp()));
    if !material.previous.is_empty() && now >= made + profile.overlap {
        return Plan::Retire;
    }
    Plan::Keep
}

/// What can be done about a certificate that must not be served.
fn remade(signs: bool, why: &'static str) -> Plan {
    if signs { Plan::Renew(why) } else { Plan::Found(why) }
}

/// What is to be done about the authority, while its certificate is as good as any.
fn authority(
    material: &Material,
    ca: &X509Certificate<'_>,
    circumstances: &Circumstances<'_>,
) -> Option<Plan> {
    let &Circumstances { profile, asked, trusted, now } = circumstances;
    if let Some(next) = &material.next {
        let good = rcgen::KeyPair::from_pem(&next.key).is_ok() && pem(&next.certificate).is_some();
        if !good {
            return Some(Plan::Announce("the one that was announced can't be read"));
        }
        let settled = trusted.is_some_and(|trusted| trusted >= profile.settle);
        return Some(if settled { Plan::Swap } else { Plan::Keep });
    }
    if rcgen::KeyPair::from_pem(&material.ca_key).is_err() {
        return Some(Plan::Announce("the authority's key can't be read"));
    }
    if due(ca, now) {
        return Some(Plan::Announce("the authority nears its end"));
    }
    asked.then_some(Plan::Announce("somebody asks for it"))
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

fn is_for(certificate: &X509Certificate<'_>, name: &Name) -> bool {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return false };
    names.value.general_names.iter().any(|general| match (general, name) {
        (GeneralName::DNSName(found), Name::Dns(name)) | (GeneralName::URI(found), Name::Uri(name)) => {
            found == name
        }
        _ => false,
    })
}

/// When an authority was made that was announced; none where it can't be read.
#[must_use]
pub fn announced(material: &Material) -> Option<SystemTime> {
    let next = pem(&material.next.as_ref()?.certificate)?;
    let begin = next.parse_x509().ok()?.validity().not_before.timestamp();
    Some(authority::made(time(begin)))
}

fn pem(text: &str) -> Option<Pem> {
    parse_x509_pem(text.as_bytes()).ok().map(|(_, pem)| pem)
}

#[cfg(test)]
mod tests {
    use decree_crds::labels;
    use k8s_openapi::api::core::v1::Secret;

    use super::super::secret;
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    const SETTLE: Duration = Duration::from_secs(10);
    const OVERLAP: Duration = Duration::from_secs(15 * 60);

    fn profile() -> Profile {
        Profile::webhook(["decree-webhook.decree.svc".to_owned()])
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + 20_000 * DAY
    }

    fn planned(found: Option<&Material>, now: SystemTime) -> Plan {
        plan(found, &Circumstances { profile: &profile(), asked: false, trusted: None, now })
    }

    #[test]
    fn a_certificate_lives_two_thirds_of_its_life() {
        let material = authority::found(&profile(), now()).unwrap();
        assert_eq!(planned(Some(&material), now()), Plan::Keep);
        assert_eq!(planned(Some(&material), now() + 59 * DAY), Plan::Keep);
        assert!(matches!(planned(Some(&material), now() + 61 * DAY), Plan::Renew(_)));
        assert!(matches!(planned(Some(&material), now() + 200 * DAY), Plan::Renew(_)));
    }

    #[test]
    fn renewal_keeps_the_authority() {
        let material = authority::found(&profile(), now()).unwrap();
        let later = now() + 61 * DAY;
        let renewed = authority::renew(&material, &profile(), later).unwrap();
        assert_eq!(renewed.ca, material.ca);
        assert_ne!(renewed.certificate, material.certificate);
        assert_eq!(planned(Some(&renewed), later), Plan::Keep);
    }

    #[test]
    fn a_new_authority_is_trusted_before_it_signs_and_the_old_one_after() {
        let old = authority::found(&profile(), now()).unwrap();
        let at = |found: &Material, asked, trusted, now| {
            plan(Some(found), &Circumstances { profile: &profile(), asked, trusted, now })
        };
        assert_eq!(at(&old, true, None, now()), Plan::Announce("somebody asks for it"));
        let announced = authority::announce(&old, &profile(), now()).unwrap();
        assert_eq!(announced.certificate, old.certificate, "nothing new is served yet");
        assert!(announced.trusted().contains(&old.ca));
        assert_eq!(super::announced(&announced), Some(now()));
        assert_eq!(at(&announced, true, None, now()), Plan::Keep, "it is not in the bundle");
        assert_eq!(at(&announced, false, Some(SETTLE / 2), now()), Plan::Keep, "not everybody knows");
        assert_eq!(at(&announced, false, Some(SETTLE), now()), Plan::Swap);
        let swapped = authority::swap(&announced, &profile(), now()).unwrap();
        assert_eq!(Some(&swapped.ca), announced.next.as_ref().map(|next| &next.certificate));
        assert!(swapped.trusted().contains(&old.ca), "another operator may still serve the old one");
        assert_eq!(at(&swapped, false, Some(SETTLE), now() + OVERLAP / 2), Plan::Keep);
        assert_eq!(at(&swapped, false, Some(SETTLE), now() + OVERLAP), Plan::Retire);
        let retired = authority::retire(&swapped);
        assert_eq!(retired.trusted(), swapped.ca);
        assert_eq!(at(&retired, false, Some(SETTLE), now() + OVERLAP), Plan::Keep);
    }

    /// Between two looks.
    const STEP: Duration = Duration::from_secs(OVERLAP.as_secs() / 3);

    /// What outlives an operator: the Secret, and whom the API servers trust.
    struct Cluster {
        secret: Secret,
        bundle: String,
        now: SystemTime,
    }

    /// Where a leader is killed, in the look of that number.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Killed {
        BeforeSecret,
        BeforeBundle,
        AfterBundle,
    }

    impl Cluster {
        /// One look of a leader that has seen for so long that all is trusted; what it knows of that after it, or none
        /// where it was killed.
        fn look(&mut self, trusted: Option<Duration>, killed: Option<Killed>) -> Option<Duration> {
            let found = secret::read(&self.secret).unwrap();
            let asked = secret::asks(&self.secret);
            let plan =
                plan(Some(&found), &Circumstances { profile: &profile(), asked, trusted, now: self.now });
            let made = plan.carried_out(Some(&found), &profile(), self.now).unwrap();
            if killed == Some(Killed::BeforeSecret) {
                return None;
            }
            self.secret = secret::filled(self.secret.clone(), &made);
            assert!(
                self.bundle.contains(&made.ca),
                "what the others serve from now on is not trusted: {plan:?}"
            );
            if killed == Some(Killed::BeforeBundle) {
                return None;
            }
            let trusts = self.bundle == made.trusted();
            self.bundle = made.trusted();
            self.now += STEP;
            let known = trusted.filter(|_| trusts).map_or(STEP, |trusted| trusted + STEP);
            (killed != Some(Killed::AfterBundle)).then_some(known)
        }
    }

    #[test]
    fn a_leader_killed_anywhere_in_a_rotation_leaves_what_its_successor_goes_on_with() {
        let old = authority::found(&profile(), now()).unwrap();
        let kills = [Killed::BeforeSecret, Killed::BeforeBundle, Killed::AfterBundle];
        for (killed, at) in kills.into_iter().flat_map(|killed| (0..8).map(move |at| (killed, at))) {
            let mut secret = secret::filled(Secret::default(), &old);
            let asked = (labels::ROTATE_CA.to_owned(), "now".to_owned());
            secret.metadata.annotations.get_or_insert_default().extend([asked]);
            let mut cluster = Cluster { secret, bundle: old.trusted(), now: now() };
            let mut trusted = None;
            for look in 0..16 {
                trusted = cluster.look(trusted, (look == at).then_some(killed));
            }
            let end = secret::read(&cluster.secret).unwrap();
            assert_ne!(end.ca, old.ca, "{killed:?} in look {at}: the new authority never signed");
            assert!(end.next.is_none() && end.previous.is_empty(), "{killed:?} in look {at}: it never ended");
            assert_eq!(cluster.bundle, end.ca, "{killed:?} in look {at}");
        }
    }

    #[test]
    fn an_authority_that_nears_its_end_or_lost_its_key_has_a_successor() {
        let mut material = authority::found(&profile(), now()).unwrap();
        let later = now() + 4 * 365 * DAY;
        material = authority::renew(&material, &profile(), later).unwrap();
        assert_eq!(planned(Some(&material), later), Plan::Announce("the authority nears its end"));
        material.ca_key = "torn".into();
        assert_eq!(planned(Some(&material), later), Plan::Announce("the authority's key can't be read"));
    }

    #[test]
    fn what_does_not_fit_together_is_made_anew() {
        assert!(matches!(planned(None, now()), Plan::Found(_)));
        let good = authority::found(&profile(), now()).unwrap();
        let other = authority::found(&profile(), now()).unwrap();
        let other_host = Profile::webhook(["other.decree.svc".to_owned()]);
        let no_host = Profile { names: vec![Name::Uri("decree-webhook.decree.svc".into())], ..profile() };
        for elsewhere in [&other_host, &no_host] {
            let moved = Circumstances { profile: elsewhere, asked: false, trusted: None, now: now() };
            assert!(matches!(plan(Some(&good), &moved), Plan::Renew(_)));
        }

        let foreign = Material { certificate: other.certificate, key: other.key, ..good.clone() };
        assert_eq!(planned(Some(&foreign), now()), Plan::Renew("the certificate is not of this authority"));
        let torn = Material { certificate: "-----BEGIN".to_owned(), ..good.clone() };
        assert!(matches!(planned(Some(&torn), now()), Plan::Renew(_)));
        let lost = Material { ca_key: String::new(), ..torn };
        assert!(matches!(planned(Some(&lost), now()), Plan::Found(_)));
        let empty = Material { ca: String::new(), ..good };
        assert!(matches!(planned(Some(&empty), now()), Plan::Found(_)));
    }
}
