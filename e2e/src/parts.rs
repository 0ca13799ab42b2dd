//! The bed's ingredients: what is built from package registries, once, into a cache outside the work tree.

mod cache;
mod debian;
mod go;
mod kafka;
mod pause;
pub mod progress;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use cache::Recipe;
use progress::Progress;

/// Where each part is, or will be: the directory of its binaries.
#[derive(Debug, Clone)]
pub struct Parts {
    cache: PathBuf,
    pub kubernetes: PathBuf,
    pub etcd: PathBuf,
    pub helm: PathBuf,
    pub coredns: PathBuf,
    pub opa: PathBuf,
    pub kafka: PathBuf,
    pub pause: PathBuf,
}

impl Parts {
    /// Where the parts of this version of the bed belong.
    pub fn locate() -> Result<Self> {
        let cache = cache_directory()?;
        let at = |recipe: &Recipe| cache.join("parts").join(recipe.directory());
        Ok(Self {
            kubernetes: at(&go::KUBERNETES.recipe()),
            etcd: at(&go::ETCD.recipe()),
            helm: at(&go::HELM.recipe()),
            coredns: at(&go::COREDNS.recipe()),
            opa: at(&go::OPA.recipe()),
            kafka: at(&kafka::recipe()),
            pause: at(&pause::recipe()),
            cache,
        })
    }

    /// The cache itself.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// The Open Policy Agent's binary: the application that the demo replicates unmodified.
    pub fn opa_binary(&self) -> PathBuf {
        self.opa.join("opa")
    }

    /// Only Kafka's own tools: all that a cluster of the user's is not reached with by the user's tools.
    pub fn ensure_kafka_tools(&self, progress: &Progress) -> Result<()> {
        cache::ensure(&self.cache, &kafka::recipe(), progress, kafka::build)
    }

    /// Only etcd: what a group of sidecars is measured beside.
    pub fn ensure_etcd(&self, progress: &Progress) -> Result<()> {
        cache::ensure(&self.cache, &go::ETCD.recipe(), progress, |order| go::ETCD.build(order))
    }

    /// Builds what is missing, and installs the Debian packages that are.
    pub fn ensure(&self, progress: &Progress) -> Result<()> {
        debian::ensure(progress)?;
        cache::ensure(&self.cache, &pause::recipe(), progress, pause::build)?;
        // Maven mostly waits for the network, the Go builds take every core: one beside the others, those in turn.
        std::thread::scope(|scope| {
            let jars = scope.spawn(|| cache::ensure(&self.cache, &kafka::recipe(), progress, kafka::build));
            let built =
                [&go::ETCD, &go::KUBERNETES, &go::COREDNS, &go::HELM, &go::OPA].into_iter().try_for_each(
                    |part| cache::ensure(&self.cache, &part.recipe(), progress, |order| part.build(order)),
                );
            let jars = jars.join().map_err(|_| anyhow!("the thread that builds kafka panicked"))?;
            built.and(jars)
        })
    }
}

/// `$DECREE_CACHE`, or a directory of Decree's in the user's cache.
fn cache_directory() -> Result<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("DECREE_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("decree")))
        .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".cache/decree")))
        .context("find a cache directory: none of DECREE_CACHE, XDG_CACHE_HOME and HOME is set")
}
