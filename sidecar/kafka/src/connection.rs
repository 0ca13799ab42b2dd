//! Where the brokers are, how the way there is kept secret, and as whom to speak to them.

use std::fmt;
use std::time::Duration;

use crate::error::{Error, Result};

/// Settings that every client of one Kafka cluster shares.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Connection {
    /// `host:port`, at least one.
    pub bootstrap_servers: Vec<String>,
    /// What brokers log and count quotas by.
    pub client_id: String,
    /// Encryption; none where the listener has none.
    pub tls: Option<Tls>,
    /// A name and its password; none where the listener wants none.
    pub sasl: Option<Sasl>,
}

/// How the brokers prove who they are, and we with a certificate if they want one. Their names are always compared.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tls {
    /// The authorities that are trusted, as PEM; none: those of the system.
    pub ca: Option<String>,
    /// What a listener with mutual TLS wants.
    pub client: Option<ClientCertificate>,
}

/// A certificate and its key, each as PEM.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientCertificate {
    /// With those between it and the authority, if there are any.
    pub certificate: String,
    /// Not encrypted.
    pub key: String,
}

/// A name and its password.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sasl {
    pub mechanism: Mechanism,
    pub username: String,
    pub password: String,
}

/// How a password is shown to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mechanism {
    /// By sending it: over TLS only.
    Plain,
    ScramSha256,
    ScramSha512,
}

impl Mechanism {
    /// As Kafka calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

// Neither keys nor passwords may end up in a log.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ca, client } = self;
        f.debug_struct("Tls").field("ca", &ca.is_some()).field("client", &client.is_some()).finish()
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").finish_non_exhaustive()
    }
}

impl fmt::Debug for Sasl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mechanism, username, password: _ } = self;
        f.debug_struct("Sasl")
            .field("mechanism", mechanism)
            .field("username", username)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// A connection without TLS and authentication.
    pub fn plain<S: Into<String>>(
        bootstrap_servers: impl IntoIterator<Item = S>,
        client_id: impl Into<String>,
    ) -> Self {
        Self {
            bootstrap_servers: bootstrap_servers.into_iter().map(Into::into).collect(),
            client_id: client_id.into(),
            tls: None,
            sasl: None,
        }
    }

    /// The same, secured so.
    #[must_use]
    pub fn secured(self, tls: Option<Tls>, sasl: Option<Sasl>) -> Self {
        Self { tls, sasl, ..self }
    }

    /// The bootstrap servers as Kafka's tools write them, for messages too.
    pub fn brokers(&self) -> String {
        self.bootstrap_servers.join(",")
    }

    /// As Kafka calls the combination.
    pub(crate) fn protocol(&self) -> &'static str {
        match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        }
    }

    /// librdkafka takes an empty list for "no brokers yet" and then waits without a word.
    pub(crate) fn check(&self) -> Result<()> {
        let invalid = |detail: String| Error::Invalid { attempt: "connect to Kafka".into(), detail };
        if self.bootstrap_servers.is_empty() {
            return Err(invalid("no bootstrap server is given".into()));
        }
        for server in &self.bootstrap_servers {
            if server.is_empty() || server.contains([',', '\0']) || server.contains(char::is_whitespace) {
                return Err(invalid(format!("{server:?} is not a bootstrap server, write host:port")));
            }
        }
        if self.tls.is_none() && self.sasl.as_ref().is_some_and(|sasl| sasl.mechanism == Mechanism::Plain) {
            return Err(invalid("SASL PLAIN would send the password in the clear; it needs TLS".into()));
        }
        Ok(())
    }
}

/// How long a delivery may take and how much may wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerSettings {
    /// Every attempt ends within this, one way or the other, and no other begins after it.
    pub delivery_limit: Duration,
    /// More records than these outstanding: `QueueFull`.
    pub queue_records: u32,
    /// More than this outstanding, in KiB: `QueueFull`.
    pub queue_kbytes: u32,
}

impl Default for ProducerSettings {
    fn default() -> Self {
        Self { delivery_limit: Duration::from_secs(5), queue_records: 10_000, queue_kbytes: 8 * 1024 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_joined_as_the_tools_write_them() {
        assert_eq!(Connection::plain(["a:1", "b:2"], "x").brokers(), "a:1,b:2");
    }

    #[test]
    fn a_list_that_librdkafka_would_wait_on_is_refused() {
        assert!(Connection::plain(["a:1"], "x").check().is_ok());
        for servers in [vec![], vec![""], vec!["a:1,b:2"], vec!["a :1"]] {
            let refused = Connection::plain(servers, "x").check();
            assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
        }
    }

    #[test]
    fn no_password_travels_or_is_printed_in_the_clear() {
        let sasl = |mechanism| {
            let sasl = Sasl { mechanism, username: "name".into(), password: "secret".into() };
            Connection::plain(["a:1"], "x").secured(None, Some(sasl))
        };
        assert!(sasl(Mechanism::ScramSha512).check().is_ok());
        let plain = sasl(Mechanism::Plain);
        assert!(plain.check().is_err());
        let tls = Tls { ca: None, client: None };
        let over_tls = plain.clone().secured(Some(tls), plain.sasl);
        assert!(over_tls.check().is_ok());
        assert!(!format!("{over_tls:?}").contains("secret"), "{over_tls:?}");
    }
}
