//! How far a replay is, and how long it will take. Pure: `now` is an argument.

use decree_wire::heartbeat::Rebuild;
use decree_wire::position::Position;
use tokio::time::Instant;

/// Before so many positions there is no pace.
const FEW: u64 = 20;

/// A replay, from where and when it began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    from: Position,
    began: Instant,
}

impl Pace {
    pub(super) fn new(from: Position, now: Instant) -> Self {
        Self { from, began: now }
    }

    /// Where it is at `next`; `target` is none as long as the log could not be asked.
    pub(super) fn at(&self, next: Position, target: Option<Position>, now: Instant) -> Rebuild {
        let (done, elapsed) = (next.0.saturating_sub(self.from.0), now.saturating_duration_since(self.began));
        let left = target.map(|target| u128::from(target.0.saturating_sub(next.0)));
        let remaining_ms = left
            .filter(|_| done >= FEW)
            .map(|left| u64::try_from(elapsed.as_millis() * left / u128::from(done)).unwrap_or(u64::MAX));
        Rebuild { target: target.unwrap_or(next).max(next), position: next, remaining_ms }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_what_was_done() {
        let begun = Instant::now();
        let pace = Pace::new(Position(100), begun);
        let at = |next, target| pace.at(Position(next), target, begun + Duration::from_secs(10));
        let target = Some(Position(300));
        assert_eq!(at(200, target).remaining_ms, Some(10_000));
        assert_eq!(at(300, target).remaining_ms, Some(0));
        assert_eq!(at(101, target).remaining_ms, None, "too early to say");
        let asked = at(150, None);
        assert_eq!((asked.target, asked.remaining_ms), (Position(150), None));
    }
}
