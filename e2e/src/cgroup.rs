//! A control group a host of the bed, in every hierarchy: whatever a bed started is found there, also after a crash.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::cluster::Bed;
use crate::wait;

/// Makes the group of one host and gives its `cgroup.procs` files: who writes itself there belongs to it, and so
/// do its children, containers included.
pub(crate) fn create(bed: &Bed, host: &str) -> Result<Vec<PathBuf>> {
    let mut members = Vec::new();
    for top in groups_of(bed)? {
        let group = top.join(host);
        fs::create_dir_all(&group).with_context(|| format!("create {}", group.display()))?;
        // A new cpuset is empty, and an empty one takes no process.
        for parent in [&top, &group] {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                inherit(parent, file)?;
            }
        }
        members.push(group.join("cgroup.procs"));
    }
    Ok(members)
}

fn inherit(group: &Path, file: &str) -> Result<()> {
    let (own, above) = (group.join(file), group.with_file_name(file));
    if own.exists() && fs::read_to_string(&own)?.trim().is_empty() && above.exists() {
        fs::write(&own, fs::read_to_string(above)?).with_context(|| format!("write {}", own.display()))?;
    }
    Ok(())
}

/// A host's group in each hierarchy, and the hierarchy's root.
pub(crate) fn roots(bed: &Bed, host: &str) -> Result<Vec<(PathBuf, PathBuf)>> {
    let pair = |top: PathBuf| Some((top.join(host), top.parent()?.to_path_buf()));
    Ok(groups_of(bed)?.into_iter().filter_map(pair).collect())
}

fn name(bed: &Bed) -> String {
    format!("decree-bed-{}", bed.name())
}

/// The bed's group in each hierarchy, there or not.
fn groups_of(bed: &Bed) -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("read the table of mounts")?;
    let hierarchies = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (target, kind) = (fields.nth(1)?, fields.next()?);
        kind.starts_with("cgroup").then(|| Path::new(target).join(name(bed)))
    });
    Ok(hierarchies.collect())
}

/// Kills all processes of one host, or of the bed.
pub(crate) fn kill(bed: &Bed, host: Option<&str>) -> Result<()> {
    let groups: Vec<PathBuf> =
        groups_of(bed)?.iter().map(|top| host.map_or(top.clone(), |h| top.join(h))).collect();
    wait::until_every(
        Duration::from_millis(20),
        "the bed's processes to end",
        Duration::from_secs(30),
        || {
            let alive: BTreeSet<i32> = groups.iter().flat_map(|group| processes_below(group)).collect();
            for pid in alive.iter().filter_map(|pid| Pid::from_raw(*pid)) {
                // Gone already is as good.
                let _ = kill_process(pid, Signal::KILL);
            }
            anyhow::ensure!(alive.is_empty(), "still there: {alive:?}");
            Ok(Some(()))
        },
    )
}

fn processes_below(group: &Path) -> Vec<i32> {
    let own = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<i32> = own.lines().filter_map(|line| line.parse().ok()).collect();
    for child in children(group) {
        found.extend(processes_below(&child));
    }
    found
}

fn children(group: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(group) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).filter(|path| path.is_dir()).collect()
}

/// Removes the bed's groups, which must be empty of processes.
pub(crate) fn remove(bed: &Bed) -> Result<()> {
    let groups = groups_of(bed)?;
    // The kernel lets go of a group a little after its last process has ended.
    wait::until_every(
        Duration::from_millis(20),
        "control groups to be removed",
        Duration::from_secs(10),
        || {
            groups.iter().try_for_each(|group| remove_tree(group))?;
            Ok(Some(()))
        },
    )
}

fn remove_tree(group: &Path) -> Result<()> {
    if !group.exists() {
        return Ok(());
    }
    children(group).iter().try_for_each(|child| remove_tree(child))?;
    fs::remove_dir(group).with_context(|| format!("remove {}", group.display()))
}
