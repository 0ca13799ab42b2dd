//! Why brokers can't be spoken to: away, not trusted, or not trusting us. librdkafka says so in words alone.

use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaErrorCode as Code;

/// A reason, and what librdkafka said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) kind: Kind,
    pub(crate) detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Away,
    /// The brokers don't take our name and password, or our certificate.
    Unauthenticated,
    /// We don't take theirs.
    Untrusted,
}

impl Trouble {
    pub(crate) fn of(code: Code, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { kind: kind(code, &detail), detail }
    }
}

/// The lines of a failed connection have no code of their own, and one code has two meanings.
fn kind(code: Code, detail: &str) -> Kind {
    let says = |words: &str| detail.contains(words);
    match code {
        // A connection that broke while it was being made; librdkafka calls that a failed authentication too.
        _ if says("Local: Broker transport failure") => Kind::Away,
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState => Kind::Unauthenticated,
        _ if says("SASL authentication error") || says("SASL mechanism") => Kind::Unauthenticated,
        // An alert is what the other end says: of our certificate, or that there is none.
        _ if says("alert") && (says("certificate") || says("unknown ca") || says("bad certificate")) => {
            Kind::Unauthenticated
        }
        Code::SSL => Kind::Untrusted,
        _ if says("certificate verify failed") || says("SSL handshake failed") => {
            // A broker that goes away in the middle of a handshake is no stranger.
            if says("connection reset") || says("unexpected eof") || says("Disconnected") {
                Kind::Away
            } else {
                Kind::Untrusted
            }
        }
        _ => Kind::Away,
    }
}

/// The newest trouble. That a broker is away does not hide why the others refuse us.
#[derive(Debug, Default)]
pub(crate) struct Lasting(Option<(Trouble, Instant)>);

/// A refusal that did not come again within this is over.
const HOLDS: Duration = Duration::from_secs(10);

impl Lasting {
    pub(crate) fn now(&self) -> Option<Trouble> {
        self.0.as_ref().map(|(trouble, _)| trouble.clone())
    }

    pub(crate) fn note(&mut self, trouble: Trouble, now: Instant) {
        let holds = self.0.as_ref().is_some_and(|(known, since)| {
            known.kind != Kind::Away && trouble.kind == Kind::Away && now - *since < HOLDS
        });
        if !holds {
            self.0 = Some((trouble, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_librdkafka_says_is_understood() {
        for (code, detail, expected) in [
            (
                Code::BrokerTransportFailure,
                "Connect to ipv4#10.0.0.1:1 failed: Connection refused",
                Kind::Away,
            ),
            (
                Code::BrokerTransportFailure,
                "SASL authentication error: Authentication failed during authentication due to invalid credentials",
                Kind::Unauthenticated,
            ),
            (
                Code::Authentication,
                "SASL authentication error: SaslAuthenticateRequest failed: Local: Broker transport failure",
                Kind::Away,
            ),
            (
                Code::BrokerTransportFailure,
                "SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker certificate \
                 could not be verified, verify that ssl.ca.location is correctly configured",
                Kind::Untrusted,
            ),
            (
                Code::SSL,
                "ssl/record/rec_layer_s3.c: error:0A00045C:SSL routines::tlsv13 alert certificate required",
                Kind::Unauthenticated,
            ),
            (
                Code::BrokerTransportFailure,
                "SSL handshake failed: Disconnected: connection reset by peer",
                Kind::Away,
            ),
        ] {
            assert_eq!(Trouble::of(code, detail).kind, expected, "{detail}");
        }
    }

    #[test]
    fn a_broker_that_is_away_does_not_hide_a_refusal() {
        let (mut lasting, start) = (Lasting::default(), Instant::now());
        let away = || Trouble::of(Code::BrokerTransportFailure, "refused connection");
        lasting.note(away(), start);
        lasting.note(Trouble::of(Code::Authentication, "wrong password"), start);
        lasting.note(away(), start + HOLDS / 2);
        assert_eq!(lasting.now().unwrap().kind, Kind::Unauthenticated);
        lasting.note(away(), start + HOLDS);
        assert_eq!(lasting.now().unwrap().kind, Kind::Away);
    }
}
