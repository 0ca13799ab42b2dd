//! What is going on and for how long, told on standard error while people wait.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

const HEARTBEAT: Duration = Duration::from_secs(15);

/// Tells the steps of one long piece of work.
#[derive(Debug)]
pub struct Progress {
    start: Instant,
}

impl Progress {
    #[expect(clippy::new_without_default, reason = "it starts a clock")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// Since when this tells.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// One line that belongs to no step.
    pub fn say(&self, line: &str) {
        eprintln!("[{:>7}] {line}", pretty(self.start.elapsed()));
    }

    /// Does one step: a line at its start, one at its end, and one now and then between.
    pub fn step<T>(&self, what: &str, log: Option<&Path>, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        self.say(what);
        let (done, wait) = channel::<()>();
        let result = std::thread::scope(|scope| {
            let teller = scope.spawn(move || {
                while wait.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
                    let lines = log.map(lines_of).unwrap_or_default();
                    self.say(&format!("{what}: {} so far{lines}", pretty(start.elapsed())));
                }
            });
            let result = work();
            drop(done);
            teller.join().map_err(|_| anyhow!("the thread that tells progress panicked"))?;
            result
        });
        let end = if result.is_ok() { "done" } else { "failed" };
        self.say(&format!("{what}: {end} after {}", pretty(start.elapsed())));
        result
    }
}

/// A build's log grows by a line a package: the only sign of life that a compiler gives.
fn lines_of(log: &Path) -> String {
    let lines =
        std::fs::read(log).map(|text| text.iter().filter(|byte| **byte == b'\n').count()).unwrap_or(0);
    format!(", {lines} lines of log")
}

fn pretty(time: Duration) -> String {
    let (minutes, seconds) = (time.as_secs() / 60, time.as_secs_f64() % 60.0);
    if minutes == 0 { format!("{seconds:.1} s") } else { format!("{minutes}m {seconds:02.0}s") }
}
