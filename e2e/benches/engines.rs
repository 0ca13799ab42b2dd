//! What the operator costs: at rest with many engines, and to one engine while another's Kafka is away.
//!
//! `cargo bench -p decree-e2e --bench engines` brings up a bed of its own, installs Decree and prints two tables. `--
//! --engines 100` takes fewer engines, `--bed NAME` another bed, which is left up.

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
        install::build(&bed, &progress)?;
    }
    let bed = Bed::up(bed.name(), &progress)?;
    if !arguments.installed {
        install::load_images(&bed, &progress)?;
        install::helm(&bed, &progress)?;
    }
    let measured = isolation::run(&bed)
        .and_then(|()| rest::run(&bed, arguments.engines, Duration::from_secs(arguments.seconds)));
    match arguments.bed {
        Some(_) => measured,
        None => measured.and(bed.down()),
    }
}
