//! Publish to applied in all three agents, in an open loop at a rising rate, and what a sidecar costs meanwhile.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::agent::{Agent, Engine};
use crate::http::Caller;
use crate::numbers::{ms, percentile};
use crate::receiver::{self, Arrivals};
use crate::usage::Usage;

const AGENTS: usize = 3;
const RATES: [usize; 9] = [500, 1000, 1500, 2000, 3000, 4000, 6000, 8000, 12_000];
/// Connections to each agent; more commands than these wait in the generator, and that counts.
const CONNECTIONS: usize = 48;
const PAYLOAD: usize = 200;
/// What was published has to be applied so long after the last one, or the agents have fallen behind.
const DRAIN: Duration = Duration::from_secs(5);

/// When command n was due, and when it was ordered.
type Published = Arc<Mutex<Vec<(Instant, Option<Instant>)>>>;

pub(crate) async fn run(brokers: &str, sidecar: &Path, seconds: Duration) -> Result<()> {
    let engine = Engine::create(brokers, "apply").await?;
    let (mut agents, mut arrivals) = (Vec::new(), Vec::new());
    for n in 0..AGENTS {
        let (application, arrived) = receiver::start().await?;
        agents.push(Agent::start(&engine, sidecar, &format!("bench-{n}"), application).await?);
        arrivals.push(arrived);
    }
    println!(
        "\n{AGENTS} agents, {PAYLOAD} bytes, open loop; latency from the moment a command was due until all have applied it"
    );
    println!(
        "offered/s  ordered/s  applied/s |  p50 due→applied  ordered→applied |  p99 due→applied | sidecar MB   core"
    );
    tokio::time::sleep(Duration::from_secs(3)).await;
    let idle = watch(&agents)?;
    tokio::time::sleep(seconds).await;
    let (mb, core) = worst(&idle)?;
    println!(
        "{:>9} {:>10} {:>10} | {:>16} {:>16} | {:>16} | {mb:>10.1} {core:>6.3}",
        0, "-", "-", "-", "-", "-"
    );
    let mut first = 0;
    for rate in RATES {
        let row = at(&agents, &arrivals, first, rate, seconds).await?;
        first += row.offered;
        println!(
            "{rate:>9} {:>10.0} {:>10.0} | {:>14}ms {:>14}ms | {:>14}ms | {:>10.1} {:>6.3}{}",
            row.ordered,
            row.applied,
            ms(row.p50),
            ms(row.p50_ordered),
            ms(row.p99),
            row.usage.0,
            row.usage.1,
            if row.behind { "  behind" } else { "" },
        );
        if row.behind {
            break;
        }
    }
    println!(
        "goal: 20 MB idle, 40 MB at 1,000 a second, p50 below 10 ms there. Dapr 1.18 pub/sub on such a machine, measured"
    );
    println!(
        "before: 1,000 a second to two subscribers at p50 70 to 159 ms, behind at 1,500; 100 MB idle, 120 at load, half a core"
    );
    Ok(())
}

struct Row {
    offered: usize,
    ordered: f64,
    applied: f64,
    p50: Duration,
    p50_ordered: Duration,
    p99: Duration,
    usage: (f64, f64),
    behind: bool,
}

