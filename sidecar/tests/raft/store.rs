//! The store keeps what it said it has, and says when it does not.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use decree_sidecar::log::raft::genesis::Genesis;
use decree_sidecar::log::raft::machine::{Machine, Upto};
use decree_sidecar::log::raft::measures::Measures;
use decree_sidecar::log::raft::store::{Error, Store};
use decree_sidecar::log::raft::types::{
    CommittedLeaderId, Entry, Flushed, LogId, Proposal, TypeConfig, Vote,
};
use decree_wire::position::{Incarnation, Position};
use openraft::storage::RaftLogStorage;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use openraft::{EntryPayload, RaftLogReader, StorageError};
use tempfile::TempDir;

struct Builder;

impl StoreBuilder<TypeConfig, Store, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, Store, Machine), StorageError<TypeConfig>> {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).unwrap();
        let machine = Machine::new(store.clone(), Upto::default());
        Ok((folder, store, machine))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_what_openraft_wants() {
    Suite::test_all(Builder).await.unwrap();
}

fn open(folder: &Path) -> Result<Store, Error> {
    Store::open(folder, Measures::default().synced, || 7)
}

/// The last handle was dropped, and its thread ends in a moment.
async fn reopen(folder: &Path) -> Result<Store, Error> {
    let until = std::time::Instant::now() + crate::group::LIMIT;
    loop {
        match open(folder) {
            Err(error) if error.to_string().contains("ock") && std::time::Instant::now() < until => {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            other => return other,
        }
    }
}

fn genesis() -> Genesis {
    Genesis { base: Position(100), ..Genesis::fixed(Incarnation("i".into())) }
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term), index)
}

fn entry(term: u64, index: u64, size: usize) -> Entry {
    let record = Bytes::from(vec![b'x'; size]);
    let log_time = i64::try_from(index).unwrap();
    Entry { log_id: id(term, index), payload: EntryPayload::Normal(Proposal { log_time, record }) }
}

async fn append(store: &mut Store, entries: impl IntoIterator<Item = Entry> + Send) {
    let (flushed, on_disk) = TypeConfig::oneshot();
    let entries: Vec<_> = entries.into_iter().collect();
    store.append(entries, Flushed::signal(flushed)).await.unwrap();
    on_disk.await.unwrap().unwrap();
}

async fn terms(store: &mut Store) -> Vec<(u64, u64)> {
    let entries = store.try_get_log_entries(..).await.unwrap();
    entries.iter().map(|entry| (entry.log_id.committed_leader_id().term, entry.log_id.index())).collect()
}

#[tokio::test]
async fn everything_is_there_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path()).unwrap();
    let vote = Vote::new(3, 7);
    store.adopt(genesis()).await.unwrap();
    store.save_vote(&vote).await.unwrap();
    append(&mut store, (0..10).map(|index| entry(1, index, 10))).await;
    store.truncate_after(Some(id(1, 5))).await.unwrap();
    append(&mut store, (6..9).map(|index| entry(2, index, 10))).await;
    store.purge(id(1, 2)).await.unwrap();
    store.save_committed(Some(id(2, 7))).await.unwrap();
    store.flush().await.unwrap();
    drop(store);

    let mut store = reopen(folder.path()).await.unwrap();
    assert_eq!((store.id(), store.genesis()), (7, Some(&genesis())));
    assert_eq!(store.read_vote().await.unwrap(), Some(vote));
    assert_eq!(store.read_committed().await.unwrap(), Some(id(2, 7)));
    assert_eq!(terms(&mut store).await, [(1, 3), (1, 4), (1, 5), (2, 6), (2, 7), (2, 8)]);
    assert_eq!(store.log_time(), 9, "also of an entry that was cut off: time never goes back");
    let state = store.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(id(1, 2)), Some(id(2, 8))));
}

#[tokio::test]
async fn the_newest_log_time_outlives_the_entries() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path()).unwrap();
    store.adopt(genesis()).await.unwrap();
    append(&mut store, (0..10).map(|index| entry(1, index, 10))).await;
    store.purge(id(1, 9)).await.unwrap();
    drop(store);
    let mut store = reopen(folder.path()).await.unwrap();
    assert!(terms(&mut store).await.is_empty());
    assert_eq!(store.log_time(), 9);
}

#[tokio::test]
async fn a_store_is_of_the_group_that_was_first_decided() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    assert_eq!(store.genesis(), None);
    let other = Genesis::fixed(Incarnation("other".into()));
    let (one, two) = tokio::join!(store.adopt(genesis()), store.adopt(other));
    assert_eq!((one.unwrap(), two.unwrap()), (&genesis(), &genesis()));
    drop(store);
    assert_eq!(reopen(folder.path()).await.unwrap().genesis(), Some(&genesis()));
}

