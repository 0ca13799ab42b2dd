//! `POST /identity`: a token and a signing request in, a certificate out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use decree_wire::identity::Peer;
use decree_wire::issuance::{self, Issued, PATH};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::issue::{self, issue};
use super::keeper::Authority;
use super::witness::{Refusal, Witness};
use crate::metrics::{Ended, Metrics};

/// A request with a key of any kind is smaller.
const MAX_BODY: usize = 16 << 10;
/// For one answer, and for the request's body: who asks has it at hand.
const LIMIT: Duration = Duration::from_secs(8);
const BODY_LIMIT: Duration = Duration::from_secs(1);
/// So many are read at once, and so many asked about. Nobody waits in line: anybody may ask, and a line of strangers
/// would fill the operator's memory and keep sidecars from their certificates. They ask again.
const MAX_READ: usize = 64;
const MAX_ASKED: usize = 16;
/// A token is smaller.
const MAX_TOKEN: usize = 8 << 10;
/// Refusals are told so often; all are counted.
const QUIET: Duration = Duration::from_secs(5);

/// What the handler needs.
#[derive(Clone, Debug)]
pub struct Issuer {
    witness: Arc<dyn Witness>,
    authority: Authority,
    metrics: Metrics,
    readings: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    told: Arc<Mutex<Option<Instant>>>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("read the request's token: send it as `Authorization: Bearer`")]
    NoToken,
    #[error("read the request: it is larger than {MAX_BODY} bytes, or broke off")]
    TooLarge,
    #[error("read the request: {0}")]
    Unreadable(#[from] serde_json::Error),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the authority of peers is not there yet")]
    NoAuthority,
    #[error(transparent)]
    Issue(#[from] issue::Error),
    #[error("answer within {LIMIT:?}")]
    TooSlow,
    #[error("too many ask at once; ask again in a moment")]
    Busy,
}

impl Error {
    fn status(&self) -> StatusCode {
        match self {
            Self::NoToken | Self::Refused(Refusal::Unauthenticated(_) | Refusal::OtherAudience) => {
                StatusCode::UNAUTHORIZED
            }
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unreadable(_) | Self::Issue(issue::Error::Request(_)) => StatusCode::BAD_REQUEST,
            Self::Refused(
                Refusal::Unbound | Refusal::Gone(..) | Refusal::Ending(_) | Refusal::NoAgent(_),
            ) => StatusCode::FORBIDDEN,
            Self::Issue(issue::Error::Authority(_) | issue::Error::Sign(..)) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Self::Refused(Refusal::Unknown(_)) | Self::NoAuthority | Self::TooSlow | Self::Busy => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NoToken => "NoToken",
            Self::TooLarge => "TooLarge",
            Self::Unreadable(_) | Self::Issue(issue::Error::Request(_)) => "Unreadable",
            Self::Refused(refusal) => refusal.reason(),
            Self::NoAuthority => "NoAuthority",
            Self::Issue(issue::Error::Authority(_) | issue::Error::Sign(..)) => "IssueFailed",
            Self::TooSlow => "TooSlow",
            Self::Busy => "Busy",
        }
    }
}

impl Issuer {
    /// Issues with the authority as it is at each request, to whom `witness` knows.
    #[must_use]
    pub fn new(witness: Arc<dyn Witness>, authority: Authority, metrics: Metrics) -> Self {
        let turns = |many| Arc::new(Semaphore::new(many));
        let (readings, turns) = (turns(MAX_READ), turns(MAX_ASKED));
        Self { witness, authority, metrics, readings, turns, told: Arc::default() }
    }

    /// [`PATH`].
    pub fn routes(self) -> Router {
        Router::new().route(PATH, post(answer)).with_state(self)
    }

    async fn issued(&self, request: Request) -> Result<(Peer, Issued), Error> {
        let (head, body) = request.into_parts();
        let token = token(&head.headers).ok_or(Error::NoToken)?;
        let request: issuance::Request = serde_json::from_slice(&self.read(body).await?)?;
        let _turn = self.turns.try_acquire().map_err(|_| Error::Busy)?;
        let authority = self.authority.borrow().clone().ok_or(Error::NoAuthority)?;
        let peer = self.witness.agent(token).await?;
        let issued = issue(&authority, &peer, &request.signing_request, SystemTime::now())?;
        Ok((peer, issued))
    }

    async fn read(&self, body: Body) -> Result<Bytes, Error> {
        let _reading = self.readings.try_acquire().map_err(|_| Error::Busy)?;
        let read = timeout(BODY_LIMIT, to_bytes(body, MAX_BODY)).await.map_err(|_| Error::TooSlow)?;
        read.map_err(|_| Error::TooLarge)
    }

    /// Whether a refusal may be told now: anybody may ask, as often as they like.
    fn tells(&self, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let tells = told.is_none_or(|told| now.duration_since(told) >= QUIET);
        if tells {
            *told = Some(now);
        }
        tells
    }
}

/// What looks like a pod's token: three parts of base64.
fn token(headers: &HeaderMap) -> Option<&str> {
    let token = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?;
    (token.len() <= MAX_TOKEN && token.split('.').count() == 3).then_some(token)
}

async fn answer(State(issuer): State<Issuer>, request: Request) -> Response {
    let answered = timeout(LIMIT, issuer.issued(request)).await.unwrap_or(Err(Error::TooSlow));
    let result = answered.as_ref().map_or_else(Error::reason, |_| "issued");
    issuer.metrics.identities.get_or_create(&Ended { result }).inc();
    match answered {
        Ok((peer, issued)) => {
            tracing::info!(%peer, "issued a certificate");
            Json(issued).into_response()
        }
        Err(error) => {
            if issuer.tells(Instant::now()) {
                tracing::warn!(%error, reason = error.reason(), "issued no certificate");
            }
            (error.status(), format!("{error}\n")).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use rcgen::{CertificateParams, KeyPair};
    use tokio::sync::watch;

    use super::*;
    use crate::certs::authority;
    use crate::certs::profile::Profile;

    /// Knows one token; that of a pod that is ending shows what the API server can't be made to say here.
    #[derive(Debug)]
    struct One;

    #[async_trait]
    impl Witness for One {
        async fn agent(&self, token: &str) -> Result<Peer, Refusal> {
            match token {
                "a.good.token" => Ok("decree://c-1/shop/policy/opa-0/u-1".parse().unwrap()),
                "an.ending.token" => Err(Refusal::Ending("shop/opa-0".into())),
                _ => Err(Refusal::Unauthenticated("nobody knows it".into())),
            }
        }
    }

    fn issuer(known: bool) -> Issuer {
        let profile = Profile::peers("decree://c-1".into());
        let authority = known.then(|| Arc::new(authority::found(&profile, SystemTime::now()).unwrap()));
        let (told, authority) = watch::channel(authority);
        drop(told);
        Issuer::new(Arc::new(One), authority, Metrics::new())
    }

    async fn asked(issuer: &Issuer, token: Option<&str>, body: String) -> (u16, Vec<u8>) {
        let mut request = Request::post(PATH);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let answered = answer(State(issuer.clone()), request.body(Body::from(body)).unwrap()).await;
        let status = answered.status().as_u16();
        (status, to_bytes(answered.into_body(), 1 << 20).await.unwrap().to_vec())
    }

    fn request() -> String {
        let key = KeyPair::generate().unwrap();
        let signing_request = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
        serde_json::to_string(&issuance::Request { signing_request }).unwrap()
    }

    #[tokio::test]
    async fn a_pod_that_shows_its_token_gets_a_certificate_and_nobody_else() {
        let issuer = issuer(true);
        let (status, body) = asked(&issuer, Some("a.good.token"), request()).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        let issued: Issued = serde_json::from_slice(&body).unwrap();
        assert!(issued.certificate.starts_with("-----BEGIN CERTIFICATE"));
        for (token, body, status) in [
            (None, request(), 401),
            (Some("bad"), request(), 401),
            (Some("a.bad.token"), request(), 401),
            (Some("an.ending.token"), request(), 403),
            (Some("a.good.token"), "{}".to_owned(), 400),
            (Some("a.good.token"), r#"{"signingRequest":"-----BEGIN"}"#.to_owned(), 400),
            (Some("a.good.token"), "x".repeat(20 << 10), 413),
        ] {
            let (found, text) = asked(&issuer, token, body).await;
            assert_eq!(found, status, "{}", String::from_utf8_lossy(&text));
        }
        let text = issuer.metrics.text().unwrap();
        for counted in [r#"{result="issued"} 1"#, r#"{result="PodEnding"} 1"#, r#"{result="Unreadable"} 2"#] {
            assert!(text.contains(&format!("decree_operator_identities_total{counted}")), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_no_body_keeps_nobody_waiting() {
        let issuer = issuer(true);
        let silent = || {
            let body = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
            let request = Request::post(PATH).header(header::AUTHORIZATION, "Bearer a.good.token");
            answer(State(issuer.clone()), request.body(body).unwrap())
        };
        let silent: Vec<_> = (0..MAX_READ).map(|_| tokio::spawn(silent())).collect();
        while issuer.readings.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(asked(&issuer, Some("a.good.token"), request()).await.0, 503, "and at once");
        for silent in silent {
            assert_eq!(silent.await.unwrap().status().as_u16(), 503);
        }
        assert_eq!(asked(&issuer, Some("a.good.token"), request()).await.0, 200);
    }

    #[tokio::test]
    async fn before_there_is_an_authority_a_sidecar_asks_again() {
        assert_eq!(asked(&issuer(false), Some("a.good.token"), request()).await.0, 503);
    }
}
