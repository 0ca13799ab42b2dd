//! Debian packages that the bed runs on and that Decree's build needs: installed as root, otherwise named.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::cache::run_logged;
use super::progress::Progress;

const PACKAGES: [&str; 20] = [
    // the nodes
    "containerd",
    "runc",
    "containernetworking-plugins",
    "iproute2",
    "iptables",
    "conntrack",
    "util-linux",
    "mount",
    "ca-certificates",
    // Kafka
    "openjdk-17-jre-headless",
    "maven",
    // Decree itself, and images of it
    "gcc",
    "g++",
    "make",
    "libc6-dev",
    "pkg-config",
    "libssl-dev",
    "zlib1g-dev",
    "binutils",
    // its tests
    "procps",
];

pub(super) fn ensure(progress: &Progress) -> Result<()> {
    go()?;
    let missing = missing()?;
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if !rustix::process::geteuid().is_root() {
        bail!("Debian packages are missing: `apt-get install {names}`, or run this as root");
    }
    progress.step(&format!("installing Debian packages: {names}"), None, || install(&missing))
}

/// Debian's own Go is too old for the parts, so it is asked for, not installed.
fn go() -> Result<()> {
    let found =
        Command::new("go").args(["env", "GOVERSION"]).output().context("start go: Go 1.26 is needed")?;
    let version = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    let minor = version.strip_prefix("go1.").and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    if minor.is_none_or(|minor| minor < 26) {
        bail!("Go 1.26 or later is needed, here is {version:?}");
    }
    Ok(())
}

fn missing() -> Result<Vec<&'static str>> {
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat", "${db:Status-Status} ${Package}\n"])
        .args(PACKAGES)
        .output()
        .context("start dpkg-query: the bed runs on Debian")?;
    let listing = String::from_utf8_lossy(&output.stdout).into_owned();
    let installed: BTreeSet<&str> =
        listing.lines().filter_map(|line| line.strip_prefix("installed ")).collect();
    Ok(PACKAGES.into_iter().filter(|package| !installed.contains(package)).collect())
}

fn install(packages: &[&str]) -> Result<()> {
    // The bed starts its own containerd; the package's must not run beside it.
    let policy = Path::new("/usr/sbin/policy-rc.d");
    let ours = !policy.exists();
    if ours {
        std::fs::write(policy, "#!/bin/sh\nexit 101\n")?;
        std::fs::set_permissions(policy, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    }
    let log = std::env::temp_dir().join("decree-bed-apt.log");
    let apt = |arguments: &[&str]| {
        run_logged(Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive"), &log)
    };
    let result = apt(&["update"])
        .and_then(|()| apt(&[&["install", "--yes", "--no-install-recommends"], packages].concat()));
    if ours {
        std::fs::remove_file(policy)?;
    }
    result
}
