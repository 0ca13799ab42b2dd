//! Taking a bed down, whatever state it is in: nothing here relies on what its bring-up remembered.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cluster::Bed;
use crate::finish::finish_silently;
use crate::{cgroup, network};

/// A lazy unmount waits for nothing.
const UNMOUNT_LIMIT: Duration = Duration::from_secs(60);

/// Processes, control groups, network namespaces, mounts, files.
pub(crate) fn everything(bed: &Bed) -> Result<()> {
    all_but_logs(bed)?;
    let directory = bed.dir();
    if directory.exists() {
        fs::remove_dir_all(&directory).with_context(|| format!("remove {}", directory.display()))?;
    }
    Ok(())
}

/// The same, but who wonders why a bed did not come up finds its logs.
pub(crate) fn all_but_logs(bed: &Bed) -> Result<()> {
    let directory = bed.dir();
    let _ = fs::remove_file(bed.ready_file());
    // All of them, containers and their shims included, are in the bed's control groups; a node's mounts and its
    // pods' network namespaces are held by its processes alone.
    cgroup::kill(bed, None)?;
    cgroup::remove(bed)?;
    network::remove(bed)?;
    unmount_below(&directory)?;
    let left = processes_with_mounts_below(&directory)?;
    ensure!(left.is_empty(), "outside the bed's control groups something of it runs on: {}", left.join(", "));
    let Ok(entries) = fs::read_dir(&directory) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        if path == bed.logs() {
            continue;
        }
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(())
}

/// Containers and whatever else runs in a mount namespace of a node's, told apart by no more than that.
fn processes_with_mounts_below(directory: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let below = format!("{}/", directory.display());
    for process in fs::read_dir("/proc").context("list the processes")? {
        let process = process?.path();
        // What is no process has no such file, and who has just ended has none any more.
        let Ok(mounts) = fs::read_to_string(process.join("mountinfo")) else { continue };
        if mounts.contains(&below) {
            let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
            found.push(format!("{} ({})", name.trim_end(), process.display()));
        }
    }
    Ok(found)
}

/// Nothing of the bed is mounted in the machine's own mount namespace, unless by hand: but to delete what is
/// mounted would be to delete its content.
fn unmount_below(directory: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("read the table of mounts")?;
    let targets = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|at| Path::new(at).starts_with(directory));
    for target in targets.collect::<Vec<_>>().into_iter().rev() {
        let status =
            finish_silently("umount", Command::new("umount").args(["--lazy", target]), UNMOUNT_LIMIT)?;
        ensure!(status.success(), "unmount {target}");
    }
    Ok(())
}
