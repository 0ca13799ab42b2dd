//! The layout is a promise: crates import only downwards, no import cycle, no orphan file, a purpose atop every file.

#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on says so

mod architecture {
    pub(crate) mod imports;
    pub(crate) mod tree;
}

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use architecture::{imports, tree};

/// Each crate, its folder, and the crates of the workspace that it may use.
const CRATES: [(&str, &str, &[&str]); 7] = [
    ("decree-wire", "crds/wire", &[]),
    ("decree-crds", "crds", &["decree-wire"]),
    ("decree-kafka", "sidecar/kafka", &["decree-wire"]),
    ("base2histogram", "sidecar/histogram", &[]),
    ("decree-sidecar", "sidecar", &["decree-wire", "decree-kafka"]),
    ("decree-operator", "operator", &["decree-wire", "decree-crds", "decree-kafka"]),
    ("decree-e2e", "e2e", &["decree-wire", "decree-crds", "decree-kafka"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

#[test]
fn crates_import_only_downwards() {
    for (name, folder, allowed) in CRATES {
        let manifest = std::fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        let used: BTreeSet<_> = manifest
            .lines()
            .filter_map(|line| line.split(['.', ' ', '=']).next())
            .filter(|key| key.starts_with("decree-"))
            .collect();
        let stray: Vec<_> = used.iter().filter(|key| !allowed.contains(*key)).collect();
        assert!(stray.is_empty(), "{name} must not depend on {stray:?}");
    }
}

#[test]
fn every_file_is_compiled_and_opens_with_its_purpose() {
    for (name, folder, _) in CRATES {
        let crate_root = root().join(folder);
        let reached = tree::reached(&crate_root);
        for file in tree::files(&crate_root) {
            assert!(reached.contains(&file), "{}: no `mod` of {name} names it", file.display());
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(text.starts_with("//! "), "{}: it must open with a `//!` sentence", file.display());
        }
    }
}

#[test]
fn modules_import_without_cycles() {
    for (name, folder, _) in CRATES {
        let crate_root = root().join(folder);
        for entry in tree::entry_points(&crate_root) {
            let modules = tree::modules(&entry);
            let edges = imports::edges(&modules);
            if let Some(cycle) = cycle(&edges) {
                panic!("{name}: modules import each other in a circle: {}", cycle.join(" -> "));
            }
        }
    }
}

#[test]
fn unsafe_code_is_in_one_module() {
    let allowing: Vec<_> = CRATES
        .iter()
        .flat_map(|(_, folder, _)| tree::files(&root().join(folder)))
        .filter(|file| !file.ends_with("e2e/tests/architecture.rs"))
        .filter(|file| std::fs::read_to_string(file).unwrap().contains("allow(unsafe_code)"))
        .collect();
    assert!(allowing.len() <= 1, "one module may hold what only a C library can say, not {allowing:?}");
    assert!(allowing.iter().all(|file| file.starts_with(root().join("sidecar/kafka"))), "{allowing:?}");
}

#[test]
fn one_tls_provider() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    assert!(
        !lock.contains("name = \"aws-lc-sys\""),
        "some dependency pulls aws-lc in; turn its defaults off"
    );
}

fn cycle(edges: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn visit(
        at: &str,
        edges: &BTreeMap<String, BTreeSet<String>>,
        path: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Option<Vec<String>> {
        if let Some(start) = path.iter().position(|p| p == at) {
            let mut cycle = path[start..].to_vec();
            cycle.push(at.to_owned());
            return Some(cycle);
        }
        if !done.insert(at.to_owned()) {
            return None;
        }
        path.push(at.to_owned());
        let found = edges.get(at).into_iter().flatten().find_map(|next| visit(next, edges, path, done));
        path.pop();
        found
    }
    let mut done = BTreeSet::new();
    edges.keys().find_map(|start| visit(start, edges, &mut Vec::new(), &mut done))
}

#[test]
fn the_cycle_finder_finds() {
    let edges = |pairs: &[(&str, &str)]| {
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in pairs {
            edges.entry((*from).into()).or_default().insert((*to).into());
        }
        edges
    };
    assert_eq!(cycle(&edges(&[("a", "b"), ("b", "c"), ("a", "c")])), None);
    let found = cycle(&edges(&[("a", "b"), ("b", "c"), ("c", "b")])).unwrap();
    assert_eq!(found, ["b", "c", "b"]);
}
