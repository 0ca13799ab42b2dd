//! What is older than the settings' bounds leaves the store: bit by bit, with each entry that is recorded.

use fjall::OwnedWriteBatch as WriteBatch;

use super::super::rows::{Bookmark, Kept};
use super::{Dealt, Error, Name, Store, failed, position};

/// At most so many rows are swept away with one entry: what has to go goes bit by bit.
const SWEEP: usize = 64;

/// So many more than `bound` are kept until they are swept away together. The same in every agent.
fn slack(bound: u64) -> u64 {
    (bound / 128).min(SWEEP as u64)
}

impl Store {
    pub(super) fn sweep_identities(
        &self,
        batch: &mut WriteBatch,
        bookmark: &mut Bookmark,
        dealt: &Dealt<'_>,
    ) -> Result<(), Error> {
        // Once in a while, many at once: to find the first is most of the work.
        if bookmark.floor.0.saturating_sub(bookmark.swept.0) <= slack(dealt.bounds.window) {
            return Ok(());
        }
        let own = dealt.identity.map(|(Name(hash), _)| hash);
        let mut swept = bookmark.floor;
        let (from, to) = (bookmark.swept.0.to_be_bytes(), bookmark.floor.0.to_be_bytes());
        for (n, row) in self.positions.range(from..to).enumerate() {
            let (key, hash) = row.into_inner().map_err(failed("read"))?;
            let position = position(&key)?;
            if n == SWEEP {
                swept = position;
                break;
            }
            // The identity may have come again since, or with this entry: then the row is that one's.
            let again = own.as_ref().is_some_and(|own| own[..] == hash[..]);
            if !again && self.place(&hash)?.is_some_and(|(of, _)| of == position) {
                batch.remove(&self.identities, hash);
            }
            batch.remove(&self.positions, key);
        }
        bookmark.swept = swept;
        Ok(())
    }

    pub(super) fn sweep_fates(
        &self,
        batch: &mut WriteBatch,
        bookmark: &mut Bookmark,
        dealt: &Dealt<'_>,
    ) -> Result<(), Error> {
        let bounds = dealt.bounds;
        let kept = &mut bookmark.kept;
        let over = |kept: &Kept, slack| {
            kept.count > bounds.outcomes.saturating_add(slack) || kept.bytes > bounds.outcome_bytes
        };
        if !over(kept, slack(bounds.outcomes)) {
            return Ok(());
        }
        for row in self.fates.range(kept.from.0.to_be_bytes()..dealt.position.0.to_be_bytes()) {
            if !over(kept, 0) {
                break;
            }
            let (key, fate) = row.into_inner().map_err(failed("read"))?;
            kept.count = kept.count.saturating_sub(1);
            kept.bytes = kept.bytes.saturating_sub(fate.len() as u64);
            kept.from = position(&key)?.next();
            batch.remove(&self.fates, key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use decree_wire::command::{Fingerprint, Identity};
    use decree_wire::position::{Incarnation, Position};
    use decree_wire::settings::Dedup;

    use super::super::super::rows::{Fate, Last};
    use super::*;
    use crate::log::Mark;

    const BOUNDS: Dedup = Dedup { window: 10, outcomes: 5, outcome_bytes: 1 << 20 };

    fn identity(n: u64) -> Identity {
        Identity { source: "s".into(), id: n.to_string() }
    }

    fn void(store: &Store, bookmark: &mut Bookmark, n: u64, bounds: Dedup) {
        let (identity, fate) = (identity(n), Fate::Void(n.to_string()));
        let position = Position(n);
        let dealt = Dealt {
            position,
            fate: Some(&fate),
            identity: Some((Name::of(&identity), Fingerprint([0; 32]))),
            settings: None,
            attempts: None,
            differs: None,
            bounds,
        };
        bookmark.last = Some(Last { position, mark: Mark { hash: [0; 32], leader_epoch: None } });
        store.record(&dealt, bookmark).unwrap();
    }

    #[test]
    fn what_is_too_old_leaves_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path(), "boot").unwrap();
        let mut bookmark = Bookmark::new(Incarnation("i".into()));
        for n in 0..100 {
            void(&store, &mut bookmark, n, BOUNDS);
        }
        assert_eq!((store.identities.len().unwrap(), store.positions.len().unwrap()), (11, 11));
        assert_eq!(store.fates.len().unwrap(), 5);
        assert_eq!(bookmark.kept, Kept { from: Position(95), count: 5, bytes: 15 });
        assert_eq!(store.identity(&Name::of(&identity(89))).unwrap().map(|(at, _)| at), Some(Position(89)));
        assert_eq!(store.identity(&Name::of(&identity(88))).unwrap(), None);
        let large = Dedup { outcome_bytes: 7, ..BOUNDS };
        void(&store, &mut bookmark, 100, large);
        assert_eq!(bookmark.kept, Kept { from: Position(99), count: 2, bytes: 7 });
    }

    #[test]
    fn a_window_that_shrinks_is_swept_bit_by_bit_and_forgets_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path(), "boot").unwrap();
        let mut bookmark = Bookmark::new(Incarnation("i".into()));
        let wide = Dedup { window: 1000, ..BOUNDS };
        for n in 0..200 {
            void(&store, &mut bookmark, n, wide);
        }
        void(&store, &mut bookmark, 200, BOUNDS);
        assert_eq!((bookmark.floor, bookmark.swept), (Position(190), Position(SWEEP as u64)));
        for n in 201..204 {
            void(&store, &mut bookmark, n, wide);
        }
        assert_eq!(
            (bookmark.floor, bookmark.swept),
            (Position(190), Position(190)),
            "what was forgotten stays so"
        );
    }
}