#[tokio::test]
async fn what_is_not_certain_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path()).unwrap();
    append(&mut store, (0..10).map(|index| entry(1, index, 1_000_000))).await;
    assert!(store.backlog() > 10_000_000);
    store.set_applied(Some(id(1, 7)), Vec::new());
    assert!((2_000_000..3_000_000).contains(&store.backlog()), "{}", store.backlog());
    store.truncate_after(Some(id(1, 8))).await.unwrap();
    assert!((1_000_000..2_000_000).contains(&store.backlog()), "{}", store.backlog());
}

#[tokio::test]
async fn more_than_fits_into_memory_comes_in_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path()).unwrap();
    for round in 0..20_u64 {
        append(&mut store, (0..100).map(|n| entry(1, round * 100 + n, 10_000))).await;
    }
    for mut store in [store.clone(), store] {
        let (mut next, mut pieces) = (0, 0);
        while next < 2000 {
            let piece = store.limited_get_log_entries(next, 2000).await.unwrap();
            assert!(piece.len() < 200 && piece[0].log_id.index() == next, "{} from {next}", piece.len());
            next += piece.len() as u64;
            pieces += 1;
        }
        assert!(pieces >= 19, "{pieces}");
        assert_eq!(store.try_get_log_entries(..).await.unwrap().len(), 2000);
    }
}

/// The file that the newest writes are in.
fn journal(folder: &Path) -> PathBuf {
    let files = fs::read_dir(folder.join("log/store")).unwrap().map(|file| file.unwrap().path());
    let mut journals: Vec<_> =
        files.filter(|file| file.extension().is_some_and(|extension| extension == "jnl")).collect();
    journals.sort();
    journals.pop().unwrap()
}

/// How much of it is written.
fn written(journal: &Path) -> u64 {
    let bytes = fs::read(journal).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1)
}

/// A store with some entries; gives where the last write but one ended.
async fn filled(folder: &Path) -> u64 {
    let mut store = open(folder).unwrap();
    store.adopt(genesis()).await.unwrap();
    for index in 0..20 {
        append(&mut store, [entry(1, index, 500)]).await;
    }
    let end = written(&journal(folder));
    append(&mut store, [entry(1, 20, 500)]).await;
    end
}

#[tokio::test]
async fn a_torn_end_that_was_never_acknowledged_is_cut_off() {
    for torn in [1, 9, 100, 400] {
        let folder = tempfile::tempdir().unwrap();
        let end = filled(folder.path()).await;
        let file = OpenOptions::new().append(true).open(journal(folder.path())).unwrap();
        // As if the machine had lost its power within the last write: part of it is there, and no mark was set.
        file.set_len(end + torn).unwrap();
        set_mark(folder.path(), 21);
        let mut store = reopen(folder.path()).await.unwrap();
        assert_eq!(terms(&mut store).await.len(), 20, "torn after {torn} bytes");
        append(&mut store, [entry(2, 20, 10)]).await;
        drop(store);
        let mut store = reopen(folder.path()).await.unwrap();
        assert_eq!(terms(&mut store).await.last(), Some(&(2, 20)));
    }
}

/// Pages reach the disk in any order: of a write that was torn, the end may be there, and its middle not.
#[tokio::test]
async fn a_torn_write_with_a_hole_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let end = filled(folder.path()).await;
    let file = OpenOptions::new().write(true).open(journal(folder.path())).unwrap();
    file.write_all_at(&[0; 300], end + 40).unwrap();
    let error = reopen(folder.path()).await.unwrap_err().to_string();
    assert!(error.contains("lost 1 of its 22 writes"), "it was acknowledged: {error}");
    set_mark(folder.path(), 21);
    let mut store = reopen(folder.path()).await.unwrap();
    assert_eq!(terms(&mut store).await.len(), 20);
}

#[tokio::test]
async fn a_store_is_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("locked"), "{error}");
    drop(store);
    reopen(folder.path()).await.unwrap();
}

fn set_mark(folder: &Path, writes: u64) {
    let mark = OpenOptions::new().write(true).open(folder.join("log/mark")).unwrap();
    mark.write_all_at(&[writes.to_be_bytes(), (!writes).to_be_bytes()].concat(), 0).unwrap();
}

#[tokio::test]
async fn a_write_that_was_acknowledged_and_is_gone_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let end = filled(folder.path()).await;
    let file = OpenOptions::new().append(true).open(journal(folder.path())).unwrap();
    file.set_len(end).unwrap();
    let error = reopen(folder.path()).await.unwrap_err().to_string();
    assert!(error.contains("lost 1 of its 22 writes"), "{error}");
}

#[tokio::test]
async fn damage_anywhere_is_an_error_and_no_entry_less() {
    for part in 1..16 {
        let folder = tempfile::tempdir().unwrap();
        let end = filled(folder.path()).await;
        let file = OpenOptions::new().write(true).open(journal(folder.path())).unwrap();
        file.write_all_at(&[0xa5; 16], end * part / 16).unwrap();
        let error = reopen(folder.path()).await.unwrap_err().to_string();
        assert!(error.contains("damaged at byte"), "{part}/16: {error}");
    }
}
