//! What a store that was opened again says of what was begun, ended and dealt with.

use decree_wire::position::Incarnation;
use decree_wire::settings::Dedup;

use super::super::rows::Last;
use super::*;
use crate::log::Mark;

const BOUNDS: Dedup = Dedup { window: 10, outcomes: 5, outcome_bytes: 1 << 20 };

#[test]
fn that_a_replay_differs_is_known_as_soon_as_it_has_passed() {
    let folder = tempfile::tempdir().unwrap();
    let (store, left) = Store::open(folder.path(), "boot").unwrap();
    assert_eq!(left.differs, None);
    let position = Position(7);
    let last = Last { position, mark: Mark { hash: [0; 32], leader_epoch: None } };
    let mut bookmark = Bookmark { last: Some(last), ..Bookmark::new(Incarnation("i".into())) };
    let differs = Some(Differs { position });
    let nothing = Dealt {
        position,
        fate: None,
        identity: None,
        settings: None,
        attempts: None,
        differs,
        bounds: BOUNDS,
    };
    store.record(&nothing, &mut bookmark).unwrap();
    drop(store);
    let (_, left) = Store::open(folder.path(), "boot").unwrap();
    assert_eq!(left.bookmark.and_then(|bookmark| bookmark.position()), Some(position));
    assert_eq!(left.differs, differs);
}

fn begun(position: u64, attempt: u32) -> Begun {
    let life = crate::life::Incarnation { boot: "boot".into(), listeners: [7].into() };
    Begun { position: Position(position), attempt, life, idempotent: false }
}

fn applied(store: &Store, bookmark: &mut Bookmark, position: u64) {
    let position = Position(position);
    let fate = Fate::Void("x".into());
    bookmark.last = Some(Last { position, mark: Mark { hash: [0; 32], leader_epoch: None } });
    let dealt = Dealt {
        position,
        fate: Some(&fate),
        identity: None,
        settings: None,
        attempts: None,
        differs: None,
        bounds: BOUNDS,
    };
    store.record(&dealt, bookmark).unwrap();
}

/// Whoever is killed between two lines of this is met by the next one with what stands at their ends.
#[test]
fn a_delivery_is_begun_until_the_commit_that_ends_it_and_the_next_one_anew() {
    let folder = tempfile::tempdir().unwrap();
    let left = || Store::open(folder.path(), "boot").unwrap().1.begun;
    let step = |what: &dyn Fn(&Store, &mut Bookmark)| {
        let (store, left) = Store::open(folder.path(), "boot").unwrap();
        let new = || Bookmark::new(Incarnation("i".into()));
        what(&store, &mut left.bookmark.unwrap_or_else(new));
    };
    step(&|store, _| store.begin(&begun(1, 1)).unwrap());
    assert_eq!(left(), Some(begun(1, 1)));
    step(&|store, _| store.in_doubt(&Attempts::default()).unwrap());
    assert_eq!(left(), Some(begun(1, 1)), "in doubt it stays begun");
    step(&|store, _| store.begin(&begun(1, 2)).unwrap());
    assert_eq!(left(), Some(begun(1, 2)));
    step(&|store, _| store.not_processed(&Attempts::default()).unwrap());
    assert_eq!(left(), None);
    step(&|store, _| store.begin(&begun(1, 3)).unwrap());
    assert_eq!(left(), Some(begun(1, 3)));
    step(&|store, bookmark| applied(store, bookmark, 1));
    assert_eq!(left(), None);
    step(&|store, bookmark| {
        store.begin(&begun(2, 1)).unwrap();
        applied(store, bookmark, 2);
        store.begin(&begun(3, 1)).unwrap();
    });
    assert_eq!(left(), Some(begun(3, 1)));
    step(&|store, _| store.forget(None, &Attempts::default()).unwrap());
    assert_eq!(left(), None);
    step(&|store, _| store.begin(&begun(1, 1)).unwrap());
    assert_eq!(left(), Some(begun(1, 1)), "positions begin anew, deliveries go on");
}

#[test]
fn what_an_older_build_wrote_is_understood() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(folder.path(), "boot").unwrap();
    let old = serde_json::json!({
        "incarnation": "i", "last": null, "log_time": 5, "chain": {"hash": vec![7; 32], "compared": null},
        "floor": 1, "swept": 0, "kept": {"from": 0, "count": 0, "bytes": 0}, "life": null, "reached": true,
    });
    let mut batch = store.batch();
    store.put(&mut batch, BOOKMARK, &old).unwrap();
    store.put(&mut batch, BEGUN, &begun(8, 2)).unwrap();
    commit(batch).unwrap();
    drop(store);
    std::fs::remove_file(folder.path().join("journal-boot/begun")).unwrap();
    for _ in 0..2 {
        let (_, left) = Store::open(folder.path(), "boot").unwrap();
        let bookmark = left.bookmark.unwrap();
        assert_eq!((bookmark.log_time, bookmark.chain.hash, bookmark.floor), (5, [7; 32], Position(1)));
        assert_eq!(left.begun, Some(begun(8, 2)));
    }
    let (store, left) = Store::open(folder.path(), "boot").unwrap();
    applied(&store, &mut left.bookmark.unwrap(), 8);
    drop(store);
    assert_eq!(Store::open(folder.path(), "boot").unwrap().1.begun, None);
}

#[test]
fn another_boot_voids_it() {
    let folder = tempfile::tempdir().unwrap();
    let (store, left) = Store::open(folder.path(), "one").unwrap();
    assert!(left.bookmark.is_none());
    store.note(&Bookmark::new(Incarnation("i".into()))).unwrap();
    drop(store);
    let (store, left) = Store::open(folder.path(), "one").unwrap();
    assert!(left.bookmark.is_some());
    drop(store);
    let (_, left) = Store::open(folder.path(), "two").unwrap();
    assert!(left.bookmark.is_none());
}
