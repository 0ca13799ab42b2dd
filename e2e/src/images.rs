//! Container images without a registry: a root file system, assembled and brought to every node.

mod archive;
mod containerfile;
mod root;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use sha2::{Digest, Sha256};

use crate::cluster::{Bed, NODES, node_name};
use crate::node;
use containerfile::Containerfile;
use root::RootFiles;

/// The user that images of binaries run as.
pub const USER: &str = "65532:65532";

/// An image in memory: files, and what runs.
#[derive(Debug)]
pub struct Image {
    name: String,
    files: RootFiles,
    entrypoint: Vec<String>,
    command: Vec<String>,
    user: String,
    environment: Vec<String>,
}

impl Image {
    /// An image of one binary, at `/<its file name>` and the entry point, with the libraries that it loads.
    /// `name` is `name:tag`.
    pub fn of_binary(name: &str, binary: &Path) -> Result<Self> {
        let file = binary.file_name().context("an image's binary has a name")?.to_string_lossy().into_owned();
        let files = RootFiles::of_program(binary).with_context(|| format!("assemble image {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            files,
            entrypoint: vec![format!("/{file}")],
            command: Vec::new(),
            user: USER.to_owned(),
            environment: Vec::new(),
        })
    }

    /// The image that a Containerfile makes, of a binary that was built here.
    pub fn of_containerfile(name: &str, containerfile: &Path, binary: &Path) -> Result<Self> {
        let Containerfile { user, entrypoint } = Containerfile::read(containerfile)?;
        let image = Self::of_binary(name, binary)?;
        ensure!(image.entrypoint == entrypoint, "{} starts {entrypoint:?}", containerfile.display());
        Ok(Self { user, ..image })
    }

    /// Adds a file; a path without the leading slash.
    pub fn with_file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.add(path, 0o644, content.into());
        self
    }

    /// Arguments that a pod may replace.
    pub fn with_command(mut self, command: &[&str]) -> Self {
        self.command = command.iter().map(|part| (*part).to_owned()).collect();
        self
    }

    pub fn with_user(mut self, user: &str) -> Self {
        user.clone_into(&mut self.user);
        self
    }

    pub fn with_environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push(format!("{name}={value}"));
        self
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// What tells this image from another of its name.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        self.files.hash_into(&mut hash);
        hash.update(self.config("").to_string());
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn config(&self, layer: &str) -> serde_json::Value {
        serde_json::json!({
            "architecture": archive::architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": self.entrypoint,
                "Cmd": self.command,
                "User": self.user,
                "Env": self.environment,
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
        })
    }
}

/// Brings an image to all nodes, unless they have just this one.
pub fn load(bed: &Bed, image: &Image) -> Result<()> {
    let nodes: Vec<usize> = (1..=NODES).collect();
    load_on(bed, image, &nodes)
}

/// The same for some nodes.
pub(crate) fn load_on(bed: &Bed, image: &Image, nodes: &[usize]) -> Result<()> {
    let digest = image.digest();
    let seen = |node: usize| {
        bed.dir().join(node_name(node)).join("images").join(image.name.replace(['/', ':'], "_"))
    };
    let missing = |node: &usize| fs::read_to_string(seen(*node)).ok().as_deref() != Some(digest.as_str());
    let nodes: Vec<usize> = nodes.iter().copied().filter(missing).collect();
    if nodes.is_empty() {
        return Ok(());
    }

    let archive = tempfile::Builder::new().prefix("image-").suffix(".tar").tempfile_in(bed.dir())?;
    archive::write(archive.as_file(), &image.name, &image.files, |layer| image.config(layer))
        .with_context(|| format!("assemble image {}", image.name))?;
    std::thread::scope(|scope| {
        let imports: Vec<_> = nodes
            .iter()
            .map(|node| {
                scope.spawn(|| {
                    import(bed, *node, archive.path())?;
                    let seen = seen(*node);
                    fs::create_dir_all(seen.parent().unwrap_or(&seen))?;
                    fs::write(&seen, &digest).with_context(|| format!("write {}", seen.display()))
                })
            })
            .collect();
        imports.into_iter().try_for_each(|import| {
            import.join().map_err(|_| anyhow!("a thread that imports an image panicked"))?
        })
    })
    .with_context(|| format!("bring image {} to the nodes", image.name))
}

fn import(bed: &Bed, node: usize, archive: &Path) -> Result<()> {
    node::runtime_client(bed, node).args(["images", "import", &archive.display().to_string()]).run(bed)
}
