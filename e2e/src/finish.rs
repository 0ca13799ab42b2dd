//! Runs a command to its end, within a limit: what hangs is killed, and said with all that it printed.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

const LOOK: Duration = Duration::from_millis(10);
/// Of a command that was killed, the last so much is shown.
const SHOWN: usize = 4000;

/// Runs `command` with `input`, and gives what it printed.
pub(crate) fn finish(what: &str, command: &mut Command, input: &str, limit: Duration) -> Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {what}"))?;
    // Threads of their own: a program that prints while it reads would wait for us as we for it.
    let mut stdin = child.stdin.take().with_context(|| format!("open the input of {what}"))?;
    let input = input.as_bytes().to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let stdout = Printed::of(child.stdout.take().with_context(|| format!("open the output of {what}"))?);
    let stderr = Printed::of(child.stderr.take().with_context(|| format!("open the errors of {what}"))?);
    let Some(status) = until_ended(what, &mut child, limit)? else {
        bail!(
            "{what} did not end within {} s; it printed: {}{}",
            limit.as_secs(),
            stdout.end(),
            stderr.end()
        );
    };
    let written = writer.join().map_err(|_| anyhow!("the thread that feeds {what} panicked"))?;
    // A program that fails early need not read all.
    if status.success() {
        written.with_context(|| format!("write to {what}"))?;
    }
    Ok(Output { status, stdout: stdout.all(what)?, stderr: stderr.all(what)? })
}

/// Runs `command`, whose output goes elsewhere.
pub(crate) fn finish_silently(what: &str, command: &mut Command, limit: Duration) -> Result<ExitStatus> {
    let mut child = command.stdin(Stdio::null()).spawn().with_context(|| format!("start {what}"))?;
    match until_ended(what, &mut child, limit)? {
        Some(status) => Ok(status),
        None => bail!("{what} did not end within {} s", limit.as_secs()),
    }
}

/// How it ended; none if it had to be killed.
fn until_ended(what: &str, child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().with_context(|| format!("wait for {what}"))? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill().and_then(|()| child.wait()).with_context(|| format!("kill {what}"))?;
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
}

/// What a pipe has given so far.
struct Printed {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<std::io::Result<()>>,
}

impl Printed {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let read = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            loop {
                match pipe.read(&mut buffer)? {
                    0 => return Ok(()),
                    n => read.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..n]),
                }
            }
        });
        Self { bytes, reader }
    }

    fn all(self, what: &str) -> Result<Vec<u8>> {
        let read = self.reader.join().map_err(|_| anyhow!("the thread that reads from {what} panicked"))?;
        read.with_context(|| format!("read from {what}"))?;
        Ok(std::mem::take(&mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn end(&self) -> String {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(SHOWN)..]).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_is_read_whole_and_what_hangs_is_killed() {
        let input = "x".repeat(1 << 20);
        let copied = finish("cat", &mut Command::new("cat"), &input, Duration::from_secs(60)).unwrap();
        assert_eq!((copied.status.success(), copied.stdout.len()), (true, input.len()));
        let mut hangs = Command::new("sh");
        hangs.args(["-c", "echo so far; exec sleep 600"]);
        let error = finish("sh", &mut hangs, "", Duration::from_secs(5)).unwrap_err().to_string();
        assert!(error.contains("did not end within 5 s") && error.contains("so far"), "{error}");
    }
}
