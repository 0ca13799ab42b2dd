//! `decree-operator`: the command line.

use anyhow::Context;
use clap::{Parser, Subcommand};
use decree_operator::{crds, run};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// The operator of Decree.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the operator.
    Run(Box<run::Config>),
    /// Prints the custom resource definitions as YAML.
    Crds,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Crds => print_crds(),
        Command::Run(config) => start(*config),
    }
}

#[allow(clippy::print_stdout)] // what was asked for
fn print_crds() -> anyhow::Result<()> {
    print!("{}", crds::yaml().context("print the custom resource definitions")?);
    Ok(())
}

fn start(config: run::Config) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into()).from_env_lossy();
    tracing_subscriber::fmt().json().flatten_event(true).with_span_list(false).with_env_filter(filter).init();
    // Two libraries ask rustls for the process' provider; neither may choose.
    let installed = rustls::crypto::ring::default_provider().install_default();
    anyhow::ensure!(installed.is_ok(), "a TLS provider was installed before ring");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        let running = run::run(config, stop.clone());
        tokio::pin!(running);
        tokio::select! {
            biased;
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            ended = &mut running => return ended.context("run the operator"),
        }
        tracing::info!("stopping");
        stop.cancel();
        running.await.context("stop the operator")
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Arguments::command().debug_assert();
    }
}
