//! `cargo verify`: the whole gate, from formatting to a real cluster of its own that it takes down. It writes nothing
//! into the work tree.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use decree_e2e::parts::progress::Progress;
use decree_e2e::{Bed, install};

/// Everything that a landing must pass.
#[derive(Debug, Parser)]
#[command(name = "cargo verify")]
struct Arguments {
    /// Use this bed, start it if it is down, and leave it up
    #[arg(long)]
    bed: Option<String>,
    /// Leave out what needs no cluster
    #[arg(long)]
    only_cluster: bool,
    /// Leave out what needs a cluster
    #[arg(long, conflicts_with = "only_cluster")]
    only_local: bool,
    /// Of the tests on the cluster run those whose names contain this
    #[arg(long)]
    filter: Option<String>,
}

/// The bed that a run without `--bed` makes and removes.
const OWN_BED: &str = "verify";
/// What the names of tests begin with that stop brokers, nodes or the operator.
const ALONE: &str = "alone::";

fn main() -> ExitCode {
    let progress = Progress::new();
    match run(&Arguments::parse(), &progress) {
        Ok(()) => {
            progress.say("verify: all passed");
            ExitCode::SUCCESS
        }
        Err(error) => {
            progress.say(&format!("verify: FAILED: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments, progress: &Progress) -> Result<()> {
    let bed = Bed::named(arguments.bed.as_deref().unwrap_or(OWN_BED))?;
    // Compilers and libraries that the crates link come first.
    install::prepare(&bed, progress)?;
    if !arguments.only_cluster {
        local(&bed, progress)?;
    }
    if arguments.only_local {
        return Ok(());
    }
    install::build(&bed, progress)?;
    cargo(
        &bed,
        progress,
        "compiling the tests",
        &["test", "--locked", "--quiet", "--workspace", "--no-run"],
    )?;
    if arguments.bed.is_none() {
        // What a run that was killed left behind is not what this one tests.
        bed.down()?;
    }
    let bed = Bed::up(bed.name(), progress)?;
    let result = on_cluster(&bed, arguments.filter.as_deref(), progress);
    if arguments.bed.is_none() {
        let down = progress.step("taking the bed down", None, || bed.down());
        return result.and(down);
    }
    result
}

/// What needs no cluster, the quickest to fail first.
fn local(bed: &Bed, progress: &Progress) -> Result<()> {
    cargo(bed, progress, "formatting", &["fmt", "--all", "--check"])?;
    cargo(
        bed,
        progress,
        "clippy",
        &["clippy", "--locked", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"],
    )?;
    cargo(bed, progress, "tests without a cluster", &["test", "--locked", "--quiet", "--workspace"])?;
    progress.step("documentation", None, || {
        let mut doc = install::cargo(bed, &["doc", "--locked", "--quiet", "--workspace", "--no-deps"])?;
        check(doc.env("RUSTDOCFLAGS", "-D warnings"), "cargo doc")
    })
}

/// Decree installed on a running bed, and every test that asks for one.
fn on_cluster(bed: &Bed, filter: Option<&str>, progress: &Progress) -> Result<()> {
    install::load_images(bed, progress)?;
    install::helm(bed, progress)?;
    let target = install::target_directory(bed)?;
    let run = |what: &str, which: &[&str], how: &[&str]| {
        progress.step(what, None, || {
            let mut tests = bed.command_inside("cargo");
            tests
                .args(["test", "--locked", "--offline", "--quiet", "--no-fail-fast"])
                .args(which)
                .args(["--", "--ignored"])
                .args(how)
                .args(filter)
                .current_dir(install::workspace())
                .env("CARGO_TARGET_DIR", &target)
                // As it was when the tests were compiled: build scripts look at it, and would run again.
                .env("PATH", std::env::var_os("PATH").unwrap_or_default());
            check(&mut tests, what)
        })
    };
    let beside = run(
        "tests on the cluster",
        &["--workspace", "--lib", "--bins", "--tests"],
        &["--test-threads=3", "--skip", ALONE],
    );
    // What breaks parts that all share runs beside nothing else.
    let alone = run(
        "tests alone on the cluster",
        &["--package", "decree-e2e", "--test", "alone"],
        &["--test-threads=1", "--nocapture"],
    );
    beside.and(alone)
}

fn cargo(bed: &Bed, progress: &Progress, what: &str, arguments: &[&str]) -> Result<()> {
    progress
        .step(what, None, || check(&mut install::cargo(bed, arguments)?, &format!("cargo {}", arguments[0])))
}

fn check(command: &mut Command, what: &str) -> Result<()> {
    let status = command.status().with_context(|| format!("start {what}"))?;
    ensure!(status.success(), "{what} failed ({status}); what it printed stands above");
    Ok(())
}
