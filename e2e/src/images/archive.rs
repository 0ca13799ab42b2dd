//! An image as one tar file of the kind that `docker save` writes and containerd reads.

use std::fs::File;
use std::io::Write;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::root::RootFiles;

/// The machine's architecture as images name it.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Writes manifest, configuration and the one layer; the configuration names the layer's digest.
pub(super) fn write(
    file: &File,
    name: &str,
    files: &RootFiles,
    config: impl FnOnce(&str) -> Value,
) -> Result<()> {
    let layer = layer(files)?;
    let layer_digest = hex(&Sha256::digest(&layer));
    let config = config(&layer_digest).to_string();
    let config_name = format!("{}.json", hex(&Sha256::digest(&config)));
    let layer_name = format!("{layer_digest}/layer.tar");
    let manifest = json!([{"Config": config_name, "RepoTags": [name], "Layers": [layer_name]}]).to_string();

    let mut tar = tar::Builder::new(file);
    append(&mut tar, "manifest.json", 0o644, manifest.as_bytes())?;
    append(&mut tar, &config_name, 0o644, config.as_bytes())?;
    append(&mut tar, &layer_name, 0o644, &layer)?;
    tar.finish().context("write the image's archive")
}

fn layer(files: &RootFiles) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, mode) in files.directories() {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(mode);
        header.set_size(0);
        tar.append_data(&mut header, format!("{path}/"), std::io::empty())?;
    }
    for (path, mode, content) in files.files() {
        append(&mut tar, path, mode, content)?;
    }
    tar.into_inner().context("write the image's layer")
}

fn append<W: Write>(tar: &mut tar::Builder<W>, path: &str, mode: u32, content: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, path, content).with_context(|| format!("add {path}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
