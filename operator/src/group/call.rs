//! Calls to sidecars on their peers' port: JSON over HTTP/2 and mutual TLS, each answered by the pod that was meant or by
//! nobody.

#[cfg(test)]
mod tests;
mod trust;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use decree_wire::identity::Peer;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use crate::identity::keeper::Authority;

/// For one call, the connection included. Who needs longer is asked again.
const LIMIT: Duration = Duration::from_secs(3);
/// Heartbeats of a thousand agents are smaller.
const ANSWER_BYTES: usize = 4 << 20;
/// So much of what an agent says to a refusal is of interest.
const TEXT: usize = 500;
/// A connection is exchanged after so long: certificates are checked when it begins.
const LIFE: Duration = Duration::from_secs(3600);
/// So many connections are kept before those that nobody uses are looked for.
const LINKS: usize = 256;
/// A connection that nobody has used for so long need not be kept.
const UNUSED: Duration = Duration::from_secs(120);
/// The name in the handshake, which no one looks at: pods have none.
const NAME: &str = "peer.decree.invalid";

/// Whom to ask, and where: an address may have become another pod's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Agent {
    /// The pod's namespace, and the engine's.
    pub namespace: String,
    /// The engine.
    pub engine: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's uid.
    pub uid: String,
    /// `host:port` of its peers' port.
    pub address: String,
}

impl fmt::Display for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} at {}", self.namespace, self.pod, self.address)
    }
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The agent has certainly not received it.
    #[error("call {agent}: {why}")]
    NotSent {
        /// Whom.
        agent: String,
        /// Why not.
        why: String,
    },
    /// The agent may have received it, and may have done what was asked.
    #[error("wait for the answer of {agent}: {why}")]
    NoAnswer {
        /// Whose.
        agent: String,
        /// What came instead.
        why: String,
    },
    /// The agent answered that it does not do that.
    #[error("call {agent}: it answered {status}, {why}")]
    Refused {
        /// Who.
        agent: String,
        /// The HTTP status.
        status: u16,
        /// What it said.
        why: String,
    },
    /// The agent said something else than was asked.
    #[error("read the answer of {agent}: {why}")]
    Unreadable {
        /// Who.
        agent: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Error {
    /// Whether nothing was heard of the agent.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::NotSent { .. } | Self::NoAnswer { .. })
    }

    /// Whether it certainly had no effect.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        matches!(self, Self::NotSent { .. })
    }

    /// Whether the same may be answered in a moment.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::NotSent { .. } | Self::NoAnswer { .. } => true,
            Self::Refused { status, .. } => *status >= 500 || matches!(status, 408 | 409 | 429),
            Self::Unreadable { .. } => false,
        }
    }
}

/// Asks agents. Clones share the connections.
#[derive(Clone, Debug)]
pub struct Calls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    authority: Authority,
    links: Mutex<HashMap<Agent, Link>>,
}

/// A kept connection. Dropping it ends it.
#[derive(Debug)]
struct Link {
    sender: SendRequest<Full<Bytes>>,
    begun: Instant,
    used: Instant,
    _driver: AbortOnDropHandle<()>,
}

impl Calls {
    /// Shows the certificate that goes with the peers' authority.
    #[must_use]
    pub fn new(authority: Authority) -> Self {
        Self(Arc::new(Inner { authority, links: Mutex::default() }))
    }

    /// Asks for something. Never asks twice.
    ///
    /// # Errors
    /// As [`Error`] lists.
    pub async fn get<T: DeserializeOwned>(&self, agent: &Agent, path: &str) -> Result<T, Error> {
        self.ask(agent, Request::get(url(path)), Bytes::new()).await
    }

    /// Asks to do something; an empty answer is read as `null`. Never asks twice.
    ///
    /// # Errors
    /// As [`Error`] lists.
    pub async fn post<B, T>(&self, agent: &Agent, path: &str, body: &B) -> Result<T, Error>
    where
        B: Serialize + Sync,
        T: DeserializeOwned,
    {
        let written = serde_json::to_vec(body).map_err(|error| not_sent(agent, &error))?;
        let request = Request::post(url(path)).header(header::CONTENT_TYPE, "application/json");
        self.ask(agent, request, written.into()).await
    }

