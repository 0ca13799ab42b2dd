//! The root file system of an image, as `root.sh` makes it for the Containerfiles too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/images/root.sh");

/// Files by path, without a leading slash.
#[derive(Debug, Default)]
pub(super) struct RootFiles {
    files: BTreeMap<String, (u32, Vec<u8>)>,
}

impl RootFiles {
    /// One program and what it needs.
    pub(super) fn of_program(binary: &Path) -> Result<Self> {
        let root = tempfile::tempdir().context("make a directory for a root file system")?;
        let output = Command::new("sh").arg(SCRIPT).arg(binary).arg(root.path()).output();
        let output = output.with_context(|| format!("start {SCRIPT}"))?;
        ensure!(output.status.success(), "{SCRIPT}: {}", String::from_utf8_lossy(&output.stderr).trim());
        let mut files = Self::default();
        files.add_directory(root.path(), root.path())?;
        Ok(files)
    }

    fn add_directory(&mut self, root: &Path, directory: &Path) -> Result<()> {
        let entries = fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))?;
        for entry in entries {
            let path = entry?.path();
            let metadata = fs::metadata(&path).with_context(|| format!("look at {}", path.display()))?;
            if metadata.is_dir() {
                self.add_directory(root, &path)?;
            } else {
                let content = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
                let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
                self.files.insert(name, (metadata.permissions().mode() & 0o7777, content));
            }
        }
        Ok(())
    }

    pub(super) fn add(&mut self, path: &str, mode: u32, content: Vec<u8>) {
        self.files.insert(path.trim_start_matches('/').to_owned(), (mode, content));
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (&str, u32, &[u8])> {
        self.files.iter().map(|(path, (mode, content))| (path.as_str(), *mode, content.as_slice()))
    }

    /// Directories of all files, parents first, and the one that everybody may write to.
    pub(super) fn directories(&self) -> Vec<(String, u32)> {
        let mut directories = BTreeSet::new();
        for path in self.files.keys() {
            let parents =
                Path::new(path).ancestors().skip(1).map(|parent| parent.to_string_lossy().into_owned());
            directories.extend(parents.filter(|parent| !parent.is_empty()));
        }
        let mut all: Vec<_> = directories.into_iter().map(|path| (path, 0o755)).collect();
        all.push(("tmp".to_owned(), 0o1777));
        all
    }

    pub(super) fn hash_into(&self, hash: &mut Sha256) {
        for (path, (mode, content)) in &self.files {
            hash.update(format!("{path} {mode} {}\n", content.len()));
            hash.update(content);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_before_what_is_in_them() {
        let mut root = RootFiles::default();
        root.add("/usr/lib/a.so", 0o644, Vec::new());
        let names: Vec<_> = root.directories().into_iter().map(|(path, _)| path).collect();
        assert_eq!(names, ["usr", "usr/lib", "tmp"]);
    }

    #[test]
    fn a_program_comes_with_its_libraries_and_their_loader() {
        let root = RootFiles::of_program(Path::new("/bin/sh")).unwrap();
        let mode = |wanted: &str| {
            let found = root.files().find(|(path, ..)| *path == wanted || path.contains(wanted));
            found.map(|(_, mode, _)| mode)
        };
        assert_eq!(mode("sh"), Some(0o755));
        assert_eq!(mode("libc.so"), Some(0o755));
        assert_eq!(mode("ld-linux"), Some(0o755));
        assert_eq!(mode("etc/passwd"), Some(0o644));
    }

    #[test]
    fn what_is_no_program_is_refused() {
        RootFiles::of_program(Path::new("/nowhere")).unwrap_err();
    }
}
