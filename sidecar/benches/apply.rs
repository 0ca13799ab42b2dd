//! What a command's way through the replica costs: beside the same POSTs with nothing between, turn by turn.
//!
//! `cargo bench --profile dist -p decree-sidecar --bench apply` needs neither brokers nor a cluster: the log is in memory,
//! the application another process on loopback, the journal on the disk. `-- --commands 5000` shortens every turn.

use std::convert::Infallible;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::Parser;
use decree_sidecar::app::http::{HttpApp, Settings as AppSettings, Target};
use decree_sidecar::life::system::System;
use decree_sidecar::log::NewEntry;
use decree_sidecar::log::memory::MemoryLog;
use decree_sidecar::replica::{Config, Replica, Resolution};
use decree_wire::command::Command;
use decree_wire::control::Control;
use decree_wire::position::{EngineName, Incarnation};
use decree_wire::probe::Restart;
use decree_wire::record::{self, Record};
use decree_wire::settings::{Dedup, Settings};
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::handshake;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const PAYLOAD: usize = 200;
/// Both take turns so often: the machine is not the same from one second to the next.
const ROUNDS: usize = 5;
/// Of each turn so many come before the clock starts.
const WARM: u64 = 500;
/// Log time, which decides nothing here.
const TIME: i64 = 1_800_000_000_000;
/// What the kernel shows to programs, on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// Measures a command's way through the replica.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many commands a turn has
    #[arg(long, default_value_t = 20_000)]
    commands: u64,
    /// Be the application
    #[arg(long, hide = true)]
    application: bool,
    /// What cargo passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a command cost.
#[derive(Clone, Copy, Debug)]
struct Turn {
    wall: f64,
    cpu: f64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // As the sidecar has it.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the runtime")?;
    if arguments.application {
        return runtime.block_on(application());
    }
    let (mut child, port) = start()?;
    let measured = runtime.block_on(measure(port, arguments.commands));
    child.kill().context("end the application")?;
    child.wait().context("wait for the application")?;
    measured
}

async fn measure(port: u16, commands: u64) -> Result<()> {
    let (mut bare, mut behind, mut live) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(post(port, commands).await?);
        behind.push(replicate(port, commands, commands).await?);
        live.push(replicate(port, commands, WARM).await?);
    }
    println!(
        "\n{commands} commands of {PAYLOAD} bytes, one after the other; medians of {ROUNDS} turns each, for one command"
    );
    println!("                            time   this side's CPU   per second");
    for (name, turns) in
        [("bare POSTs", bare), ("from a log that is there", behind), ("appended one by one", live)]
    {
        let Turn { wall, cpu } = median(turns);
        println!("{name:<24} {:>5.1} µs {:>14.1} µs {:>12.0}", wall * 1e6, cpu * 1e6, 1.0 / wall);
    }
    Ok(())
}

/// The same requests over one connection, with nothing between.
async fn post(port: u16, commands: u64) -> Result<Turn> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let payload = Bytes::from(vec![7_u8; PAYLOAD]);
    let mut clock = Clock::start()?;
    for n in 0..commands {
        if n == WARM {
            clock = Clock::start()?;
        }
        let request = Request::post("/").header(header::HOST, "127.0.0.1").header("ce-id", n.to_string());
        sender.ready().await?;
        let answer = sender.send_request(request.body(Full::new(payload.clone()))?).await?;
        ensure!(answer.status() == 200, "the application answered {}", answer.status());
        answer.into_body().collect().await?;
    }
    driver.abort();
    clock.stop(commands - WARM)
}