/// Offers `rate` a second, counted from id `first` on.
async fn at(
    agents: &[Agent],
    arrivals: &[Arrivals],
    first: usize,
    rate: usize,
    seconds: Duration,
) -> Result<Row> {
    let offered = rate * usize::try_from(seconds.as_secs())?;
    let published: Published = Arc::new(Mutex::new(Vec::with_capacity(offered)));
    let refused = Arc::new(AtomicUsize::new(0));
    let mut queues = Vec::new();
    for agent in agents {
        // As long as the whole run: an open loop never waits for what it measures.
        let (queue, work) = mpsc::channel::<usize>(offered);
        publishers(agent, first, work, &published, &refused).await?;
        queues.push(queue);
    }
    let usage = watch(agents)?;
    let begun = Instant::now();
    for n in 0..offered {
        let due = begun + Duration::from_secs_f64(n as f64 / rate as f64);
        tokio::time::sleep_until(due.into()).await;
        lock(&published).push((due, None));
        queues[n % queues.len()].try_send(n).context("hand a command to a publisher")?;
    }
    let usage = worst(&usage)?;
    drop(queues);
    let end = Instant::now() + DRAIN;
    let missing =
        || offered.saturating_sub(refused.load(Ordering::Relaxed)) > applied(arrivals, first, offered).len();
    while missing() && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let applied = applied(arrivals, first, offered);
    let published = lock(&published).clone();
    let span = |last: Option<Instant>| last.map_or(f64::INFINITY, |last| (last - begun).as_secs_f64());
    let ordered: Vec<Instant> = published.iter().filter_map(|(_, ordered)| *ordered).collect();
    let since_due = |&(n, at): &(usize, Instant)| at.saturating_duration_since(published[n].0);
    let since_ordered = |&(n, at): &(usize, Instant)| Some(at.saturating_duration_since(published[n].1?));
    let mut from_due: Vec<Duration> = applied.iter().map(since_due).collect();
    let mut from_ordered: Vec<Duration> = applied.iter().filter_map(since_ordered).collect();
    let p99 = percentile(&mut from_due, 0.99);
    Ok(Row {
        offered,
        ordered: ordered.len() as f64 / span(ordered.iter().max().copied()),
        applied: applied.len() as f64 / span(applied.iter().map(|(_, at)| *at).max()),
        p50: percentile(&mut from_due, 0.5),
        p50_ordered: percentile(&mut from_ordered, 0.5),
        p99,
        usage,
        // A backlog that grows shows in the slowest: a second at the end of a run is one.
        behind: applied.len() < offered || p99 > Duration::from_secs(1),
    })
}

/// Connections that take the next command as soon as their last one is answered.
async fn publishers(
    agent: &Agent,
    first: usize,
    work: mpsc::Receiver<usize>,
    published: &Published,
    refused: &Arc<AtomicUsize>,
) -> Result<()> {
    let work = Arc::new(tokio::sync::Mutex::new(work));
    let payload = Bytes::from(vec![7_u8; PAYLOAD]);
    for _ in 0..CONNECTIONS {
        let mut caller = Caller::connect(agent.api).await?;
        let (work, published, refused) = (Arc::clone(&work), Arc::clone(published), Arc::clone(refused));
        let payload = payload.clone();
        tokio::spawn(async move {
            loop {
                let next = work.lock().await.recv().await;
                let Some(n) = next else { return };
                match caller.propose(&(first + n).to_string(), payload.clone()).await {
                    Ok(202) => lock(&published)[n].1 = Some(Instant::now()),
                    _ => {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
    }
    Ok(())
}

/// The commands that all agents have, each with when the last of them got it.
fn applied(arrivals: &[Arrivals], first: usize, count: usize) -> Vec<(usize, Instant)> {
    let all: Vec<_> = arrivals.iter().map(lock).collect();
    let by_all =
        |n: usize| all.iter().map(|own| own.get(first + n).copied().flatten()).collect::<Option<Vec<_>>>();
    (0..count).filter_map(|n| Some((n, by_all(n)?.into_iter().max()?))).collect()
}

fn watch(agents: &[Agent]) -> Result<Vec<Usage>> {
    agents.iter().map(|agent| Usage::of(agent.pid())).collect()
}

/// The largest and the busiest.
fn worst(watched: &[Usage]) -> Result<(f64, f64)> {
    let read = watched.iter().map(Usage::read).collect::<Result<Vec<_>>>()?;
    Ok(read
        .into_iter()
        .fold((0.0, 0.0), |worst, each| (f64::max(worst.0, each.0), f64::max(worst.1, each.1))))
}

fn lock<T>(mutex: &Arc<Mutex<T>>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
