//! `cargo bed`: brings the test cluster up, takes it down, and gets people inside.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use decree_e2e::Bed;
use decree_e2e::parts::progress::Progress;

/// A real Kubernetes cluster and a real Kafka on this machine, without a link to its network.
#[derive(Debug, Parser)]
#[command(name = "cargo bed")]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Build what is missing and start a bed, unless it is up
    Up(Name),
    /// Stop a bed and remove all of it, also what a crash left
    Down(Name),
    /// List beds and what of them runs
    Status,
    /// Print what a shell needs: `eval "$(cargo bed env)"`
    Env(Name),
    /// Have the kubelets of a bed wait before they start a container again
    BackOff {
        #[command(flatten)]
        name: Name,
        /// As they come (ten seconds, doubling to five minutes), or a second at most, as every bed begins
        #[arg(value_enum)]
        which: BackOff,
    },
    /// Run a command inside a bed
    Sh {
        #[command(flatten)]
        name: Name,
        /// The command; a shell if there is none
        #[arg(last = true)]
        command: Vec<OsString>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum BackOff {
    Default,
    Short,
}

#[derive(Debug, clap::Args)]
struct Name {
    /// Which bed
    #[arg(long, default_value = "dev", env = "DECREE_BED")]
    name: String,
}

fn main() -> ExitCode {
    match run(Arguments::parse().action) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(action: Action) -> Result<()> {
    match action {
        Action::Up(Name { name }) => up(&name),
        Action::Down(Name { name }) => {
            let bed = Bed::named(&name)?;
            let progress = Progress::new();
            progress.step(&format!("taking bed {name:?} down"), None, || bed.down())
        }
        Action::Status => status(),
        Action::Env(Name { name }) => env(&Bed::attach(&name)?),
        Action::BackOff { name: Name { name }, which } => {
            Bed::attach(&name)?.set_default_back_off(which == BackOff::Default)
        }
        Action::Sh { name: Name { name }, command } => shell(&Bed::attach(&name)?, command),
    }
}

fn up(name: &str) -> Result<()> {
    let bed = Bed::up(name, &Progress::new())?;
    let option = if name == "dev" { String::new() } else { format!(" --name {name}") };
    println!("bed {:?}: Kafka at {}, kubeconfig {}", name, bed.kafka_bootstrap(), bed.kubeconfig().display());
    println!("  inside: cargo bed sh{option} -- kubectl get pods -A");
    println!("  down:   cargo bed down{option}");
    Ok(())
}

fn status() -> Result<()> {
    let names = Bed::all()?;
    if names.is_empty() {
        println!("no bed");
    }
    for name in names {
        let bed = Bed::named(&name)?;
        let state = if bed.is_up() { "up" } else { "remains: `cargo bed down` or `up` clears them" };
        let processes = bed.processes();
        let running = processes.iter().filter(|(_, alive)| *alive).count();
        println!("{name}: {state}, {running} of {} processes run", processes.len());
        for (process, _) in processes.iter().filter(|(_, alive)| !alive) {
            println!("  {process} has ended: {}", bed.logs().join(format!("{process}.log")).display());
        }
    }
    Ok(())
}

fn env(bed: &Bed) -> Result<()> {
    for (name, value) in bed.environment() {
        println!("export {name}='{value}'");
    }
    let inside = bed.command_inside("");
    let words: Vec<_> = std::iter::once(inside.get_program()).chain(inside.get_args()).collect();
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    println!("# inside: {}", words.join(" ").trim_end());
    Ok(())
}

fn shell(bed: &Bed, command: Vec<OsString>) -> Result<()> {
    let command = if command.is_empty() { vec![OsString::from("bash")] } else { command };
    let (program, arguments) = command.split_first().context("find a command to run")?;
    let error = bed.command_inside(program).args(arguments).exec();
    bail!("start {}: {error}", program.to_string_lossy())
}
