//! The cache of built parts: keyed by what goes into them, whole or absent, built by one process at a time.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use super::progress::Progress;
use crate::finish::finish_silently;
use crate::log_file::tail;

/// The longest build takes a tenth of it; a slow network and a busy machine take their share.
const BUILD_LIMIT: Duration = Duration::from_secs(90 * 60);

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
    run_within(command, log, BUILD_LIMIT)
}

fn run_within(command: &mut Command, log: &Path, limit: Duration) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = File::options().create(true).append(true).open(log)?;
    let status = finish_silently(&program, command.stdout(output.try_clone()?).stderr(output), limit)
        .with_context(|| format!("build with {program}; the end of {}:\n{}", log.display(), tail(log, 40)))?;
    if !status.success() {
        bail!("{program} ended with {status}; the end of {}:\n{}", log.display(), tail(log, 40));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(content: &'static str, flag: &str) -> Recipe {
        let files = vec![("input", content)];
        Recipe { name: "thing", version: "1", files, flags: vec![flag.to_owned()] }
    }

    fn built(order: &Order<'_>) -> Result<()> {
        order.run(Command::new("cp").arg(order.source.join("input")).arg(order.output.join("result")))
    }

    #[test]
    fn a_part_is_built_once_for_the_same_input() {
        let (cache, progress) = (tempfile::tempdir().unwrap(), Progress::new());
        let recipe = recipe("one", "");
        ensure(cache.path(), &recipe, &progress, built).unwrap();
        ensure(cache.path(), &recipe, &progress, |_| panic!("built twice")).unwrap();
        let result = cache.path().join("parts").join(recipe.directory()).join("result");
        assert_eq!(fs::read_to_string(result).unwrap(), "one");
    }

    #[test]
    fn other_input_or_flags_are_another_part() {
        let one = recipe("one", "-a").directory();
        assert_ne!(one, recipe("two", "-a").directory());
        assert_ne!(one, recipe("one", "-b").directory());
    }

    #[test]
    fn a_failed_build_is_no_part_and_shows_the_end_of_its_log() {
        let (cache, progress) = (tempfile::tempdir().unwrap(), Progress::new());
        let recipe = recipe("one", "");
        let fail = |order: &Order<'_>| order.run(Command::new("sh").args(["-c", "echo why >&2; exit 3"]));
        let error = ensure(cache.path(), &recipe, &progress, fail).unwrap_err();
        assert!(error.to_string().contains("why"), "{error}");
        ensure(cache.path(), &recipe, &progress, built).unwrap();
    }

    #[test]
    fn a_build_that_hangs_is_ended_and_shows_how_far_it_came() {
        let directory = tempfile::tempdir().unwrap();
        let mut hangs = Command::new("sh");
        hangs.args(["-c", "echo so far; exec sleep 600"]);
        let error =
            run_within(&mut hangs, &directory.path().join("log"), Duration::from_secs(5)).unwrap_err();
        let said = format!("{error:#}");
        assert!(said.contains("so far") && said.contains("did not end within 5 s"), "{said}");
    }

    #[test]
    fn what_a_killed_build_left_is_removed() {
        let (cache, progress) = (tempfile::tempdir().unwrap(), Progress::new());
        let left = cache.path().join("parts/building-thing-left/output");
        fs::create_dir_all(&left).unwrap();
        ensure(cache.path(), &recipe("one", ""), &progress, built).unwrap();
        assert!(!left.exists());
    }
}
