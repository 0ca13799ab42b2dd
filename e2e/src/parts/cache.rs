//! The cache of built parts: keyed by what goes into them, whole or absent, built by one process at a time.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use super::progress::Progress;
use crate::log_file::tail;

/// What a part is built from. A change of any of it is another part.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    pub(super) files: Vec<(&'static str, &'static str)>,
    pub(super) flags: Vec<String>,
}

impl Recipe {
    pub(super) fn directory(&self) -> String {
        let mut hash = Sha256::new();
        let inputs = self.files.iter().flat_map(|(name, content)| [*name, *content]);
        for input in inputs.chain(self.flags.iter().map(String::as_str)) {
            hash.update((input.len() as u64).to_le_bytes());
            hash.update(input);
        }
        let key: String = hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{}-{key}", self.name, self.version)
    }
}

/// One build in progress: its sources, where its result belongs, and its log.
#[derive(Debug)]
pub(super) struct Order<'a> {
    pub(super) source: &'a Path,
    pub(super) output: &'a Path,
    log: &'a Path,
}

/// Builds a part unless it is there.
pub(super) fn ensure(
    cache: &Path,
    recipe: &Recipe,
    progress: &Progress,
    build: impl FnOnce(&Order<'_>) -> Result<()>,
) -> Result<()> {
    let parts = cache.join("parts");
    let target = parts.join(recipe.directory());
    if target.exists() {
        return Ok(());
    }
    fs::create_dir_all(&parts).with_context(|| format!("create {}", parts.display()))?;
    let _lock = lock(&parts.join(format!("{}.lock", recipe.name)), recipe.name, progress)?;
    if target.exists() {
        return Ok(());
    }

    // Renamed into place when complete: an interrupted build is never taken for a part.
    let prefix = format!("building-{}-", recipe.name);
    remove_interrupted(&parts, &prefix)?;
    let work = tempfile::Builder::new().prefix(&prefix).tempdir_in(&parts)?;
    let (source, output) = (work.path().join("source"), work.path().join("output"));
    fs::create_dir(&source)?;
    fs::create_dir(&output)?;
    for (name, content) in &recipe.files {
        fs::write(source.join(name), content)?;
    }
    let logs = cache.join("logs");
    fs::create_dir_all(&logs)?;
    let log = logs.join(format!("{}.log", recipe.directory()));
    File::create(&log).with_context(|| format!("create {}", log.display()))?;

    let order = Order { source: &source, output: &output, log: &log };
    progress.step(&format!("building {} {}", recipe.name, recipe.version), Some(&log), || build(&order))?;
    fs::rename(&output, &target).with_context(|| format!("move {} into the cache", recipe.name))
}

/// What builds left that were killed; under the part's lock there is no other.
fn remove_interrupted(parts: &Path, prefix: &str) -> Result<()> {
    for entry in fs::read_dir(parts)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            fs::remove_dir_all(entry.path()).with_context(|| format!("remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

fn lock(path: &Path, part: &str, progress: &Progress) -> Result<File> {
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        progress.step(&format!("waiting for another process that builds {part}"), None, || {
            flock(&file, FlockOperation::LockExclusive).with_context(|| format!("lock {}", path.display()))
        })?;
    }
    Ok(file)
}

impl Order<'_> {
    /// Runs a build command with its output in the log; fails with the log's end.
    pub(super) fn run(&self, command: &mut Command) -> Result<()> {
        run_logged(command, self.log)
    }
}

/// Runs a command with its output appended to a file; fails with that file's end.
pub(super) fn run_logged(command: &mut Command, log: &Path) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = File::options().create(true).append(true).open(log)?;
    let status = command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()
        .with_context(|| format!("start {program}"))?;
    if !status.success() {
        bail!("{program} ended with {status}; the end of {}:\n{}", log.display(), tail(log, 40));
    }
    Ok(())
}
