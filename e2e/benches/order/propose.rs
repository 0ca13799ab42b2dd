//! Propose to ordered through the sidecar, beside the same produce with librdkafka alone, turn by turn.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::agent::{Agent, Engine};
use crate::http::Caller;
use crate::numbers::{median, ms, percentile};
use crate::receiver;

const CLIENTS: [usize; 3] = [1, 64, 256];
/// Both take turns so often: the machine is not the same from one second to the next.
const ROUNDS: usize = 3;
const PAYLOAD: usize = 200;

/// What one turn of one side gave.
#[derive(Debug, Default)]
struct Turn {
    latencies: Vec<Duration>,
    seconds: f64,
}

#[derive(Debug, Default)]
struct Side {
    p50: Vec<f64>,
    p99: Vec<f64>,
    rate: Vec<f64>,
}

impl Side {
    fn add(&mut self, mut turn: Turn) {
        self.p50.push(percentile(&mut turn.latencies, 0.5).as_secs_f64());
        self.p99.push(percentile(&mut turn.latencies, 0.99).as_secs_f64());
        self.rate.push(turn.latencies.len() as f64 / turn.seconds);
    }

    fn medians(self) -> [f64; 3] {
        [median(self.p50), median(self.p99), median(self.rate)]
    }
}

pub(crate) async fn run(brokers: &str, sidecar: &Path, seconds: Duration) -> Result<()> {
    let (application, _) = receiver::start().await?;
    let engine = Engine::create(brokers, "propose").await?;
    let agent = Agent::start(&engine, sidecar, "bench-0", application).await?;
    let beside = Engine::create(brokers, "bare").await?;
    let bare = bare_producer(brokers)?;
    let turn = seconds / u32::try_from(ROUNDS)?;
    println!(
        "\npropose to ordered, {PAYLOAD} bytes, acks from all, three brokers; medians of {ROUNDS} turns each"
    );
    println!("clients   p50 bare  sidecar   added |  p99 bare  sidecar | per second bare  sidecar  ratio");
    for clients in CLIENTS {
        let (mut alone, mut through) = (Side::default(), Side::default());
        for _ in 0..ROUNDS {
            alone.add(produce(&bare, &beside.topic, clients, turn).await?);
            through.add(propose(&agent, clients, turn).await?);
        }
        let ([a50, a99, a_rate], [s50, s99, s_rate]) = (alone.medians(), through.medians());
        let t = |seconds| ms(Duration::from_secs_f64(seconds));
        println!(
            "{clients:>7} {:>8}ms {:>6}ms {:>6.2}ms | {:>7}ms {:>6}ms | {a_rate:>15.0} {s_rate:>8.0} {:>6.2}",
            t(a50),
            t(s50),
            (s50 - a50) * 1000.0,
            t(a99),
            t(s99),
            s_rate / a_rate,
        );
    }
    println!("goal: p50 within 0.5 ms of bare, throughput at least 0.8 of it");
    Ok(())
}

/// librdkafka with what the sidecar asks of it, and nothing between.
fn bare_producer(brokers: &str) -> Result<FutureProducer> {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("acks", "all")
        .set("max.in.flight.requests.per.connection", "1")
        .set("linger.ms", "0")
        .create()
        .context("make a producer")
}

async fn produce(producer: &FutureProducer, topic: &str, clients: usize, turn: Duration) -> Result<Turn> {
    let payload = vec![7_u8; PAYLOAD];
    side_by_side(clients, turn, |_| {
        let (producer, topic, payload) = (producer.clone(), topic.to_owned(), payload.clone());
        async move {
            let mut latencies = Vec::new();
            let begun = Instant::now();
            while begun.elapsed() < turn {
                let sent = Instant::now();
                let record = FutureRecord::<(), _>::to(&topic).partition(0).payload(&payload);
                producer.send(record, Duration::from_secs(5)).await.map_err(|(error, _)| error)?;
                latencies.push(sent.elapsed());
            }
            Ok(latencies)
        }
    })
    .await
}

async fn propose(agent: &Agent, clients: usize, turn: Duration) -> Result<Turn> {
    static IDS: AtomicU64 = AtomicU64::new(0);
    let payload = Bytes::from(vec![7_u8; PAYLOAD]);
    let mut callers = Vec::new();
    for _ in 0..clients {
        callers.push(Caller::connect(agent.api).await?);
    }
    let callers = Arc::new(std::sync::Mutex::new(callers));
    side_by_side(clients, turn, |_| {
        let caller = callers.lock().ok().and_then(|mut callers| callers.pop());
        let payload = payload.clone();
        async move {
            let mut caller = caller.context("find a connection")?;
            let mut latencies = Vec::new();
            let begun = Instant::now();
            while begun.elapsed() < turn {
                let id = format!("p-{}", IDS.fetch_add(1, Ordering::Relaxed));
                let sent = Instant::now();
                let status = caller.propose(&id, payload.clone()).await?;
                ensure!(status == 202, "a proposal was answered {status}");
                latencies.push(sent.elapsed());
            }
            Ok(latencies)
        }
    })
    .await
}

async fn side_by_side<F>(clients: usize, turn: Duration, mut client: impl FnMut(usize) -> F) -> Result<Turn>
where
    F: Future<Output = Result<Vec<Duration>>> + Send + 'static,
{
    let running: Vec<_> = (0..clients).map(|n| tokio::spawn(client(n))).collect();
    let mut all = Turn { latencies: Vec::new(), seconds: turn.as_secs_f64() };
    for each in running {
        all.latencies.extend(each.await.context("a client panicked")??);
    }
    Ok(all)
}
