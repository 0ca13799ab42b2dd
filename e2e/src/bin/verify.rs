//! `cargo verify`: the whole gate, from formatting to a real cluster of its own that it takes down. It writes nothing
//! into the work tree.

use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::Parser;
use decree_e2e::install::check;
use decree_e2e::parts::progress::Progress;
use decree_e2e::{Bed, client, door::Door, foreign, install};

/// Everything that a landing must pass.
#[derive(Debug, Parser)]
#[command(name = "cargo verify")]
struct Arguments {
    /// Use this bed, start it if it is down, and leave it up
    #[arg(long, conflicts_with = "kubeconfig")]
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
    /// Of the tests on the cluster compile and run only those of this package
    #[arg(long)]
    package: Option<String>,
    #[command(flatten)]
    foreign: foreign::Options,
}

impl Arguments {
    fn packages(&self) -> Vec<&str> {
        self.package.as_deref().map_or(vec!["--workspace"], |package| vec!["--package", package])
    }
}

/// The bed that a run without `--bed` makes and removes.
const OWN_BED: &str = "verify";
/// What the names of tests begin with that stop brokers, nodes or the operator.
const ALONE: &str = "alone::";
/// What only a bed can show, and why. A test that needs a bed and is not named here fails on another cluster.
const NEED_A_BED: [(&str, &str); 7] = [
    ("promises::care::what_outlives_its_container", "kills processes of containers"),
    ("promises::credentials::", "needs listeners with TLS and SASL, and users that it may change"),
    ("promises::exactly_once::", "kills processes of containers"),
    ("promises::rights::", "needs a user whose rights it may change"),
    ("promises::sidecar_crash::", "kills processes of containers"),
    ("promises::suspect::", "stops processes of containers"),
    ("promises::vanished_logs::a_log_trimmed", "stops processes of containers"),
];

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
    if let Some(cluster) = arguments.foreign.clone().cluster() {
        return on_foreign(&Bed::foreign(cluster)?, arguments.filter.as_deref(), progress);
    }
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
    let compile = [&["test", "--locked", "--quiet", "--no-run"], &arguments.packages()[..]].concat();
    cargo(&bed, progress, "compiling the tests", &compile)?;
    if arguments.bed.is_none() {
        // What a run that was killed left behind is not what this one tests.
        bed.down()?;
    }
    let bed = Bed::up(bed.name(), progress)?;
    let result = on_cluster(&bed, arguments, progress);
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
fn on_cluster(bed: &Bed, arguments: &Arguments, progress: &Progress) -> Result<()> {
    install::load_images(bed, progress)?;
    install::helm(bed, progress)?;
    let run = |what: &str, which: &[&str], how: &[&str]| {
        progress.step(what, None, || check(tests(bed, which, how)?.args(&arguments.filter), what))
    };
    let beside = run(
        "tests on the cluster",
        &[&arguments.packages()[..], &["--lib", "--bins", "--tests"]].concat(),
        &["--test-threads=3", "--show-output", "--skip", ALONE],
    );
    // What breaks parts that all share runs beside nothing else.
    let alone = run(
        "tests alone on the cluster",
        &["--package", "decree-e2e", "--test", "alone"],
        &["--test-threads=1", "--nocapture"],
    );
    beside.and(alone)
}

/// The promises that a cluster of the user's can show: those that need no fault of a bed's making.
fn on_foreign(bed: &Bed, filter: Option<&str>, progress: &Progress) -> Result<()> {
    let promises = ["--package", "decree-e2e", "--test", "promises"];
    bed.parts().ensure_kafka_tools(progress)?;
    let compile = [&["test", "--locked", "--quiet", "--no-run"], &promises[..]].concat();
    cargo(bed, progress, "compiling the tests", &compile)?;
    install::helm(bed, progress)?;
    let door = Door::open(bed)?;
    progress.say("left out on a cluster that is no bed: the test programs alone, bed and install, and of the promises:");
    for (name, why) in NEED_A_BED {
        progress.say(&format!("  {name}: {why}"));
    }
    let skipped: Vec<&str> = NEED_A_BED.iter().flat_map(|(name, _)| ["--skip", name]).collect();
    progress.step("tests on the cluster", None, || {
        let mut tests = tests(bed, &promises, &[&["--test-threads=3"], &skipped[..]].concat())?;
        check(tests.args(filter).env(client::DOOR_VARIABLE, door.address()), "tests on the cluster")
    })
}

/// A run of tests that ask for a cluster, as they were compiled.
fn tests(bed: &Bed, which: &[&str], how: &[&str]) -> Result<Command> {
    let mut tests = bed.command_inside("cargo");
    tests
        .args(["test", "--locked", "--offline", "--quiet", "--no-fail-fast"])
        .args(which)
        .args(["--", "--ignored"])
        .args(how)
        .current_dir(install::workspace())
        .env("CARGO_TARGET_DIR", install::target_directory(bed)?)
        // As it was when the tests were compiled: build scripts look at it, and would run again.
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    Ok(tests)
}

fn cargo(bed: &Bed, progress: &Progress, what: &str, arguments: &[&str]) -> Result<()> {
    progress
        .step(what, None, || check(&mut install::cargo(bed, arguments)?, &format!("cargo {}", arguments[0])))
}
