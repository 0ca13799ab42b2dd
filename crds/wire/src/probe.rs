//! The application's liveness as the injection hands it to the sidecar: the user's own check, and what a restart takes.

use serde::{Deserialize, Serialize};

/// Where the kubelet asks the sidecar (port [`crate::pod::port::HEALTH`]) whether the application's container may live on.
pub const PATH: &str = "/application/livez";

/// The kubelet asks every second and restarts the application's container at so many failures in a row. A sidecar that
/// is being restarted refuses connections, for the kubelet's first back-off of 10 seconds: that alone must not restart
/// the application.
pub const FAILURES: u32 = 12;

/// So often in a row the sidecar says that the application failed its own check, and then begins to count anew: a few
/// times more than [`FAILURES`], since an answer may get lost; and not for ever, since the application's next life has
/// a count of its own, and may take as long to start as its user allows.
pub const TOLD: u32 = FAILURES + 3;

/// What gives the application an empty state again: the value of [`crate::pod::env::RESTART`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restart {
    /// The container alone: the kubelet restarts it when [`PATH`] fails.
    Container,
    /// The whole pod: the container's probe is not the sidecar's, it would not be started again, or it writes to a
    /// volume that outlives it.
    #[default]
    Pod,
}

impl Restart {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Container, Self::Pod];

    /// As it stands in the environment.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Container => "Container",
            Self::Pod => "Pod",
        }
    }
}

impl std::fmt::Display for Restart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The environment says something that is neither of the two.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("read {0:?} as Container or Pod")]
pub struct UnknownRestart(String);

impl std::str::FromStr for Restart {
    type Err = UnknownRestart;

    fn from_str(text: &str) -> Result<Self, UnknownRestart> {
        let found = Self::ALL.into_iter().find(|restart| restart.as_str() == text);
        found.ok_or_else(|| UnknownRestart(text.to_owned()))
    }
}

/// The user's own liveness check, with the kubelet's defaults filled in: the value of [`crate::pod::env::LIVENESS`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Liveness {
    /// What is asked.
    #[serde(flatten)]
    pub check: Check,
    /// From one check to the next.
    pub period_seconds: u32,
    /// A check without an answer for so long has failed.
    pub timeout_seconds: u32,
    /// So many failed checks in a row, and the container is to be restarted.
    pub failure_threshold: u32,
    /// So many good ones in a row, and it is well again; the API server admits only 1 for liveness.
    pub success_threshold: u32,
}

impl std::str::FromStr for Liveness {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

/// What is asked, as the kubelet would ask it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Check {
    /// A GET that is answered with 200 to 399.
    HttpGet(HttpGet),
    /// A port that accepts a connection.
    TcpSocket(TcpSocket),
}

/// A GET that is answered with 200 to 399. The kubelet verifies no certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpGet {
    /// Path and query.
    pub path: String,
    /// The port's number.
    pub port: u16,
    /// HTTP or HTTPS.
    #[serde(default)]
    pub scheme: Scheme,
    /// Where to connect to; default: the pod's own address ([`crate::pod::env::IP`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Names and values, in order; one named `Host` replaces the request's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
}

/// A port that accepts a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TcpSocket {
    /// The port's number.
    pub port: u16,
    /// Where to connect to; default: the pod's own address ([`crate::pod::env::IP`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// A scheme of URLs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Scheme {
    /// Plain.
    #[default]
    Http,
    /// Over TLS, without looking at the certificate.
    Https,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_the_environment_is_read_again() {
        let http = Liveness {
            check: Check::HttpGet(HttpGet {
                path: "/health?full".to_owned(),
                port: 8181,
                scheme: Scheme::Https,
                host: None,
                headers: vec![("X-Probe".to_owned(), "1".to_owned())],
            }),
            period_seconds: 10,
            timeout_seconds: 1,
            failure_threshold: 3,
            success_threshold: 1,
        };
        let text = serde_json::to_string(&http).unwrap();
        assert_eq!(
            text,
            r#"{"httpGet":{"path":"/health?full","port":8181,"scheme":"HTTPS","headers":[["X-Probe","1"]]},"periodSeconds":10,"timeoutSeconds":1,"failureThreshold":3,"successThreshold":1}"#
        );
        assert_eq!(text.parse::<Liveness>().unwrap(), http);

        let tcp = r#"{"tcpSocket":{"port":1},"periodSeconds":1,"timeoutSeconds":1,"failureThreshold":1,"successThreshold":1}"#;
        let check = Check::TcpSocket(TcpSocket { port: 1, host: None });
        assert_eq!(tcp.parse::<Liveness>().unwrap().check, check);
    }

    #[test]
    fn a_restart_is_one_of_two_words() {
        for restart in Restart::ALL {
            assert_eq!(restart.to_string().parse(), Ok(restart));
        }
        assert!("container".parse::<Restart>().is_err());
    }
}
