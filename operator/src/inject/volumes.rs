//! The sidecar's volumes: the engine's Secret, its own state, and the folder of the Unix socket.

use decree_crds::labels;
use decree_wire::pod::path;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, SecretVolumeSource, Volume, VolumeMount};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const DOCUMENT: &str = "decree-document";
const STATE: &str = "decree-state";
const RUN: &str = "decree-run";

/// The names of all of them.
pub const NAMES: [&str; 3] = [DOCUMENT, STATE, RUN];

/// Those that a cluster autoscaler would keep a node for: what is in them is rebuilt from the log.
pub const LOCAL: [&str; 2] = [STATE, RUN];

/// The pod's further volumes.
#[must_use]
pub fn of_pod(engine: &str) -> Vec<Volume> {
    let secret = SecretVolumeSource {
        secret_name: Some(labels::document_secret(engine)),
        ..SecretVolumeSource::default()
    };
    vec![
        Volume { name: DOCUMENT.to_owned(), secret: Some(secret), ..Volume::default() },
        empty(STATE, "1Gi"),
        empty(RUN, "1Mi"),
    ]
}

/// What the sidecar mounts. The Secret as a whole folder: with a subPath it would never be refreshed.
#[must_use]
pub fn of_sidecar() -> Vec<VolumeMount> {
    vec![
        VolumeMount { read_only: Some(true), ..mount(DOCUMENT, path::DOCUMENT) },
        mount(STATE, path::STATE),
        mount(RUN, path::RUN),
    ]
}

/// What the application mounts: the folder, since the socket in it is made anew with each sidecar.
#[must_use]
pub fn of_application() -> VolumeMount {
    mount(RUN, path::RUN)
}

fn empty(name: &str, limit: &str) -> Volume {
    let source = EmptyDirVolumeSource {
        size_limit: Some(Quantity(limit.to_owned())),
        ..EmptyDirVolumeSource::default()
    };
    Volume { name: name.to_owned(), empty_dir: Some(source), ..Volume::default() }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount { name: name.to_owned(), mount_path: path.to_owned(), ..VolumeMount::default() }
}
