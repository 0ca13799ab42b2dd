//! What the operator costs: to one engine while another's Kafka is away, to a pod that is created, and at rest with many
//! engines.
//!
//! `cargo bench -p decree-e2e --bench engines` brings up a bed of its own, installs the operator as users get it and prints
//! three tables. `-- --engines 100` takes fewer engines, `--bed NAME` another bed, which is left up.

#[path = "engines/admission.rs"]
mod admission;
#[path = "engines/isolation.rs"]
mod isolation;
#[path = "engines/rest.rs"]
mod rest;

use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use decree_e2e::parts::progress::Progress;
use decree_e2e::{Bed, install};

/// The bed of a run without `--bed`.
const BED: &str = "engines";

/// Measures the operator.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many engines rest
    #[arg(long, default_value_t = 1000)]
    engines: usize,
    /// For how long their operator is watched, in seconds
    #[arg(long, default_value_t = 180)]
    seconds: u64,
    /// Use this bed, start it if it is down, and leave it up
    #[arg(long)]
    bed: Option<String>,
    /// Decree is on the bed already
    #[arg(long)]
    installed: bool,
    /// What cargo passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let progress = Progress::new();
    let bed = Bed::named(arguments.bed.as_deref().unwrap_or(BED))?;
    if !arguments.installed {
        install::prepare(&bed, &progress)?;
        // Before there is a cluster that takes its share of the machine.
        install::build_for_users(&bed, "decree-operator", &progress)?;
    }
    let bed = Bed::up(bed.name(), &progress)?;
    if !arguments.installed {
        install::operator_for_users(&bed, &progress)?;
    }
    let watched = Duration::from_secs(arguments.seconds);
    let measured = isolation::run(&bed)
        .and_then(|()| admission::run(&bed))
        .and_then(|()| rest::run(&bed, arguments.engines, watched, &progress));
    match arguments.bed {
        Some(_) => measured,
        None => measured.and(bed.down()),
    }
}
