//! Calls to peers: each within its caller's limit, and with an error that says whether it may have been received.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use super::identity::Identities;
use super::link::{Link, Sender};
use super::refusal::Refusals;
use super::{BODY_BYTES, Error, Target, told};

/// So many connections are kept before those that nobody uses are looked for.
const LINKS: usize = 32;
/// A connection that nobody has used for so long need not be kept.
const UNUSED: Duration = Duration::from_secs(300);
/// So much of what a peer says to a refusal is of interest.
const TEXT: usize = 500;

/// Reaches peers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Peers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    identities: Identities,
    refusals: Refusals,
    links: Mutex<HashMap<Target, Arc<Link>>>,
}

impl Peers {
    /// With this agent's newest identity.
    #[must_use]
    pub fn new(identities: Identities, refusals: Refusals) -> Self {
        Self(Arc::new(Inner { identities, refusals, links: Mutex::default() }))
    }

    /// Asks a peer, and waits for its answer for `limit` at most. Never asks twice. Must be called in a runtime.
    ///
    /// # Errors
    /// As [`Error`] lists.
    pub async fn call(
        &self,
        target: &Target,
        path: &str,
        body: Bytes,
        limit: Duration,
    ) -> Result<Bytes, Error> {
        let deadline = Instant::now() + limit;
        let not_sent = |why: String| Error::NotSent { target: target.clone(), why };
        let request = Request::post(format!("https://peer{path}"))
            .body(Full::new(body))
            .map_err(|error| not_sent(error.to_string()))?;
        let link = self.link(target);
        let Ok(Ok(_place)) = timeout_at(deadline, link.calls.acquire()).await else {
            return Err(not_sent("too many calls are under way".into()));
        };
        let sender = timeout_at(deadline, link.sender()).await;
        let sender = sender.unwrap_or_else(|_| Err("no connection in time".into())).map_err(not_sent)?;
        exchange(target, sender, request, deadline).await
    }

    fn link(&self, target: &Target) -> Arc<Link> {
        let Inner { identities, refusals, links } = &*self.0;
        let mut links = links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.get(target) {
            return link.clone();
        }
        if links.len() >= LINKS {
            let now = Instant::now();
            links.retain(|_, link| now.saturating_duration_since(link.used()) < UNUSED);
        }
        let link = Arc::new(Link::new(target.clone(), identities.clone(), refusals.clone()));
        links.insert(target.clone(), link.clone());
        link
    }
}

async fn exchange(
    target: &Target,
    mut sender: Sender,
    request: Request<Full<Bytes>>,
    deadline: Instant,
) -> Result<Bytes, Error> {
    let no_answer = |why: String| Error::NoAnswer { target: target.clone(), why };
    let late = |_| no_answer("none came in time".into());
    let sent = timeout_at(deadline, sender.try_send_request(request)).await.map_err(late)?;
    let response = sent.map_err(|mut failed| {
        let unsent = failed.take_message().is_some();
        let why = told(&failed.into_error());
        if unsent { Error::NotSent { target: target.clone(), why } } else { no_answer(why) }
    })?;
    timeout_at(deadline, answer(target, response)).await.map_err(late)?
}

async fn answer(target: &Target, response: Response<Incoming>) -> Result<Bytes, Error> {
    let status = response.status();
    let body = Limited::new(response.into_body(), BODY_BYTES).collect().await;
    if !status.is_success() {
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        let text = String::from_utf8_lossy(&body).chars().take(TEXT).collect();
        return Err(Error::Refused { target: target.clone(), status: status.as_u16(), text });
    }
    let body = body.map_err(|error| Error::NoAnswer { target: target.clone(), why: told(&*error) })?;
    Ok(body.to_bytes())
}