/// Through the replica: `there` commands are in the log from the start, and the others are appended, each once the one
/// before it is applied.
async fn replicate(port: u16, commands: u64, there: u64) -> Result<Turn> {
    let folder = tempfile::tempdir()?;
    let engine = EngineName { namespace: "bench".into(), name: "bench".into() };
    let config = Config {
        engine: engine.clone(),
        cluster: "bench".into(),
        class: "bench".into(),
        replicates: false,
        restart: Restart::Container,
        state: folder.path().join("state"),
        expected: watch::channel(Some(Incarnation("memory-1".into()))).1,
    };
    let app = AppSettings {
        port,
        target: Target::Apply { path: "/".into() },
        health_path: None,
        overdue_after: Duration::from_secs(30),
        deliver_headers: Default::default(),
    };
    let log = log(engine, there)?;
    let app = Arc::new(HttpApp::new(app));
    let (replica, handle) = Replica::open(config, Arc::new(log.clone()), app, Arc::new(System::new(port)))?;
    let stop = CancellationToken::new();
    let run = tokio::spawn(replica.run(stop.clone()));
    // Looked at, not listened to: a listener would be woken by every command.
    let at = |position: u64| {
        let progress = handle.progress();
        async move {
            while progress.borrow().next.0 < position {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            progress.borrow().next.0
        }
    };
    let begun = at(WARM).await;
    let clock = Clock::start()?;
    for n in there..commands {
        let position = log.append_record(command(n), TIME);
        let resolution = handle.resolved(position).await?;
        ensure!(matches!(resolution, Resolution::Applied { .. }), "command {n} is {resolution:?}");
    }
    let ended = at(commands + 1).await;
    let turn = clock.stop(ended - begun)?;
    stop.cancel();
    run.await??;
    Ok(turn)
}

fn log(engine: EngineName, commands: u64) -> Result<MemoryLog> {
    let log = MemoryLog::new();
    let dedup = Dedup { window: 1_000_000, outcomes: 10_000, outcome_bytes: 64 << 20 };
    let settings = Settings { engine, cluster: "bench".into(), dedup, classes: [].into() };
    log.append_record(NewEntry::Control(Control::Settings(settings)).record()?, 1);
    for n in 0..commands {
        log.append_record(command(n), TIME);
    }
    Ok(log)
}

fn command(n: u64) -> Record {
    let payload = Bytes::from(vec![7_u8; PAYLOAD]);
    let command = Command { id: Some(format!("p-{n}")), payload, version: Some(1), ..Command::default() };
    record::encode_command(&command)
}

/// Starts the application, and reads on which port it listens.
fn start() -> Result<(Child, u16)> {
    let mut child = Process::new(std::env::current_exe()?)
        .arg("--application")
        .stdout(Stdio::piped())
        .spawn()
        .context("start the application")?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("the application's output")?).read_line(&mut line)?;
    Ok((child, line.trim().parse().context("read the application's port")?))
}

/// Answers every request at once.
async fn application() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = service_fn(|request: Request<hyper::body::Incoming>| async {
            let _ = request.into_body().collect().await;
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"ok"))))
        });
        let io = TokioIo::new(stream);
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
    }
}

struct Clock {
    wall: Instant,
    ticks: u64,
}

impl Clock {
    fn start() -> Result<Self> {
        Ok(Self { wall: Instant::now(), ticks: ticks()? })
    }

    fn stop(&self, commands: u64) -> Result<Turn> {
        let commands = commands as f64;
        let cpu = (ticks()? - self.ticks) as f64 / TICKS_PER_SECOND;
        Ok(Turn { wall: self.wall.elapsed().as_secs_f64() / commands, cpu: cpu / commands })
    }
}

/// User and system time of this process: fields 14 and 15, counted behind the name, which may hold spaces.
fn ticks() -> Result<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, rest) = stat.rsplit_once(") ").context("read this process's times")?;
    let mut fields = rest.split(' ').skip(11);
    let mut next = || -> Result<u64> { Ok(fields.next().context("read this process's times")?.parse()?) };
    Ok(next()? + next()?)
}

/// Each figure by itself.
fn median(turns: Vec<Turn>) -> Turn {
    let middle = |mut values: Vec<f64>| {
        values.sort_unstable_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Turn {
        wall: middle(turns.iter().map(|turn| turn.wall).collect()),
        cpu: middle(turns.iter().map(|turn| turn.cpu).collect()),
    }
}
