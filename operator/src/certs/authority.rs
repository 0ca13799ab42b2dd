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

/// An authority and the certificate that it signed, all in PEM.
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
}

/// A new authority, and a certificate for `names`.
///
/// # Errors
/// If a name is no DNS name, or there is no randomness.
pub fn found(names: &[String], now: SystemTime) -> Result<Material, Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "decree-webhook-ca");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    lasting(&mut authority, now, AUTHORITY_LIFE);
    let ca = authority.self_signed(&key)?.pem();
    let ca_key = key.serialize_pem();
    let (certificate, key) = issue(&Issuer::new(authority, key), names, now)?;
    Ok(Material { ca, ca_key, certificate, key })
}

/// The same authority, and a new certificate for `names`.
///
/// # Errors
/// If the authority can't be read.
pub fn renew(of: &Material, names: &[String], now: SystemTime) -> Result<Material, Error> {
    let issuer = Issuer::from_ca_cert_pem(&of.ca, KeyPair::from_pem(&of.ca_key)?)?;
    let (certificate, key) = issue(&issuer, names, now)?;
    Ok(Material { ca: of.ca.clone(), ca_key: of.ca_key.clone(), certificate, key })
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