    /// The next call is on another connection.
    pub fn forget(&self, agent: &Agent) {
        self.links().remove(agent);
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        agent: &Agent,
        request: http::request::Builder,
        body: Bytes,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + LIMIT;
        let request = request.body(Full::new(body)).map_err(|error| not_sent(agent, &error))?;
        let connected = timeout_at(deadline, self.sender(agent)).await;
        let sender = connected.unwrap_or_else(|_| Err(unsent(agent, "no connection in time")))?;
        let answered = exchange(agent, sender, request, deadline).await;
        if answered.as_ref().is_err_and(Error::is_unreachable) {
            // Also where only this answer was late: the next call finds out, on a new connection.
            self.forget(agent);
        }
        let answer = answered?;
        let text: &[u8] = if answer.is_empty() { b"null" } else { &answer };
        serde_json::from_slice(text)
            .map_err(|error| Error::Unreadable { agent: agent.to_string(), why: error.to_string() })
    }

    async fn sender(&self, agent: &Agent) -> Result<SendRequest<Full<Bytes>>, Error> {
        let now = Instant::now();
        if let Some(link) = self.links().get_mut(agent)
            && !link.sender.is_closed()
            && now.saturating_duration_since(link.begun) < LIFE
        {
            link.used = now;
            return Ok(link.sender.clone());
        }
        let link = self.dial(agent).await?;
        let sender = link.sender.clone();
        let mut links = self.links();
        if links.len() >= LINKS {
            links.retain(|_, link| now.saturating_duration_since(link.used) < UNUSED);
        }
        links.insert(agent.clone(), link);
        Ok(sender)
    }

    async fn dial(&self, agent: &Agent) -> Result<Link, Error> {
        let Some(material) = self.0.authority.borrow().clone() else {
            return Err(unsent(agent, "the peers' authority is not there yet"));
        };
        let Agent { namespace, engine, pod, uid, address } = agent.clone();
        let expected = |cluster| Peer { cluster, namespace, engine, pod, uid };
        let config = trust::client(&material, expected).map_err(|error| not_sent(agent, &error))?;
        let name = ServerName::try_from(NAME).map_err(|error| not_sent(agent, &error))?;
        let stream = TcpStream::connect(&address).await.map_err(|error| not_sent(agent, &error))?;
        stream.set_nodelay(true).map_err(|error| not_sent(agent, &error))?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let stream = stream.map_err(|error| not_sent(agent, &error))?;
        let handshake = http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(|error| not_sent(agent, &error))?;
        // Its error comes out at the request too.
        let driver = AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
        let now = Instant::now();
        Ok(Link { sender, begun: now, used: now, _driver: driver })
    }

    fn links(&self) -> MutexGuard<'_, HashMap<Agent, Link>> {
        self.0.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn url(path: &str) -> String {
    format!("https://peer{path}")
}

fn unsent(agent: &Agent, why: &str) -> Error {
    Error::NotSent { agent: agent.to_string(), why: why.to_owned() }
}

fn not_sent(agent: &Agent, error: &dyn std::error::Error) -> Error {
    unsent(agent, &told(error))
}

async fn exchange(
    agent: &Agent,
    mut sender: SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
    deadline: Instant,
) -> Result<Bytes, Error> {
    let no_answer = |why: String| Error::NoAnswer { agent: agent.to_string(), why };
    let late = |_| no_answer(format!("none came within {LIMIT:?}"));
    let sent = timeout_at(deadline, sender.try_send_request(request)).await.map_err(late)?;
    let response = sent.map_err(|mut failed| {
        let unsent = failed.take_message().is_some();
        let error = failed.into_error();
        if unsent { not_sent(agent, &error) } else { no_answer(told(&error)) }
    })?;
    timeout_at(deadline, answer(agent, response)).await.map_err(late)?
}

async fn answer(agent: &Agent, response: Response<Incoming>) -> Result<Bytes, Error> {
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
    if !status.is_success() {
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        let why = String::from_utf8_lossy(&body).chars().take(TEXT).collect();
        return Err(Error::Refused { agent: agent.to_string(), status: status.as_u16(), why });
    }
    let body = body.map_err(|error| Error::NoAnswer { agent: agent.to_string(), why: told(&*error) })?;
    Ok(body.to_bytes())
}

/// An error with all that caused it, for people.
fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.dedup();
    texts.join(": ")
}
