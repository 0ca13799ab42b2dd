//! A cluster that the user has already, in place of a bed: reached from outside with the user's own kubectl and Helm.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Where a program that was started for such a cluster finds it again.
const KUBECONFIG: &str = "DECREE_KUBECONFIG";
const KAFKA: &str = "DECREE_KAFKA";
const IMAGES: &str = "DECREE_IMAGES";

/// Images of this checkout on a bed are named so; no registry has them.
const BED_IMAGES: &str = "decree.dev";

/// The cluster's options on a command line: all or none of them.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Use the cluster of this kubeconfig in place of a bed
    #[arg(long, requires = "kafka", requires = "images")]
    kubeconfig: Option<PathBuf>,
    /// That cluster's Kafka, as its pods and this machine reach it: HOST:PORT,…
    #[arg(long, requires = "kubeconfig", value_name = "HOST:PORT,…")]
    kafka: Option<String>,
    /// Where its nodes pull images: PREFIX/operator:dev, PREFIX/sidecar:dev and those of the test applications
    #[arg(long, requires = "kubeconfig", value_name = "PREFIX")]
    images: Option<String>,
}

/// What is known of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    pub(crate) kubeconfig: PathBuf,
    pub(crate) kafka: String,
    pub(crate) images: String,
}

impl Options {
    /// The cluster that the options name.
    pub fn cluster(self) -> Option<Foreign> {
        let Self { kubeconfig, kafka, images } = self;
        Some(Foreign { kubeconfig: kubeconfig?, kafka: kafka?, images: images? })
    }
}

impl Foreign {
    /// The cluster that the environment names.
    pub(crate) fn of_environment() -> Result<Option<Self>> {
        let Some(kubeconfig) = std::env::var_os(KUBECONFIG) else { return Ok(None) };
        let variable =
            |name| std::env::var(name).with_context(|| format!("read {name}, as {KUBECONFIG} is set"));
        Ok(Some(Self { kubeconfig: kubeconfig.into(), kafka: variable(KAFKA)?, images: variable(IMAGES)? }))
    }

    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let kubeconfig = path(&self.kubeconfig);
        vec![
            (KUBECONFIG, kubeconfig.clone()),
            ("KUBECONFIG", kubeconfig),
            (KAFKA, self.kafka.clone()),
            (IMAGES, self.images.clone()),
        ]
    }
}

fn path(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// The image of this name that the environment's cluster has.
pub fn image(name: &str) -> String {
    image_of(&std::env::var(IMAGES).unwrap_or_else(|_| BED_IMAGES.to_owned()), name)
}

pub(crate) fn image_of(prefix: &str, name: &str) -> String {
    format!("{}/{name}:dev", prefix.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Arguments {
        #[command(flatten)]
        options: Options,
    }

    fn cluster(arguments: &[&str]) -> Result<Option<Foreign>> {
        let all = ["demo"].iter().chain(arguments);
        Ok(Arguments::try_parse_from(all)?.options.cluster())
    }

    #[test]
    fn a_cluster_is_named_whole_or_not_at_all() {
        let whole = ["--kubeconfig", "k", "--kafka", "a:1,b:2", "--images", "registry.example/decree"];
        assert_eq!(cluster(&[]).unwrap(), None);
        assert_eq!(cluster(&whole).unwrap().unwrap().kafka, "a:1,b:2");
        for part in [&whole[..2], &whole[..4], &whole[2..]] {
            cluster(part).unwrap_err();
        }
    }

    #[test]
    fn images_have_the_users_prefix() {
        for prefix in ["registry.example:5000/decree", "registry.example:5000/decree/"] {
            assert_eq!(image_of(prefix, "operator"), "registry.example:5000/decree/operator:dev");
        }
    }
}
