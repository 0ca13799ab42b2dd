//! The chart's custom resource definitions are those of the Rust types. `UPDATE_GOLDEN=1` writes them.
#![allow(clippy::unwrap_used)] // functions of tests, which clippy doesn't take for tests

use std::path::Path;

#[test]
fn the_charts_definitions_are_the_generated_ones() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/decree-crds/files/crds.yaml");
    let generated = decree_operator::crds::yaml().unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap();
    assert_eq!(
        committed, generated,
        "write it with: UPDATE_GOLDEN=1 cargo test -p decree-operator --test charts"
    );
}
