//! The bed's certificates: one authority for Kubernetes, one for Kafka, and what they sign.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::cluster::{Bed, SWITCH};

/// A certificate authority with its files in the bed's directory.
#[derive(Debug)]
pub(crate) struct Authority {
    directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// Whom a certificate is for.
#[derive(Debug, Default)]
pub(crate) struct Subject<'a> {
    pub(crate) name: &'a str,
    pub(crate) organisation: Option<&'a str>,
    pub(crate) hosts: Vec<String>,
}

impl Authority {
    /// Makes an authority: `ca.crt` and `ca.key` in a directory of the bed's.
    pub(crate) fn create(bed: &Bed, directory: &str) -> Result<Self> {
        let directory = bed.dir().join(directory);
        fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
        let key = KeyPair::generate()?;
        let params = authority(bed);
        let certificate = params.self_signed(&key)?;
        fs::write(directory.join("ca.crt"), certificate.pem())?;
        fs::write(directory.join("ca.key"), key.serialize_pem())?;
        Ok(Self { directory, issuer: Issuer::new(params, key) })
    }

    /// The authority that was made in that directory: its key, and the same words about it.
    pub(crate) fn open(bed: &Bed, directory: &str) -> Result<Self> {
        let directory = bed.dir().join(directory);
        let key = fs::read_to_string(directory.join("ca.key")).context("read an authority's key")?;
        Ok(Self { directory, issuer: Issuer::new(authority(bed), KeyPair::from_pem(&key)?) })
    }

    /// Signs a certificate for both ends of a connection: `<file>.crt`, `<file>.key`, and both in `<file>.pem`.
    pub(crate) fn sign(&self, file: &str, subject: &Subject<'_>) -> Result<()> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(subject.hosts.clone())?;
        params.distinguished_name.push(DnType::CommonName, subject.name);
        if let Some(organisation) = subject.organisation {
            params.distinguished_name.push(DnType::OrganizationName, organisation);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        let write = |end: &str, content: &str| {
            let path = self.directory.join(format!("{file}.{end}"));
            fs::write(&path, content).with_context(|| format!("write {}", path.display()))
        };
        write("crt", &certificate)?;
        write("key", &key.serialize_pem())?;
        write("pem", &format!("{}{certificate}", key.serialize_pem()))
    }

    /// Signs a client's certificate and writes `<file>.kubeconfig` with it.
    pub(crate) fn client(&self, file: &str, name: &str, organisation: &str) -> Result<()> {
        self.sign(file, &Subject { name, organisation: Some(organisation), hosts: Vec::new() })?;
        let at = |end: &str| self.directory.join(end).display().to_string();
        let config = format!(
            "apiVersion: v1
kind: Config
clusters:
- name: bed
  cluster: {{server: \"https://{SWITCH}:6443\", certificate-authority: {}}}
users:
- name: bed
  user: {{client-certificate: {}, client-key: {}}}
contexts:
- name: bed
  context: {{cluster: bed, user: bed}}
current-context: bed
",
            at("ca.crt"),
            at(&format!("{file}.crt")),
            at(&format!("{file}.key"))
        );
        let path = self.directory.join(format!("{file}.kubeconfig"));
        fs::write(&path, config).with_context(|| format!("write {}", path.display()))
    }
}

fn authority(bed: &Bed) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("decree bed {}", bed.name()));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}
