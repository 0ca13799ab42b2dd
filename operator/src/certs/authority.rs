//! Makes the webhook's own certificate authority, and the serving certificates that it signs.

use std::fmt;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const AUTHORITY_LIFE: Duration = Duration::from_secs(5 * 365 * DAY.as_secs());
const SERVING_LIFE: Duration = Duration::from_secs(90 * DAY.as_secs());
/// A certificate is valid from a little before it is made: the API server's clock may be behind.
const SKEW: Duration = Duration::from_secs(60 * 60);

/// An authority: its certificate and its key, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    /// What the API server trusts.
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
    /// The authority's certificate: what the API server trusts.
    pub ca: String,
    /// Its key.
    pub ca_key: String,
    /// The serving certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// The authority that is to sign once everybody trusts it.
    pub next: Option<Authority>,
    /// Those that signed what some operator may still serve; their keys are gone.
    pub previous: String,
}

impl Material {
    /// Whom the API server has to trust: what is served now, was a moment ago, and will be next.
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
    #[error("make a certificate for the webhook")]
    Generate(#[from] rcgen::Error),
    /// The steps were taken in another order.
    #[error("sign with a new authority for the webhook: none was announced")]
    Unannounced,
}

/// A new authority, and a certificate for `names`.
///
/// # Errors
/// If a name is no DNS name, or there is no randomness.
pub fn found(names: &[String], now: SystemTime) -> Result<Material, Error> {
    let Authority { certificate: ca, key: ca_key } = authority(now)?;
    signed(ca, ca_key, names, now)
}

/// The same, and an authority that is to sign next.
///
/// # Errors
/// If there is no randomness.
pub fn announce(of: &Material, now: SystemTime) -> Result<Material, Error> {
    Ok(Material { next: Some(authority(now)?), ..of.clone() })
}

/// The authority that was announced signs; those before it are trusted, and their keys are gone.
///
/// # Errors
/// If none was announced that can be read.
pub fn swap(of: &Material, names: &[String], now: SystemTime) -> Result<Material, Error> {
    let Some(Authority { certificate: ca, key: ca_key }) = of.next.clone() else {
        return Err(Error::Unannounced);
    };
    let previous = [of.ca.as_str(), of.previous.as_str()].concat();
    Ok(Material { previous, ..signed(ca, ca_key, names, now)? })
}

/// Nothing is trusted any more but what signs.
#[must_use]
pub fn retire(of: &Material) -> Material {
    Material { previous: String::new(), ..of.clone() }
}

/// When the certificate was made.
#[must_use]
pub fn made(not_before: SystemTime) -> SystemTime {
    not_before + SKEW
}

fn authority(now: SystemTime) -> Result<Authority, Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "decree-webhook-ca");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    lasting(&mut authority, now, AUTHORITY_LIFE);
    Ok(Authority { certificate: authority.self_signed(&key)?.pem(), key: key.serialize_pem() })
}

fn signed(ca: String, ca_key: String, names: &[String], now: SystemTime) -> Result<Material, Error> {
    let issuer = Issuer::from_ca_cert_pem(&ca, KeyPair::from_pem(&ca_key)?)?;
    let (certificate, key) = issue(&issuer, names, now)?;
    Ok(Material { ca, ca_key, certificate, key, next: None, previous: String::new() })
}

/// The same authority, and a new certificate for `names`.
///
/// # Errors
/// If the authority can't be read.
pub fn renew(of: &Material, names: &[String], now: SystemTime) -> Result<Material, Error> {
    let Material { certificate, key, .. } = signed(of.ca.clone(), of.ca_key.clone(), names, now)?;
    Ok(Material { certificate, key, ..of.clone() })
}

fn issue(
    issuer: &Issuer<'_, KeyPair>,
    names: &[String],
    now: SystemTime,
) -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut serving = CertificateParams::new(names)?;
    // A common name holds 64 characters, which a Service's name may exceed; clients look at the others only.
    serving.distinguished_name.push(DnType::CommonName, "decree-webhook");
    serving.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    serving.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    serving.use_authority_key_identifier_extension = true;
    lasting(&mut serving, now, SERVING_LIFE);
    Ok((serving.signed_by(&key, issuer)?.pem(), key.serialize_pem()))
}

fn lasting(params: &mut CertificateParams, now: SystemTime, life: Duration) {
    params.not_before = (now - SKEW).into();
    params.not_after = (now + life).into();
}
