//! A disk that fills up stops proposals, and nothing else; when there is room again, all goes on.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use decree_sidecar::log::{Error, Log, NewEntry};
use decree_wire::command;
use decree_wire::position::Position;

use crate::group::{append, eventually, genesis, member, open_member, read};
use crate::lines::Lines;

const FOLDER: &str = "DECREE_TEST_RAFT_ROOM";

/// In a mount namespace of its own, on a disk of 64 MiB.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the test below, in a process of its own"]
async fn on_a_small_disk() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let log = open_member(&folder.join("0"), &genesis(0), Lines::default().of("x")).await.unwrap();
    log.initialize(member(0)).await.unwrap();
    let mut told = vec![append(&log, "first").await];
    let large = |n: usize| {
        // Does not get smaller by compression.
        let payload: Vec<u8> = (0..8_usize << 10).flat_map(|_| uuid::Uuid::new_v4().into_bytes()).collect();
        let payload = Bytes::from(payload);
        NewEntry::Command(command::Command {
            id: Some(n.to_string()),
            payload,
            ..command::Command::default()
        })
    };
    let mut refused = None;
    for n in 0..1000 {
        match log.append(&large(n)).await {
            Ok(position) => told.push(position),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
        // Free space is looked at once a second; a client this fast would be ahead of it.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let Some(Error::Unreachable(why)) = refused else { panic!("the disk is full, and: {refused:?}") };
    assert!(why.contains("MiB left"), "{why}");
    assert!(log.room().is_err());
    // Whoever reads, and whoever asks how far the log goes, does not notice.
    let head = log.head().await.unwrap();
    let seen = read(&log, Position(0), head).await;
    assert_eq!(seen.iter().map(|stored| stored.entry.position).collect::<Vec<_>>(), told);
    // Room is made: something else on this disk goes away.
    std::fs::remove_file(folder.join("ballast")).unwrap();
    eventually("proposals are taken again", async || log.append(&large(0)).await.is_ok()).await;
    log.close().await;
}

#[test]
fn a_full_disk_stops_proposals_alone_until_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let test = std::env::current_exe().unwrap();
    let script = "mount -t tmpfs -o size=64m none \"$1\" && head -c 20M /dev/zero > \"$1/ballast\" \
                  && exec \"$2\" --exact room::on_a_small_disk --ignored --nocapture";
    let mut child = Command::new("unshare");
    child.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
    child.arg(folder.path()).arg(test).env(FOLDER, folder.path()).process_group(0);
    let output = child.output().unwrap();
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).join("\n");
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
