//! The sidecar's process: its command line, its logs, its runtime.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use decree_sidecar::config::Config;
use decree_sidecar::{api, run};
use decree_wire::pod::path;

/// Orders its application's commands in the engine's log, and applies the log to its application.
#[derive(Debug, Parser)]
#[command(name = "decree-sidecar", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs until SIGTERM.
    Run(#[command(flatten)] Box<Config>),
    /// What the container's preStop hook calls: asks the running sidecar to drain, and waits for it.
    PreStop {
        /// The running sidecar's folder of the Unix socket.
        #[arg(long, env = "DECREE_RUN", default_value = path::RUN)]
        run: std::path::PathBuf,
    },
}

/// openraft tells of each call that a dead member did not answer, ten times a second.
const LOGS: &str = "info,openraft=error";

/// What hangs in librdkafka's or the store's threads is left behind at the end.
const END_LIMIT: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    logs();
    match start(arguments()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "ended");
            ExitCode::FAILURE
        }
    }
}

/// `run` is what it does if nothing is said.
fn arguments() -> Command {
    let mut arguments: Vec<_> = std::env::args_os().collect();
    let named = |argument: &std::ffi::OsString| {
        matches!(argument.to_str(), Some("run" | "pre-stop" | "help" | "--help" | "-h" | "--version" | "-V"))
    };
    if !arguments.get(1).is_some_and(named) {
        arguments.insert(arguments.len().min(1), "run".into());
    }
    Arguments::parse_from(arguments).command
}

fn start(command: Command) -> anyhow::Result<()> {
    // Two workers: what takes long waits for others. Stacks are touched as far as they are used.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(8)
        .thread_stack_size(1 << 20)
        .thread_name("decree")
        .enable_all()
        .build()
        .context("start the runtime")?;
    let result = match command {
        Command::Run(config) => runtime.block_on(run::run(*config)).context("run the sidecar"),
        Command::PreStop { run } => {
            let socket = run.join(std::path::Path::new(path::SOCKET).file_name().unwrap_or_default());
            runtime.block_on(api::ask_to_drain(&socket)).context("drain before the pod's end")
        }
    };
    runtime.shutdown_timeout(END_LIMIT);
    result
}

fn logs() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("DECREE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(LOGS));
    tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).init();
}
