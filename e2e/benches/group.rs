//! What a group of three sidecars costs, beside three members of etcd: propose to ordered, turn by turn, with real fdatasync.
//!
//! `cargo bench -p decree-e2e --bench group` builds etcd, if the cache has none, and the sidecar as images have it, and
//! prints one table: latency and throughput at 1, 64 and 256 clients, and what both hold and burn meanwhile.
//! `-- --seconds 3` shortens every measurement; `-- --sidecar PATH` measures another program.

#[path = "group/authority.rs"]
mod authority;
#[path = "group/etcd.rs"]
mod etcd;
#[path = "order/http.rs"]
mod http;
#[path = "order/numbers.rs"]
mod numbers;
#[path = "order/receiver.rs"]
mod receiver;
#[path = "group/sidecars.rs"]
mod sidecars;
#[path = "order/usage.rs"]
mod usage;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use decree_e2e::parts::Parts;
use decree_e2e::parts::progress::Progress;
use decree_e2e::{Bed, install};

use numbers::{median, ms, percentile};
use usage::Usage;

/// No bed is brought up: the name is where parts and programs are looked for.
const BED: &str = "bench";
const MEMBERS: usize = 3;
const CLIENTS: [usize; 3] = [1, 64, 256];
/// Both take turns so often: the machine is not the same from one second to the next.
const ROUNDS: u32 = 3;
const PAYLOAD: usize = 200;

/// Measures a group of sidecars beside etcd.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long each measurement takes
    #[arg(long, default_value_t = 9)]
    seconds: u64,
    /// A sidecar that is built already
    #[arg(long)]
    sidecar: Option<PathBuf>,
    /// What cargo passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let progress = Progress::new();
    let bed = Bed::named(BED)?;
    bed.parts().ensure_etcd(&progress)?;
    let sidecar =
        arguments.sidecar.map_or_else(|| install::build_for_users(&bed, "decree-sidecar", &progress), Ok)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("runtime")?;
    runtime.block_on(run(bed.parts(), &sidecar, Duration::from_secs(arguments.seconds)))
}

/// What one turn of one side gave.
struct Turn {
    latencies: Vec<Duration>,
    seconds: f64,
    /// The largest process, and the cores that all of them burnt.
    usage: (f64, f64),
}

#[derive(Debug, Default)]
struct Side {
    p50: Vec<f64>,
    p99: Vec<f64>,
    rate: Vec<f64>,
    mb: Vec<f64>,
    cores: Vec<f64>,
}

impl Side {
    fn add(&mut self, mut turn: Turn) {
        self.p50.push(percentile(&mut turn.latencies, 0.5).as_secs_f64());
        self.p99.push(percentile(&mut turn.latencies, 0.99).as_secs_f64());
        self.rate.push(turn.latencies.len() as f64 / turn.seconds);
        self.mb.push(turn.usage.0);
        self.cores.push(turn.usage.1);
    }

    fn medians(self) -> [f64; 5] {
        [self.p50, self.p99, self.rate, self.mb, self.cores].map(median)
    }
}

async fn run(parts: &Parts, sidecar: &std::path::Path, seconds: Duration) -> Result<()> {
    let etcd = etcd::Cluster::start(&parts.etcd.join("etcd")).await?;
    let group = sidecars::Group::start(sidecar).await?;
    let turn = seconds / ROUNDS;
    println!(
        "\n{MEMBERS} members each, {PAYLOAD} bytes, fdatasync before an answer; medians of {ROUNDS} turns each"
    );
    println!(
        "etcd: put over gRPC; group: propose over HTTP, answered when it is ordered; clients spread over the members"
    );
    println!(
        "clients |  p50 etcd    group |  p99 etcd    group | per second etcd   group  ratio | MB etcd  group | cores etcd  group"
    );
    for clients in CLIENTS {
        let (mut theirs, mut ours) = (Side::default(), Side::default());
        for _ in 0..ROUNDS {
            theirs.add(etcd.turn(clients, turn).await?);
            ours.add(group.turn(clients, turn).await?);
        }
        let ([e50, e99, e_rate, e_mb, e_cores], [g50, g99, g_rate, g_mb, g_cores]) =
            (theirs.medians(), ours.medians());
        let t = |seconds| ms(Duration::from_secs_f64(seconds));
        println!(
            "{clients:>7} | {:>7}ms {:>6}ms | {:>7}ms {:>6}ms | {e_rate:>15.0} {g_rate:>7.0} {:>6.2} | {e_mb:>7.1} {g_mb:>6.1} | {e_cores:>10.2} {g_cores:>6.2}",
            t(e50),
            t(g50),
            t(e99),
            t(g99),
            g_rate / e_rate,
        );
    }
    println!(
        "goal: at 1 client half of etcd's p50; at 64 and 256 four times its throughput at a quarter of its p50; less memory"
    );
    Ok(())
}

/// Runs one client a future, all at once, and watches the members meanwhile.
async fn side_by_side<F>(pids: &[u32], turn: Duration, clients: Vec<F>) -> Result<Turn>
where
    F: Future<Output = Result<Vec<Duration>>> + Send + 'static,
{
    let watched = pids.iter().map(|pid| Usage::of(*pid)).collect::<Result<Vec<_>>>()?;
    let running: Vec<_> = clients.into_iter().map(tokio::spawn).collect();
    let mut latencies = Vec::new();
    for each in running {
        latencies.extend(each.await.context("a client panicked")??);
    }
    let read = watched.iter().map(Usage::read).collect::<Result<Vec<_>>>()?;
    let usage = read.into_iter().fold((0.0, 0.0), |sum, each| (f64::max(sum.0, each.0), sum.1 + each.1));
    Ok(Turn { latencies, seconds: turn.as_secs_f64(), usage })
}

/// Asks again and again as long as the turn lasts.
async fn again<F>(turn: Duration, mut ask: impl FnMut() -> F) -> Result<Vec<Duration>>
where
    F: Future<Output = Result<()>>,
{
    let (mut latencies, begun) = (Vec::new(), Instant::now());
    while begun.elapsed() < turn {
        let sent = Instant::now();
        ask().await?;
        latencies.push(sent.elapsed());
    }
    Ok(latencies)
}

fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
