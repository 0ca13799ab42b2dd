//! This agent's identity among its peers, from files beside the document or issued: another one when it changes or ages.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use decree_wire::document::Document;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::config::document::State;
use crate::log::refusals::Way;
use crate::peers::identity::{Identity, Material, Scope};
use crate::peers::issued::{Issuer, issue};

/// After the first time that none was issued, and the longest pause. A certificate is renewed long before its end.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Keeps an agent certified.
pub(super) struct Certificates {
    agent: Agent,
    token: PathBuf,
    identity: watch::Sender<Option<Arc<Identity>>>,
    /// What the last identity was read from.
    seen: Option<(Material, Scope)>,
    issued: Option<Material>,
    /// When the next one is asked for.
    due: Instant,
    pause: Duration,
}

impl Certificates {
    pub(super) fn new(agent: Agent, token: PathBuf, identity: watch::Sender<Option<Arc<Identity>>>) -> Self {
        Self { agent, token, identity, seen: None, issued: None, due: Instant::now(), pause: PAUSE.0 }
    }

    /// Publishes the newest identity that can be used, until `stop`.
    pub(super) async fn keep(mut self, stop: CancellationToken) {
        let mut documents = self.agent.documents();
        loop {
            let State { current, credentials, .. } = documents.borrow_and_update().clone();
            let issuer = credentials.issuer.as_ref().filter(|_| credentials.identity.is_none());
            if let Some(issuer) = issuer.filter(|_| Instant::now() >= self.due) {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = self.ask(issuer) => {}
                }
            }
            let material = credentials.identity.clone().or_else(|| self.issued.clone());
            if let Some((material, document)) = material.zip(current) {
                self.take(material, scope(&document));
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = documents.changed() => if changed.is_err() { return stop.cancelled().await },
                () = sleep_until(self.due), if issuer.is_some() => {}
            }
        }
    }

    async fn ask(&mut self, issuer: &Issuer) {
        match issue(issuer, &self.token).await {
            Ok((material, after)) => {
                (self.issued, self.pause, self.due) = (Some(material), PAUSE.0, Instant::now() + after);
            }
            Err(error) => {
                self.agent.refusals().note(Way::Identity, Some(error.to_string()));
                self.due = Instant::now() + self.pause;
                self.pause = (self.pause * 2).min(PAUSE.1);
            }
        }
    }

    fn take(&mut self, material: Material, scope: Scope) {
        let source = (material, scope);
        if self.seen.as_ref() == Some(&source) {
            return;
        }
        let read = Identity::read(&source.0, source.1.clone(), &self.agent.pod().name);
        self.agent.refusals().note(Way::Identity, read.as_ref().err().map(ToString::to_string));
        if let Ok(read) = read {
            tracing::info!(own = %read.own(), "took another certificate");
            self.identity.send_replace(Some(Arc::new(read)));
        }
        self.seen = Some(source);
    }
}

fn scope(document: &Document) -> Scope {
    let gone = document.group.iter().flat_map(|group| group.gone.iter().cloned());
    Scope {
        cluster: document.cluster.clone(),
        namespace: document.engine.namespace.clone(),
        engine: document.engine.name.clone(),
        gone: gone.collect(),
    }
}
