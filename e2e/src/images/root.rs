//! The root file system of an image: a binary, what it loads, and the few files that programs expect.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Files by path, without a leading slash.
#[derive(Debug, Default)]
pub(super) struct RootFiles {
    files: BTreeMap<String, (u32, Vec<u8>)>,
}

impl RootFiles {
    /// What is in every image: users, name resolution, certificates if this machine has them.
    pub(super) fn base() -> Self {
        let mut root = Self::default();
        let users = "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n";
        root.add("etc/passwd", 0o644, users.into());
        root.add("etc/group", 0o644, "root:x:0:\nnonroot:x:65532:\n".into());
        root.add("etc/nsswitch.conf", 0o644, "hosts: files dns\n".into());
        if let Ok(certificates) = fs::read(CERTIFICATES) {
            root.add(CERTIFICATES.trim_start_matches('/'), 0o644, certificates);
        }
        root
    }

    pub(super) fn add(&mut self, path: &str, mode: u32, content: Vec<u8>) {
        self.files.insert(path.trim_start_matches('/').to_owned(), (mode, content));
    }

    /// Adds a program without its debug symbols, with the libraries that it loads and their loader.
    pub(super) fn add_program(&mut self, binary: &Path, path: &str) -> Result<()> {
        for library in libraries(binary)? {
            let content = fs::read(&library).with_context(|| format!("read {library}"))?;
            self.add(&library, 0o755, content);
        }
        self.add(path, 0o755, without_debug_symbols(binary)?);
        Ok(())
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

/// What the loader would load, as `ldd` lists it; nothing for a static binary.
fn libraries(binary: &Path) -> Result<Vec<String>> {
    let output = Command::new("ldd").arg(binary).output().context("start ldd")?;
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        ensure!(
            errors.contains("not a dynamic executable"),
            "list the libraries of {}: {}",
            binary.display(),
            errors.trim()
        );
        return Ok(Vec::new());
    }
    ensure!(!text.contains("not found"), "libraries of {} are missing: {text}", binary.display());
    // `libc.so.6 => /lib/libc.so.6 (0x…)`, and the loader as `/lib64/ld-linux.so.2 (0x…)`
    let paths = text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(str::to_owned).collect())
}

fn without_debug_symbols(binary: &Path) -> Result<Vec<u8>> {
    let stripped = tempfile::NamedTempFile::new()?;
    let output =
        Command::new("strip").arg("--strip-debug").arg("-o").arg(stripped.path()).arg(binary).output();
    // What cannot be stripped, or is there no `strip`, goes as it is.
    let source = if output.is_ok_and(|output| output.status.success()) { stripped.path() } else { binary };
    fs::read(source).with_context(|| format!("read {}", binary.display()))
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
        let mut root = RootFiles::default();
        root.add_program(Path::new("/bin/sh"), "sh").unwrap();
        let names: Vec<_> = root.files().map(|(path, ..)| path.to_owned()).collect();
        assert!(names.iter().any(|path| path == "sh"));
        assert!(names.iter().any(|path| path.contains("libc.so")), "{names:?}");
        assert!(names.iter().any(|path| path.contains("ld-linux")), "{names:?}");
    }
}
