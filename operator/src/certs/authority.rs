//! Makes a certificate authority, and the operator's own certificate that it signs.

use std::fmt;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};

use super::profile::{Name, Profile};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const AUTHORITY_LIFE: Duration = Duration::from_secs(5 * 365 * DAY.as_secs());
const OWN_LIFE: Duration = Duration::from_secs(90 * DAY.as_secs());
/// A certificate is valid from a little before it is made: another's clock may be an hour behind, and then some.
pub const SKEW: Duration = Duration::from_secs(2 * 60 * 60);

/// An authority: its certificate and its key, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    /// What is trusted.
    pub certificate: String,
    /// What signs.
    pub key: String,
}

/// An authority and the certificate that it signed, all in PEM.
///
/// A new authority comes in three steps, so that nothing is ever served that isn't trusted: it is announced (`next`,
/// trusted beside the one that signs), it signs (the old one is `previous`, and still trusted), the old one is retired.
#[derive(Clone, PartialEq, Eq)]
pub struct Material {
    /// The authority's certificate: what is trusted.
    pub ca: String,
    /// Its key.
    pub ca_key: String,
    /// The operator's own certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// The authority that is to sign once everybody trusts it.
    pub next: Option<Authority>,
    /// Those that signed what somebody may still show; their keys are gone.
    pub previous: String,
}

impl Material {
    /// Whom the others have to trust: what is shown now, was a moment ago, and will be next.
    #[must_use]
    pub fn trusted(&self) -> String {
        let next = self.next.as_ref().map_or("", |next| next.certificate.as_str());
        [self.ca.as_str(), next, self.previous.as_str()].concat()
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The library refused.
    #[error("make a certificate")]
    Generate(#[from] rcgen::Error),
    /// The steps were taken in another order.
    #[error("sign with a new authority: none was announced")]
    Unannounced,
}

/// A new authority, and a certificate for what `profile` names.
///
/// # Errors
/// If a name is none, or there is no randomness.
pub fn found(profile: &Profile, now: SystemTime) -> Result<Material, Error> {
    let Authority { certificate: ca, key: ca_key } = authority(profile, now)?;
    signed(ca, ca_key, profile, now)
}

/// The same, and an authority that is to sign next.
///
/// # Errors
/// If there is no randomness.
pub fn announce(of: &Material, profile: &Profile, now: SystemTime) -> Result<Material, Error> {
    Ok(Material { next: Some(authority(profile, now)?), ..of.clone() })
}

/// The authority that was announced signs; those before it are trusted, and their keys are gone.
///
/// # Errors
/// If none was announced that can be read.
pub fn swap(of: &Material, profile: &Profile, now: SystemTime) -> Result<Material, Error> {
    let Some(Authority { certificate: ca, key: ca_key }) = of.next.clone() else {
        return Err(Error::Unannounced);
    };
    let previous = [of.ca.as_str(), of.previous.as_str()].concat();
    Ok(Material { previous, ..signed(ca, ca_key, profile, now)? })
}

/// Nothing is trusted any more but what signs.
#[must_use]
pub fn retire(of: &Material) -> Material {
    Material { previous: String::new(), ..of.clone() }
}

/// When a certificate was made.
#[must_use]
pub fn made(not_before: SystemTime) -> SystemTime {
    not_before + SKEW
}

fn authority(profile: &Profile, now: SystemTime) -> Result<Authority, Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, format!("{}-ca", profile.word));
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    lasting(&mut authority, now, AUTHORITY_LIFE);
    Ok(Authority { certificate: authority.self_signed(&key)?.pem(), key: key.serialize_pem() })
}

fn signed(ca: String, ca_key: String, profile: &Profile, now: SystemTime) -> Result<Material, Error> {
    let issuer = issuer(&ca, &ca_key)?;
    let (certificate, key) = own(&issuer, profile, now)?;
    Ok(Material { ca, ca_key, certificate, key, next: None, previous: String::new() })
}

/// What signs.
///
/// # Errors
/// If certificate or key can't be read.
pub fn issuer(ca: &str, ca_key: &str) -> Result<Issuer<'static, KeyPair>, Error> {
    Ok(Issuer::from_ca_cert_pem(ca, KeyPair::from_pem(ca_key)?)?)
}

/// The same authority, and a new certificate for what `profile` names.
///
/// # Errors
/// If the authority can't be read.
pub fn renew(of: &Material, profile: &Profile, now: SystemTime) -> Result<Material, Error> {
    let Material { certificate, key, .. } = signed(of.ca.clone(), of.ca_key.clone(), profile, now)?;
    Ok(Material { certificate, key, ..of.clone() })
}

fn own(
    issuer: &Issuer<'_, KeyPair>,
    profile: &Profile,
    now: SystemTime,
) -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut own = CertificateParams::default();
    let names = profile.names.iter().map(|name| {
        Ok(match name {
            Name::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
            Name::Uri(name) => SanType::URI(name.as_str().try_into()?),
        })
    });
    own.subject_alt_names = names.collect::<Result<_, rcgen::Error>>()?;
    // A common name holds 64 characters, which a Service's name may exceed; who connects looks at the others only.
    own.distinguished_name.push(DnType::CommonName, profile.word);
    own.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    own.extended_key_usages = vec![profile.shown_as.clone()];
    own.use_authority_key_identifier_extension = true;
    lasting(&mut own, now, OWN_LIFE);
    Ok((own.signed_by(&key, issuer)?.pem(), key.serialize_pem()))
}

/// From a little before now.
pub fn lasting(params: &mut CertificateParams, now: SystemTime, life: Duration) {
    params.not_before = (now - SKEW).into();
    params.not_after = (now + life).into();
}
