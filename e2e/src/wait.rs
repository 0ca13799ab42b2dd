//! Waiting for a condition with a deadline, and saying at its end what was last seen.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const INTERVAL: Duration = Duration::from_millis(250);

/// Polls until the condition gives a value. What it fails with is taken for what it saw, not for the end.
pub fn until<T>(
    what: impl Display,
    limit: Duration,
    condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    until_every(INTERVAL, what, limit, condition)
}

/// The same, for conditions that are cheap to ask.
pub(crate) fn until_every<T>(
    interval: Duration,
    what: impl Display,
    limit: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        let seen = match condition() {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => "not yet".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        if start.elapsed() >= limit {
            bail!("waited {} s for {what}; last seen: {seen}", limit.as_secs());
        }
        std::thread::sleep(interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_waiting_says_what_was_seen_last() {
        let mut seen = 0;
        let error =
            until_every(Duration::ZERO, "a third", Duration::from_millis(5), || -> Result<Option<()>> {
                seen += 1;
                bail!("number {seen}")
            })
            .unwrap_err();
        assert_eq!(error.to_string(), format!("waited 0 s for a third; last seen: number {seen}"));
    }
}
