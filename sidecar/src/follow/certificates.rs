//! This agent's identity among its peers, from the files beside the document: another one when they change.

use std::sync::Arc;

use decree_wire::document::Document;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::log::refusals::Way;
use crate::peers::identity::{Identity, Material, Scope};

/// What an identity is read from.
type Source = (Material, Scope);

/// Publishes the newest one that can be used, until `stop`. The first is there when this is first polled.
pub(super) async fn keep(
    agent: Agent,
    identity: watch::Sender<Option<Arc<Identity>>>,
    stop: CancellationToken,
) {
    let mut documents = agent.documents();
    let mut seen: Option<Source> = None;
    loop {
        let state = documents.borrow_and_update().clone();
        let source = state
            .current
            .as_deref()
            .and_then(|document| Some((state.credentials.identity.clone()?, scope(document))));
        if let Some((material, scope)) = source.filter(|source| seen.as_ref() != Some(source)) {
            let read = Identity::read(&material, scope.clone(), &agent.pod().name);
            agent.refusals().note(Way::Identity, read.as_ref().err().map(ToString::to_string));
            if let Ok(read) = read {
                tracing::info!(own = %read.own(), "took another certificate");
                identity.send_replace(Some(Arc::new(read)));
            }
            seen = Some((material, scope));
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = documents.changed() => if changed.is_err() { return stop.cancelled().await },
        }
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
