//! Where the brokers are and as whom to speak to them.

use std::time::Duration;

use crate::error::{Error, Result};

/// Settings that every client of one Kafka cluster shares.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Connection {
    /// `host:port`, at least one.
    pub bootstrap_servers: Vec<String>,
    /// What brokers log and count quotas by.
    pub client_id: String,
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
        }
    }

    /// The bootstrap servers as Kafka's tools write them, for messages too.
    pub fn brokers(&self) -> String {
        self.bootstrap_servers.join(",")
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
        Ok(())
    }
}

/// How long a delivery may take and how much may wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerSettings {
    /// Every delivery ends within this, one way or the other.
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
}
