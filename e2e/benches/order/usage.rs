//! What a process holds and burns, as the kernel counts it.

use std::time::Instant;

use anyhow::{Context, Result};

/// What the kernel shows to programs, on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process, watched from now on.
#[derive(Debug)]
pub(crate) struct Usage {
    pid: u32,
    since: Instant,
    ticks: u64,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        Ok(Self { pid, since: Instant::now(), ticks: ticks(pid)? })
    }

    /// Resident MB now, and the share of one core burnt since this began.
    pub(crate) fn read(&self) -> Result<(f64, f64)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("find VmRSS")?;
        let kib: f64 = line.split_whitespace().nth(1).context("read VmRSS")?.parse()?;
        let burnt = (ticks(self.pid)? - self.ticks) as f64 / TICKS_PER_SECOND;
        Ok((kib * 1024.0 / 1e6, burnt / self.since.elapsed().as_secs_f64()))
    }
}

/// User and system time: fields 14 and 15, counted behind the name, which may hold spaces.
fn ticks(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(") ").context("read a process's times")?;
    let mut fields = rest.split(' ').skip(11);
    let mut next = || -> Result<u64> { Ok(fields.next().context("read a process's times")?.parse()?) };
    Ok(next()? + next()?)
}
