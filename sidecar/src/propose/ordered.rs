//! What this agent ordered and has not applied yet, as far as it knows: a repeat of it needs no second entry.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use decree_wire::command::{Fingerprint, Identity};
use decree_wire::position::Position;

/// So many of this agent's own commands are remembered as ordered while they are not yet applied.
const REMEMBERED: usize = 4096;

/// This agent's own commands that are ordered, and not applied as far as is known.
#[derive(Debug, Default)]
pub(super) struct Own(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// In the order in which they were heard of.
    order: VecDeque<(Arc<Identity>, Position)>,
    /// More than one under an identity only where their contents differ.
    places: HashMap<Arc<Identity>, Vec<(Position, Fingerprint)>>,
}

impl Own {
    /// Where the command of an identity stands, whatever its content.
    pub(super) fn position(&self, identity: &Identity) -> Option<Position> {
        self.lock().places.get(identity)?.first().map(|(position, _)| *position)
    }

    /// Where the same command stands already, from `next` on. One of other content under the identity is left to the
    /// log: whether that one holds the identity shows only once it is applied.
    pub(super) fn same(
        &self,
        identity: &Identity,
        fingerprint: Fingerprint,
        next: Position,
    ) -> Option<Position> {
        let same = |own: &&(Position, Fingerprint)| own.0 >= next && own.1 == fingerprint;
        self.lock().places.get(identity)?.iter().find(same).map(|(position, _)| *position)
    }

    /// Remembers a command; those before `next` are applied, and the oldest make room.
    pub(super) fn remember(
        &self,
        identity: &Identity,
        fingerprint: Fingerprint,
        position: Position,
        next: Position,
    ) {
        let mut kept = self.lock();
        while kept.order.front().is_some_and(|(_, old)| *old < next) || kept.order.len() >= REMEMBERED {
            kept.forget_oldest();
        }
        let identity = Arc::new(identity.clone());
        kept.order.push_back((Arc::clone(&identity), position));
        kept.places.entry(identity).or_default().push((position, fingerprint));
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn forget_oldest(&mut self) {
        let Some((identity, position)) = self.order.pop_front() else { return };
        if let Some(places) = self.places.get_mut(&identity) {
            places.retain(|(at, _)| *at != position);
            if places.is_empty() {
                self.places.remove(&identity);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_found_by_its_identity_until_it_is_applied_or_makes_room() {
        let own = Own::default();
        let identity = |id: u64| Identity { source: "s".into(), id: id.to_string() };
        let (one, other) = (Fingerprint([1; 32]), Fingerprint([2; 32]));
        own.remember(&identity(0), one, Position(5), Position(0));
        own.remember(&identity(0), other, Position(6), Position(0));
        assert_eq!(own.position(&identity(0)), Some(Position(5)));
        assert_eq!(own.same(&identity(0), other, Position(0)), Some(Position(6)));
        assert_eq!(own.same(&identity(0), one, Position(6)), None, "it is applied");
        assert_eq!(own.same(&identity(1), one, Position(0)), None);
        own.remember(&identity(1), one, Position(7), Position(6));
        assert_eq!(own.position(&identity(0)), Some(Position(6)));
        for id in 2..=REMEMBERED as u64 {
            own.remember(&identity(id), one, Position(6 + id), Position(6));
        }
        assert_eq!(own.position(&identity(0)), None, "it made room");
        assert_eq!(own.position(&identity(1)), Some(Position(7)));
        let kept = own.lock();
        assert_eq!((kept.order.len(), kept.places.len()), (REMEMBERED, REMEMBERED));
    }
}
