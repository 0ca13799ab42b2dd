//! The bed's processes: started to outlive who started them, known again by pid and start time.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::cgroup;
use crate::cluster::Bed;
use crate::finish::finish_silently;
use crate::log_file;
use crate::wait;

/// What is run to its end prepares something within seconds; a busy machine may take longer.
const RUN_LIMIT: Duration = Duration::from_secs(300);

/// A program to run on one host of the bed.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    host: String,
    beside: Option<u32>,
    command: Vec<String>,
}

impl Program {
    pub(crate) fn new(name: impl Into<String>, host: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        let command = vec![program.into().display().to_string()];
        Self { name: name.into(), host: host.into(), beside: None, command }
    }

    pub(crate) fn arg(mut self, argument: impl Into<String>) -> Self {
        self.command.push(argument.into());
        self
    }

    pub(crate) fn args<A: Into<String>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Runs it with the mounts and the control groups that this process sees.
    pub(crate) fn with_view_of(mut self, pid: u32) -> Self {
        self.beside = Some(pid);
        self
    }

    /// Starts it, to run on after who started it. It has a log file and is known by its name from now on.
    pub(crate) fn start(&self, bed: &Bed) -> Result<u32> {
        let child = self.command(bed)?.spawn().with_context(|| format!("start {}", self.name))?;
        Record::of(child.id())?.write(bed, &self.name)?;
        Ok(child.id())
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, bed: &Bed) -> Result<()> {
        let status = finish_silently(&self.name, &mut self.command(bed)?, RUN_LIMIT)?;
        if status.success() { Ok(()) } else { Err(ended(bed, &self.name)) }
    }

    /// In a session of its own, in its host's network namespace and control group.
    fn command(&self, bed: &Bed) -> Result<Command> {
        let join: String = cgroup::create(bed, &self.host)?
            .iter()
            .map(|file| format!("echo $$ > {} || exit 125; ", file.display()))
            .collect();
        let logs = bed.logs();
        fs::create_dir_all(&logs).with_context(|| format!("create {}", logs.display()))?;
        let log = File::options().create(true).append(true).open(logs.join(format!("{}.log", self.name)))?;

        let mut command = Command::new("setsid");
        // The group is joined first: who sees another's mounts no longer sees the machine's hierarchies.
        command.args(["sh", "-c", &format!("{join}exec \"$@\""), &self.name]);
        command.arg("nsenter").arg(format!("--net={}", bed.network_namespace(&self.host).display()));
        if let Some(pid) = self.beside {
            command.args([format!("--mount=/proc/{pid}/ns/mnt"), format!("--cgroup=/proc/{pid}/ns/cgroup")]);
        }
        command
            .arg("--")
            .args(&self.command)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(command)
    }
}

/// What is remembered of a process: a pid alone may be somebody else's by now.
#[derive(Debug, PartialEq)]
struct Record {
    pid: u32,
    started: u64,
}

impl Record {
    fn of(pid: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
            .with_context(|| format!("read the state of {pid}"))?;
        // The second field is the program's name in brackets and may hold anything.
        let (_, fields) = stat.rsplit_once(')').context("find the end of the name in /proc/<pid>/stat")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let (state, started) = (fields.first().copied(), fields.get(19).and_then(|field| field.parse().ok()));
        match (state, started) {
            (Some("Z" | "X") | None, _) => bail!("process {pid} has ended"),
            (_, started) => Ok(Self { pid, started: started.context("read a start time")? }),
        }
    }

    fn write(&self, bed: &Bed, name: &str) -> Result<()> {
        let directory = bed.dir().join("processes");
        fs::create_dir_all(&directory)?;
        fs::write(directory.join(name), format!("{} {}", self.pid, self.started))
            .with_context(|| format!("remember process {name}"))
    }

    fn read(bed: &Bed, name: &str) -> Option<Self> {
        let text = fs::read_to_string(bed.dir().join("processes").join(name)).ok()?;
        let (pid, started) = text.split_once(' ')?;
        Some(Self { pid: pid.parse().ok()?, started: started.parse().ok()? })
    }
}

/// Pid of a process of the bed, if it runs.
pub(crate) fn pid(bed: &Bed, name: &str) -> Option<u32> {
    let record = Record::read(bed, name)?;
    (Record::of(record.pid).ok()? == record).then_some(record.pid)
}

pub(crate) fn is_alive(bed: &Bed, name: &str) -> bool {
    pid(bed, name).is_some()
}

/// All processes that were started and not stopped on purpose, and whether they still run.
pub(crate) fn all(bed: &Bed) -> Vec<(String, bool)> {
    let Ok(entries) = fs::read_dir(bed.dir().join("processes")) else { return Vec::new() };
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
    let mut all: Vec<(String, bool)> = names.map(|name| (name.clone(), is_alive(bed, &name))).collect();
    all.sort();
    all
}

/// Sends a signal and waits until the process has ended.
pub(crate) fn stop(bed: &Bed, name: &str, signal: Signal, limit: Duration) -> Result<()> {
    if let Some(pid) = pid(bed, name).and_then(|pid| Pid::from_raw(pid.cast_signed())) {
        kill_process(pid, signal).with_context(|| format!("send a signal to {name}"))?;
        wait::until(format!("{name} to end"), limit, || Ok((!is_alive(bed, name)).then_some(())))?;
    }
    let _ = fs::remove_file(bed.dir().join("processes").join(name));
    Ok(())
}

/// Waits until a check passes. That one of the processes it is about has ended is the end of the waiting, too.
pub(crate) fn wait_ready(
    bed: &Bed,
    names: &[&str],
    limit: Duration,
    mut check: impl FnMut() -> Result<()>,
) -> Result<()> {
    wait::until_every(Duration::from_millis(100), names.join(" and "), limit, || {
        match names.iter().find(|name| !is_alive(bed, name)) {
            Some(name) => Ok(Some(Err(ended(bed, name)))),
            None => check().map(|()| Some(Ok(()))),
        }
    })?
}

fn ended(bed: &Bed, name: &str) -> Error {
    let log = bed.logs().join(format!("{name}.log"));
    anyhow!("{name} has ended; the end of {}:\n{}", log.display(), log_file::tail(&log, 40))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_that_has_passed_on_is_not_taken_for_the_process() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let record = Record::of(child.id()).unwrap();
        assert_eq!(Record::of(child.id()).unwrap(), record);
        assert_ne!(Record { pid: record.pid, started: record.started - 1 }, record);
        child.kill().unwrap();
        wait::until("the end", Duration::from_secs(5), || Ok(Record::of(record.pid).err())).unwrap();
        child.wait().unwrap();
    }
}
