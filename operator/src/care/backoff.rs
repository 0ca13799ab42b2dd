//! How long an owner's pods are left alone after one of them was evicted. Pure: `now` is an argument.

use std::time::{Duration, Instant};

/// After the first eviction; each further one doubles it.
const FIRST: Duration = Duration::from_secs(10);
/// It does not grow beyond this.
const LONGEST: Duration = Duration::from_secs(300);
/// After so long without an eviction the next one is a first again.
const FORGOTTEN: Duration = Duration::from_secs(900);

/// What is remembered of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    times: u32,
    last: Instant,
}

impl Backoff {
    /// A pod was evicted, after `before`.
    #[must_use]
    pub fn after(before: Option<Self>, now: Instant) -> Self {
        let before = before.filter(|before| !before.is_over(now));
        Self { times: before.map_or(1, |before| before.times.saturating_add(1)), last: now }
    }

    /// How long the next one has to wait; none if it need not.
    #[must_use]
    pub fn left(&self, now: Instant) -> Option<Duration> {
        let doublings = self.times.saturating_sub(1).min(8);
        let wait = (FIRST * 2_u32.pow(doublings)).min(LONGEST);
        wait.checked_sub(now.saturating_duration_since(self.last)).filter(|left| !left.is_zero())
    }

    /// Whether nothing of it counts any more.
    #[must_use]
    pub fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= FORGOTTEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_to_a_limit_and_is_forgotten() {
        let start = Instant::now();
        let mut backoff = Backoff::after(None, start);
        assert_eq!(backoff.left(start + FIRST), None);
        let mut waits = vec![];
        for _ in 0..7 {
            waits.push(backoff.left(start).unwrap().as_secs());
            backoff = Backoff::after(Some(backoff), start);
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
        let later = start + FORGOTTEN;
        assert_eq!(Backoff::after(Some(backoff), later), Backoff::after(None, later));
    }
}
