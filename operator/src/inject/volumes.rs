//! The sidecar's volumes: the engine's Secret, its own state, the folder of the Unix socket, and a member's token.

use decree_crds::labels;
use decree_wire::issuance::AUDIENCE;
use decree_wire::pod::path;
use k8s_openapi::api::core::v1::{
    EmptyDirVolumeSource, ProjectedVolumeSource, SecretVolumeSource, ServiceAccountTokenProjection, Volume,
    VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const DOCUMENT: &str = "decree-document";
const STATE: &str = "decree-state";
const RUN: &str = "decree-run";

const TOKEN: &str = "decree-token";
/// The kubelet renews the token when four fifths of this are over.
const TOKEN_SECONDS: i64 = 3600;

/// The names of all of them.
pub const NAMES: [&str; 4] = [DOCUMENT, STATE, RUN, TOKEN];

/// Those that a cluster autoscaler would keep a node for: what is in them is rebuilt from the log.
pub const LOCAL: [&str; 2] = [STATE, RUN];

/// The pod's further volumes; `member` of a group, or not.
#[must_use]
pub fn of_pod(engine: &str, member: bool) -> Vec<Volume> {
    let secret = SecretVolumeSource {
        secret_name: Some(labels::document_secret(engine)),
        ..SecretVolumeSource::default()
    };
    let document = Volume { name: DOCUMENT.to_owned(), secret: Some(secret), ..Volume::default() };
    let volumes = [document, empty(STATE, "1Gi"), empty(RUN, "1Mi")];
    volumes.into_iter().chain(member.then(token)).collect()
}

/// By this the operator knows who asks for a certificate.
fn token() -> Volume {
    let token = ServiceAccountTokenProjection {
        audience: Some(AUDIENCE.to_owned()),
        expiration_seconds: Some(TOKEN_SECONDS),
        path: place().1.to_owned(),
    };
    let source = VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() };
    let projected = ProjectedVolumeSource { sources: Some(vec![source]), ..ProjectedVolumeSource::default() };
    Volume { name: TOKEN.to_owned(), projected: Some(projected), ..Volume::default() }
}

/// The token's folder, and its name there.
fn place() -> (&'static str, &'static str) {
    path::TOKEN.rsplit_once('/').expect("the path of the token has a folder")
}

/// What the sidecar mounts. The Secret as a whole folder: with a subPath it would never be refreshed.
#[must_use]
pub fn of_sidecar(member: bool) -> Vec<VolumeMount> {
    let token = member.then(|| VolumeMount { read_only: Some(true), ..mount(TOKEN, place().0) });
    let document = VolumeMount { read_only: Some(true), ..mount(DOCUMENT, path::DOCUMENT) };
    [document, mount(STATE, path::STATE), mount(RUN, path::RUN)].into_iter().chain(token).collect()
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
