//! What lies beside the document: certificates and passwords for Kafka and for peers, and the headers that deliveries get.

use std::collections::BTreeMap;

use decree_kafka::{ClientCertificate, Connection, Mechanism, Sasl, Tls};
use decree_wire::document::group::IdentityFiles;
use decree_wire::document::{self, Document};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::peers::identity::Material;
use crate::peers::issued::Issuer;

/// All of it. None of it is ever printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// How the brokers are known, and we to them.
    pub tls: Option<Tls>,
    /// A name and its password.
    pub sasl: Option<Sasl>,
    /// By which peers know this agent, where it comes as files.
    pub identity: Option<Material>,
    /// Who issues what peers know this agent by, where that does not come as files.
    pub issuer: Option<Issuer>,
    /// By class.
    pub deliver_headers: BTreeMap<String, HeaderMap>,
}

/// Why a file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operator says in the engine's status what it lacks.
    #[error(
        "file {0} is not there; see the conditions of the DecisionEngine, which name the Secret that is missing"
    )]
    Missing(String),
    /// It is no text.
    #[error("file {0} is not what it should be: {1}")]
    Invalid(String, String),
}

impl Credentials {
    /// The way to the document's brokers, under this name.
    #[must_use]
    pub fn connection(&self, kafka: &document::Kafka, client_id: String) -> Connection {
        let servers = kafka.bootstrap_servers.iter().cloned();
        Connection::plain(servers, client_id).secured(self.tls.clone(), self.sasl.clone())
    }
}

/// What the document names, from the files beside it.
///
/// # Errors
/// If one is not there, or is no text.
pub fn of<'a>(document: &Document, beside: impl Fn(&str) -> Option<&'a [u8]>) -> Result<Credentials, Error> {
    let text = |name: &String| -> Result<String, Error> {
        let bytes = beside(name).ok_or_else(|| Error::Missing(name.clone()))?;
        let text = String::from_utf8(bytes.to_vec());
        text.map_err(|error| Error::Invalid(name.clone(), error.utf8_error().to_string()))
    };
    let kafka = document.kafka.as_ref();
    let tls = match kafka.and_then(|kafka| kafka.tls.as_ref()) {
        None => None,
        Some(document::Tls { ca, client }) => {
            let client = client.as_ref().map(|client| {
                Ok(ClientCertificate { certificate: text(&client.certificate)?, key: text(&client.key)? })
            });
            Some(Tls { ca: ca.as_ref().map(&text).transpose()?, client: client.transpose()? })
        }
    };
    let sasl = match kafka.and_then(|kafka| kafka.sasl.as_ref()) {
        None => None,
        Some(document::Sasl { mechanism, username, password }) => Some(Sasl {
            mechanism: match mechanism {
                document::Mechanism::Plain => Mechanism::Plain,
                document::Mechanism::ScramSha256 => Mechanism::ScramSha256,
                document::Mechanism::ScramSha512 => Mechanism::ScramSha512,
            },
            username: text(username)?,
            password: text(password)?,
        }),
    };
    let identity = match document.group.as_ref().and_then(|group| group.identity.as_ref()) {
        None => None,
        Some(IdentityFiles { authorities, certificate, key }) => Some(Material {
            authorities: text(authorities)?,
            certificate: text(certificate)?,
            key: text(key)?,
        }),
    };
    let issuer = match document.group.as_ref().and_then(|group| group.issuer.as_ref()) {
        None => None,
        Some(document::group::Issuer { address, authorities }) => {
            Some(Issuer { address: address.clone(), authorities: text(authorities)? })
        }
    };
    let mut deliver_headers = BTreeMap::new();
    for class in &document.classes {
        if let Some(name) = &class.deliver_headers {
            deliver_headers.insert(class.name.clone(), headers(name, &text(name)?)?);
        }
    }
    Ok(Credentials { tls, sasl, identity, issuer, deliver_headers })
}

fn headers(file: &str, text: &str) -> Result<HeaderMap, Error> {
    let invalid = |why: String| Error::Invalid(file.to_owned(), why);
    let named: BTreeMap<String, String> =
        serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
    let mut headers = HeaderMap::new();
    for (name, value) in named {
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|error| invalid(error.to_string()))?;
        let mut value = HeaderValue::from_str(&value).map_err(|error| invalid(error.to_string()))?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    Ok(headers)
}
