//! What precedes an uninstallation: nobody leads any more, and no engine waits for an operator to go.

use std::time::Duration;

use decree_crds::DecisionEngine;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};

use crate::finalizers;
use crate::lease;

/// For so long after it nobody leads: the Deployment goes meanwhile. If it does not, all goes on as before.
const UNLED: Duration = Duration::from_secs(20);
/// For all of it.
const LIMIT: Duration = Duration::from_secs(120);
/// So many engines are listed at once.
const PAGE: u32 = 200;

/// Where things are.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Config {
    /// Let the engines of this namespace go only. Default: all.
    #[arg(long, env = "DECREE_WATCH_NAMESPACE")]
    pub namespace: Option<String>,
    /// The operator's own namespace.
    #[arg(long, env = "DECREE_OPERATOR_NAMESPACE", default_value = "decree")]
    pub operator_namespace: String,
    /// Who leads.
    #[command(flatten)]
    pub lease: lease::Config,
}

/// Why engines may still wait for an operator.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server said no.
    #[error("let the engines go")]
    Api(#[from] kube::Error),
    /// It took too long.
    #[error("let the engines go: no end within {LIMIT:?}")]
    Late,
}

/// Takes the finalizer off every engine.
///
/// # Errors
/// If the API server can't be asked, or does not take it.
pub async fn uninstall(config: Config) -> Result<(), Error> {
    let work = async {
        let client = Client::try_default().await?;
        let unled = async |duration| {
            lease::seize(client.clone(), &config.operator_namespace, &config.lease, duration).await
        };
        unled(LIMIT).await?;
        // Who led may have renewed a moment ago, and be cut off since.
        tokio::time::sleep(lease::DEADLINE).await;
        let engines = match &config.namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let listed: kube::core::ObjectList<DecisionEngine> = match engines.list(&page).await {
                // Their definition is gone, and all engines with it.
                Err(kube::Error::Api(status)) if status.code == 404 => return Ok(unled(UNLED).await?),
                listed => listed?,
            };
            for engine in &listed.items {
                let_go(&client, engine).await?;
            }
            match listed.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(unled(UNLED).await?),
            }
        }
    };
    tokio::time::timeout(LIMIT, work).await.map_err(|_| Error::Late)?
}

async fn let_go(client: &Client, engine: &DecisionEngine) -> Result<(), kube::Error> {
    let (namespace, name) = (engine.namespace().unwrap_or_default(), engine.name_any());
    let api = Api::<DecisionEngine>::namespaced(client.clone(), &namespace);
    let mut found = Some(engine.clone());
    while let Some(patch) = found.as_ref().and_then(|engine| finalizers::patch(engine, false)) {
        match api.patch(&name, &PatchParams::default(), &Patch::Json::<()>(patch)).await {
            Ok(_) => {
                tracing::info!(namespace, name, "the engine may go without its topics");
                return Ok(());
            }
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            // It was changed meanwhile, by whoever: look again.
            Err(kube::Error::Api(status)) if matches!(status.code, 409 | 422) => {
                found = api.get_opt(&name).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
