//! What Decree costs on the Kafka order: beside bare librdkafka, and at a rising rate in three agents.
//!
//! `cargo bench -p decree-e2e --bench order` brings up three brokers, builds the sidecar as images have it, and prints
//! three tables: propose to ordered beside the same produce with librdkafka alone, publish to applied in all three
//! agents in an open loop, and what a sidecar holds and burns meanwhile. `-- --seconds 3` shortens every measurement.

#[path = "order/agent.rs"]
mod agent;
#[path = "order/apply.rs"]
mod apply;
#[path = "order/http.rs"]
mod http;
#[path = "order/numbers.rs"]
mod numbers;
#[path = "order/propose.rs"]
mod propose;
#[path = "order/receiver.rs"]
mod receiver;
#[path = "order/usage.rs"]
mod usage;

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use decree_e2e::parts::progress::Progress;
use decree_e2e::{Bed, install};

/// The bed of benchmarks: brokers alone, so that no cluster burns what is measured.
const BED: &str = "bench";

/// Measures ordering and applying on Kafka.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long each measurement takes
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// What cargo passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let progress = Progress::new();
    // Before there are brokers that take their share of the machine.
    let sidecar = install::build_for_users(&Bed::named(BED)?, "decree-sidecar", &progress)?;
    let bed = Bed::brokers_up(BED, &progress)?;
    let measured = measure(&bed, &sidecar, Duration::from_secs(arguments.seconds));
    measured.and(bed.down())
}

fn measure(bed: &Bed, sidecar: &std::path::Path, seconds: Duration) -> Result<()> {
    // Before the runtime's threads are made: they inherit where this one is.
    bed.enter()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("runtime")?;
    let brokers = bed.kafka_bootstrap();
    runtime.block_on(async {
        propose::run(&brokers, sidecar, seconds).await?;
        apply::run(&brokers, sidecar, seconds).await
    })
}
