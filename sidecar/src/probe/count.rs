//! When a check is due, and how many have failed in a row. Pure: `now` is an argument.

use std::time::Duration;

use decree_wire::probe::{Liveness, TOLD};
use tokio::time::Instant;

/// Failed checks in a row.
#[derive(Debug, Default)]
pub(super) struct Count {
    /// When the last check began.
    began: Option<Instant>,
    failed: u32,
    /// Why the last one failed.
    why: String,
    /// How often it was told that the container is to be restarted.
    told: u32,
}

impl Count {
    /// Whether the user's period is over.
    pub(super) fn due(&self, liveness: &Liveness, now: Instant) -> bool {
        let period = Duration::from_secs(liveness.period_seconds.max(1).into());
        self.began.is_none_or(|began| now.saturating_duration_since(began) >= period)
    }

    pub(super) fn begins(&mut self, now: Instant) {
        self.began = Some(now);
    }

    pub(super) fn checked(&mut self, result: Result<(), String>) {
        match result {
            Ok(()) => (self.failed, self.told) = (0, 0),
            Err(why) => {
                self.failed = self.failed.saturating_add(1);
                self.why = why;
            }
        }
    }

    /// What the kubelet is told.
    pub(super) fn told(&mut self, liveness: &Liveness) -> Result<(), String> {
        if self.failed < liveness.failure_threshold.max(1) {
            return Ok(());
        }
        if self.told == TOLD {
            (self.failed, self.told) = (0, 0);
            return Ok(());
        }
        self.told += 1;
        Err(format!(
            "the application's own liveness check failed {} times in a row: {}",
            self.failed, self.why
        ))
    }
}

#[cfg(test)]
mod tests {
    use decree_wire::probe::{Check, FAILURES, TcpSocket};

    use super::*;

    fn liveness() -> Liveness {
        Liveness {
            check: Check::TcpSocket(TcpSocket { port: 80, host: None }),
            period_seconds: 10,
            timeout_seconds: 1,
            failure_threshold: 3,
            success_threshold: 1,
        }
    }

    fn fail(count: &mut Count) {
        count.checked(Err("refused".into()));
    }

    #[test]
    fn it_is_checked_at_the_users_period() {
        let (mut count, start) = (Count::default(), Instant::now());
        assert!(count.due(&liveness(), start));
        count.begins(start);
        assert!(!count.due(&liveness(), start + Duration::from_secs(9)));
        assert!(count.due(&liveness(), start + Duration::from_secs(10)));
    }

    #[test]
    fn it_fails_at_the_users_threshold_in_a_row() {
        let mut count = Count::default();
        fail(&mut count);
        fail(&mut count);
        assert_eq!(count.told(&liveness()), Ok(()));
        count.checked(Ok(()));
        fail(&mut count);
        fail(&mut count);
        assert_eq!(count.told(&liveness()), Ok(()));
        fail(&mut count);
        assert!(count.told(&liveness()).unwrap_err().contains("3 times in a row: refused"));
        count.checked(Ok(()));
        assert_eq!(count.told(&liveness()), Ok(()));
    }

    #[test]
    fn the_next_life_begins_with_a_count_of_its_own() {
        let mut count = Count::default();
        (0..3).for_each(|_| fail(&mut count));
        for _ in 0..FAILURES {
            assert!(count.told(&liveness()).is_err(), "as often as the kubelet needs");
        }
        while count.told(&liveness()).is_err() {}
        fail(&mut count);
        assert_eq!(count.told(&liveness()), Ok(()));
    }
}
