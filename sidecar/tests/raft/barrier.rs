//! A barrier on a group costs no entry, and passes also where a new leader's own entry is the last.

use std::sync::Arc;
use std::time::Duration;

use decree_sidecar::app::scripted::ScriptedApp;
use decree_sidecar::barrier::Barriers;
use decree_sidecar::life::scripted::ScriptedLife;
use decree_sidecar::log::{Log, NewEntry};
use decree_sidecar::replica::{Config, Replica};
use decree_wire::control::Control;
use decree_wire::position::EngineName;
use decree_wire::probe::Restart;
use decree_wire::settings::{Dedup, Settings};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::group::{Group, LIMIT, append, command, shared};

#[tokio::test(flavor = "multi_thread")]
async fn a_barrier_is_no_entry_and_waits_for_all_that_was_ordered_anywhere() {
    let group = Group::of(3).await;
    let engine = EngineName { namespace: "n".into(), name: "e".into() };
    let dedup = Dedup { window: 500, outcomes: 100, outcome_bytes: 1 << 20 };
    let settings = Settings { engine: engine.clone(), cluster: "c".into(), dedup, classes: [].into() };
    group.at(0).append(&NewEntry::Control(Control::Settings(settings))).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let log: Arc<dyn Log> = shared(group.at(2));
    let config = Config {
        engine,
        cluster: "c".into(),
        class: "x".into(),
        replicates: false,
        restart: Restart::Container,
        state: folder.path().join("state"),
        expected: watch::channel(Some(log.incarnation().await.unwrap())).1,
    };
    let app = Arc::new(ScriptedApp::default());
    let life = Arc::new(ScriptedLife::new(1));
    let (replica, handle) = Replica::open(config, log.clone(), app.clone(), life).unwrap();
    let (barriers, barrier) = Barriers::new("a".into(), log.clone(), handle);
    let stop = CancellationToken::new();
    let running = tokio::spawn(replica.run(stop.clone()));
    let passing = tokio::spawn(barriers.run(stop.clone()));

    for n in 0..20 {
        let told = append(group.at(n % 2), n).await;
        barrier.pass(LIMIT).await.unwrap();
        assert!(app.positions().contains(&told.0), "{told} was not applied");
    }
    let head = log.head().await.unwrap();
    for _ in 0..20 {
        barrier.pass(LIMIT).await.unwrap();
    }
    assert_eq!(log.head().await.unwrap(), head, "a barrier is no entry");

    // A new leader writes an entry of its own: nothing for a replica, and the log's end.
    let leader = group.leader().await;
    assert!(group.at(leader).hand_over(Duration::from_secs(10)).await);
    barrier.pass(LIMIT).await.unwrap();
    let told = log.append(&command("last")).await.unwrap();
    barrier.pass(LIMIT).await.unwrap();
    assert!(app.positions().contains(&told.0));

    stop.cancel();
    running.await.unwrap().unwrap();
    passing.await.unwrap();
    group.close().await;
}
