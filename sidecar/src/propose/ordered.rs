//! What this agent ordered and has not applied yet, as far as it knows: a repeat of it needs no second entry.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use decree_wire::command::{Fingerprint, Identity};
use decree_wire::position::Position;

/// So many of this agent's own commands are remembered as ordered while they are not yet applied.
const REMEMBERED: usize = 4096;

/// This agent's own commands, by position.
#[derive(Debug, Default)]
pub(super) struct Own(Mutex<VecDeque<Ordered>>);

/// A command that this agent ordered, and has not applied yet as far as is known.
#[derive(Debug)]
pub(super) struct Ordered {
    pub(super) identity: Identity,
    pub(super) fingerprint: Fingerprint,
    pub(super) position: Position,
}

impl Own {
    /// Where the command of an identity stands, whatever its content.
    pub(super) fn position(&self, identity: &Identity) -> Option<Position> {
        self.lock().iter().find(|own| own.identity == *identity).map(|own| own.position)
    }

    /// Where the same command stands already, from `next` on. One of other content under the identity is left to the
    /// log: whether that one holds the identity shows only once it is applied.
    pub(super) fn same(
        &self,
        identity: &Identity,
        fingerprint: Fingerprint,
        next: Position,
    ) -> Option<Position> {
        let same = |own: &&Ordered| {
            own.position >= next && own.identity == *identity && own.fingerprint == fingerprint
        };
        self.lock().iter().find(same).map(|own| own.position)
    }

    /// Remembers a command; those before `next` are applied, and the oldest make room.
    pub(super) fn remember(&self, command: Ordered, next: Position) {
        let mut ordered = self.lock();
        while ordered.front().is_some_and(|old| old.position < next) || ordered.len() >= REMEMBERED {
            ordered.pop_front();
        }
        ordered.push_back(command);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Ordered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
