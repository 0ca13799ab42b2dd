//! Which module's file names which other's, outside of tests.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::Visit;

use super::tree::{Modules, parse};

/// From each module to those that it names. The root, which declares and wires all of them, is left out.
pub(crate) fn edges(modules: &Modules) -> BTreeMap<String, BTreeSet<String>> {
    let mut edges = BTreeMap::new();
    for (name, file) in modules.iter().filter(|(name, _)| !name.is_empty()) {
        let mut paths = Paths { at: name.split("::").map(str::to_owned).collect(), found: Vec::new() };
        paths.visit_file(&parse(file));
        let named = paths.found.iter().filter_map(|path| deepest(path, modules));
        edges.insert(name.clone(), named.filter(|other| other != name).collect());
    }
    edges
}

/// The module that a path leads into: the longest part of it that names one.
fn deepest(path: &[String], modules: &Modules) -> Option<String> {
    (1..=path.len()).rev().map(|n| path[..n].join("::")).find(|name| modules.contains_key(name))
}

struct Paths {
    at: Vec<String>,
    found: Vec<Vec<String>>,
}

impl Paths {
    fn add(&mut self, segments: &[String]) {
        let mut base = match segments.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("self") => self.at.clone(),
            Some("super") => self.at[..self.at.len() - 1].to_vec(),
            Some(_) => self.at.clone(), // perhaps a child; an outside crate leads to no module
            None => return,
        };
        for (i, segment) in segments.iter().enumerate() {
            match segment.as_str() {
                "crate" | "self" => {}
                "super" if i == 0 => {}
                "super" => drop(base.pop()),
                other => base.push(other.to_owned()),
            }
        }
        if base != self.at {
            self.found.push(base);
        }
    }

    fn add_use(&mut self, prefix: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.add_use(&with(&path.ident), &path.tree),
            syn::UseTree::Group(group) => group.items.iter().for_each(|t| self.add_use(prefix, t)),
            syn::UseTree::Name(name) => self.add(&with(&name.ident)),
            syn::UseTree::Rename(rename) => self.add(&with(&rename.ident)),
            syn::UseTree::Glob(_) => self.add(prefix),
        }
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|a| {
        a.path().is_ident("test")
            || (a.path().is_ident("cfg") && a.parse_args::<syn::Ident>().is_ok_and(|ident| ident == "test"))
    })
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            syn::visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            syn::visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add_use(&[], &item.tree);
    }

    /// `pub(in a::b)` says who may use this, not what this uses.
    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        if segments.len() > 1 && path.leading_colon.is_none() {
            self.add(&segments);
        }
        syn::visit::visit_path(self, path);
    }
}
