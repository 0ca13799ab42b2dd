//! Who waits for what becomes of a position, and how far the replica has come for them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use decree_wire::heartbeat::Trouble;
use decree_wire::position::Position;
use tokio::sync::oneshot;

use super::resolution::Resolution;

/// More don't wait: a full queue is an answer.
const WAITERS: usize = 10_000;

/// How far the replica has come, and who waits for more.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    reach: Reach,
    halted: Option<Trouble>,
    waiting: BTreeMap<Position, Vec<oneshot::Sender<Resolution>>>,
    count: usize,
}

/// How far the replica has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reach {
    /// Everything before it was dealt with.
    pub(super) next: Position,
    /// Fates are kept from here on.
    pub(super) kept: Position,
    /// Identities are known from here on.
    pub(super) floor: Position,
}

/// What a waiter gets.
#[derive(Debug)]
pub(super) enum Wait {
    /// It was dealt with: the store knows.
    Over(Reach),
    /// It is to come.
    For(oneshot::Receiver<Resolution>),
    /// It won't come, or nobody may wait.
    No(Resolution),
}

impl Ledger {
    pub(super) fn wait(&self, position: Position) -> Wait {
        let mut state = self.state();
        if position < state.reach.next {
            return Wait::Over(state.reach);
        }
        if let Some(trouble) = &state.halted {
            return Wait::No(Resolution::Halted(trouble.clone()));
        }
        if state.count >= WAITERS {
            state.forget_those_that_left();
        }
        if state.count >= WAITERS {
            return Wait::No(Resolution::TooManyWaiters);
        }
        let (sender, receiver) = oneshot::channel();
        state.waiting.entry(position).or_default().push(sender);
        state.count += 1;
        Wait::For(receiver)
    }

    /// The replica has come to `reach`; `resolved` became of the entry before it. Every other position before it holds
    /// nothing.
    pub(super) fn reached(&self, reach: Reach, resolved: Option<(Position, Resolution)>) {
        let mut state = self.state();
        state.reach = reach;
        while let Some(first) = state.waiting.first_entry().filter(|first| *first.key() < reach.next) {
            let (position, senders) = first.remove_entry();
            state.count -= senders.len();
            let resolution = match &resolved {
                Some((of, resolution)) if *of == position => resolution.clone(),
                _ => Resolution::Passed,
            };
            for sender in senders {
                // Whoever no longer waits needs no answer.
                let _ = sender.send(resolution.clone());
            }
        }
    }

    pub(super) fn halt(&self, trouble: &Trouble) {
        let mut state = self.state();
        state.halted = Some(trouble.clone());
        state.count = 0;
        for sender in std::mem::take(&mut state.waiting).into_values().flatten() {
            let _ = sender.send(Resolution::Halted(trouble.clone()));
        }
    }

    pub(super) fn reach(&self) -> Reach {
        self.state().reach
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget_those_that_left(&mut self) {
        self.waiting.retain(|_, senders| {
            senders.retain(|sender| !sender.is_closed());
            !senders.is_empty()
        });
        self.count = self.waiting.values().map(Vec::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(next: u64) -> Reach {
        Reach { next: Position(next), ..Reach::default() }
    }

    fn receiver(wait: Wait) -> oneshot::Receiver<Resolution> {
        let Wait::For(receiver) = wait else { panic!("{wait:?}") };
        receiver
    }

    #[test]
    fn a_waiter_hears_of_its_own_position_or_that_nothing_is_there() {
        let ledger = Ledger::default();
        let (mut gap, mut own) = (receiver(ledger.wait(Position(3))), receiver(ledger.wait(Position(4))));
        let mut later = receiver(ledger.wait(Position(5)));
        let void = Resolution::Void("x".into());
        ledger.reached(reach(5), Some((Position(4), void.clone())));
        assert_eq!((gap.try_recv(), own.try_recv()), (Ok(Resolution::Passed), Ok(void)));
        assert!(later.try_recv().is_err());
        assert!(matches!(ledger.wait(Position(4)), Wait::Over(_)));
    }

    #[test]
    fn waiters_are_bounded_and_those_that_left_make_room() {
        let ledger = Ledger::default();
        let mut held: Vec<_> = (0..WAITERS).map(|_| receiver(ledger.wait(Position(1)))).collect();
        assert!(matches!(ledger.wait(Position(1)), Wait::No(Resolution::TooManyWaiters)));
        held.pop();
        assert!(matches!(ledger.wait(Position(1)), Wait::For(_)));
    }

    #[test]
    fn a_halt_answers_all_and_those_that_come_later() {
        let ledger = Ledger::default();
        let mut waiter = receiver(ledger.wait(Position(1)));
        let trouble = Trouble { reason: "r".into(), message: "m".into() };
        ledger.halt(&trouble);
        assert_eq!(waiter.try_recv(), Ok(Resolution::Halted(trouble.clone())));
        assert!(matches!(ledger.wait(Position(1)), Wait::No(Resolution::Halted(t)) if t == trouble));
    }
}
