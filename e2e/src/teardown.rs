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
