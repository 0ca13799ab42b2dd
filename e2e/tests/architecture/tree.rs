//! Which files a crate has, and which of them its `mod` declarations reach.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A module's path from its crate's root (`a::b`; empty for the root) and its file.
pub(crate) type Modules = BTreeMap<String, PathBuf>;

/// Every Rust file of a crate, without those of crates inside its folder.
pub(crate) fn files(crate_root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![crate_root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the checkout can be read") {
            let path = entry.expect("a folder of the checkout can be read").path();
            if path.is_dir() {
                if !path.join("Cargo.toml").exists() && !path.ends_with("target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The files that cargo starts from: libraries, binaries, tests, benches, build script.
pub(crate) fn entry_points(crate_root: &Path) -> Vec<PathBuf> {
    let single = ["src/lib.rs", "src/main.rs", "build.rs"].map(|f| crate_root.join(f));
    let folders = ["src/bin", "tests", "benches", "examples"].map(|f| crate_root.join(f));
    let children = folders.iter().filter_map(|f| std::fs::read_dir(f).ok()).flatten().flatten();
    // A test may be one file, or a folder with a main.rs.
    let found = children.map(|e| if e.path().is_dir() { e.path().join("main.rs") } else { e.path() });
    let found = found.filter(|p| p.extension().is_some_and(|e| e == "rs"));
    single.into_iter().chain(found).filter(|p| p.is_file()).collect()
}

/// Every file that some entry point's `mod` declarations lead to.
pub(crate) fn reached(crate_root: &Path) -> BTreeSet<PathBuf> {
    entry_points(crate_root).iter().flat_map(|entry| modules(entry).into_values()).collect()
}

/// All modules in files below an entry point.
pub(crate) fn modules(entry: &Path) -> Modules {
    let mut modules = Modules::new();
    // A root's children lie beside it, another file's in the folder of its name.
    collect(String::new(), entry, entry.parent().expect("an entry point lies in a folder"), &mut modules);
    modules
}

fn collect(name: String, file: &Path, children: &Path, modules: &mut Modules) {
    let parsed = parse(file);
    modules.insert(name.clone(), file.to_owned());
    declared(&parsed.items, &name, children, modules);
}

fn declared(items: &[syn::Item], name: &str, folder: &Path, modules: &mut Modules) {
    for item in items {
        let syn::Item::Mod(module) = item else { continue };
        let ident = module.ident.to_string();
        let path = if name.is_empty() { ident.clone() } else { format!("{name}::{ident}") };
        let inner = folder.join(&ident);
        match &module.content {
            Some((_, items)) => declared(items, &path, &inner, modules),
            None => {
                let file = elsewhere(module).unwrap_or_else(|| format!("{ident}.rs"));
                collect(path, &folder.join(file), &inner, modules);
            }
        }
    }
}

/// The file that a `#[path]` names: tests may share one.
fn elsewhere(module: &syn::ItemMod) -> Option<String> {
    let attribute = module.attrs.iter().find(|attribute| attribute.path().is_ident("path"))?;
    let syn::Meta::NameValue(pair) = &attribute.meta else { return None };
    let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(file), .. }) = &pair.value else { return None };
    Some(file.value())
}

/// A file's syntax tree.
#[expect(clippy::panic, reason = "it names the file that can't be read")]
pub(crate) fn parse(file: &Path) -> syn::File {
    let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}
