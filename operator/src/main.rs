//! `decree-operator`: the command line.

use anyhow::Context;
use clap::{Parser, Subcommand};
use decree_operator::{crds, run, uninstall};
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
    /// Lets every engine go, so that namespaces terminate without the operator. Topics, Secrets and agents stay.
    Uninstall(Box<uninstall::Config>),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Crds => print_crds(),
        Command::Run(config) => start(|stop| run::run(*config, stop), "run the operator"),
        Command::Uninstall(config) => start(|_| uninstall::uninstall(*config), "let the engines go"),
    }
}

#[allow(clippy::print_stdout)] // what was asked for
fn print_crds() -> anyhow::Result<()> {
    print!("{}", crds::yaml().context("print the custom resource definitions")?);
    Ok(())
}

fn start<E, F>(work: impl FnOnce(CancellationToken) -> F, what: &'static str) -> anyhow::Result<()>
where
    E: std::error::Error + Send + Sync + 'static,
    F: Future<Output = Result<(), E>>,
{
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
        let running = work(stop.clone());
        tokio::pin!(running);
        tokio::select! {
            biased;
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            ended = &mut running => return ended.context(what),
        }
        tracing::info!("stopping");
        stop.cancel();
        running.await.context(what)
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
