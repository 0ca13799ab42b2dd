//! A replica applies the log once and in order, survives its own ends, and halts where it can't know.

#![allow(clippy::unwrap_used, clippy::panic)]

mod replica {
    pub(crate) mod agent;
    mod counter;
    mod kills;
    mod rebuild;
    mod settings;
}

use std::time::Duration;

use bytes::Bytes;
use decree_sidecar::app::Unwell;
use decree_sidecar::app::scripted::Act;
use decree_sidecar::log::Log;
use decree_sidecar::replica::{Application, Resolution};
use decree_wire::command::{Command, Request};
use decree_wire::control::{Barrier, Control};
use decree_wire::heartbeat::State;
use decree_wire::position::{Incarnation, Position};
use decree_wire::record::{self, Record};
use decree_wire::settings::Settings;

use replica::agent::{World, command, identity, settings};

fn applied(resolution: Resolution) -> (u16, Bytes) {
    let Resolution::Applied { outcome } = resolution else { panic!("{resolution:?}") };
    (outcome.status, outcome.body)
}

#[tokio::test(start_paused = true)]
async fn commands_are_applied_once_and_in_order() {
    let world = World::new().await;
    let agent = world.start();
    let mut last = Position(0);
    for n in 0..300 {
        last = world.command(&n.to_string(), "x").await;
    }
    let progress = agent.at(last).await;
    assert_eq!(world.app.positions(), (1..=300).collect::<Vec<_>>());
    assert_eq!((progress.counts.applied, progress.counts.control), (300, 1));
    assert_eq!(progress.digest.unwrap().position, last);
    assert_eq!(progress.compared.unwrap().position, Position(256));
    let progress = agent.until(|p| p.caught_up() && p.application == Application::Healthy).await;
    assert_eq!((progress.state, progress.lag, progress.lag_ms), (State::Running, Some(0), Some(0)));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.log.committed(), last.next());
}

#[tokio::test(start_paused = true)]
async fn a_repeat_gets_the_first_answer_and_a_reused_id_none() {
    let world = World::new().await;
    let agent = world.start();
    let first = world.command("a", "1").await;
    let repeat = world.command("a", "1").await;
    let reused = world.command("a", "2").await;
    assert_eq!(applied(agent.handle.resolved(first).await.unwrap()), (200, "1".into()));
    let Resolution::Duplicate { of, outcome } = agent.handle.resolved(repeat).await.unwrap() else {
        panic!()
    };
    assert_eq!((of, outcome.unwrap().body), (first, "1".into()));
    assert_eq!(agent.handle.resolved(reused).await.unwrap(), Resolution::Reused { of: first });
    assert_eq!(world.app.positions(), [first.0]);
    let known = agent.handle.known(&identity("a")).unwrap().unwrap();
    assert_eq!((known.position, known.fingerprint), (first, command("a", "1").fingerprint()));
    assert_eq!(agent.handle.known(&identity("b")).unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn waiters_are_answered_before_and_after() {
    let world = World::new().await;
    let agent = world.start();
    let barrier = world.control(Control::Barrier(Barrier { agent: "a".into() })).await;
    let command = world.command("a", "1").await;
    let early = tokio::spawn({
        let handle = agent.handle.clone();
        async move { handle.resolved(Position(3)).await.unwrap() }
    });
    agent.at(command).await;
    assert_eq!(agent.handle.resolved(barrier).await.unwrap(), Resolution::Passed);
    let last = world.command("b", "2").await;
    assert_eq!(last, Position(3));
    assert_eq!(applied(early.await.unwrap()), (200, "2".into()));
    assert_eq!(applied(agent.handle.resolved(last).await.unwrap()), (200, "2".into()));
}

#[tokio::test(start_paused = true)]
async fn what_is_older_than_the_window_is_forgotten() {
    let world = World::empty();
    let dedup = decree_wire::settings::Dedup { window: 100, outcomes: 10, outcome_bytes: 1 << 20 };
    world.control(Control::Settings(Settings { dedup, ..settings() })).await;
    let agent = world.start();
    let first = world.command("first", "x").await;
    for n in 0..50 {
        world.command(&n.to_string(), "x").await;
    }
    let repeat = world.command("first", "x").await;
    let answer = agent.handle.resolved(repeat).await.unwrap();
    assert_eq!(answer, Resolution::Duplicate { of: first, outcome: None });
    assert_eq!(agent.handle.resolved(first).await.unwrap(), Resolution::Forgotten);
    for n in 50..150 {
        world.command(&n.to_string(), "x").await;
    }
    let again = world.command("first", "x").await;
    assert_eq!(applied(agent.handle.resolved(again).await.unwrap()), (200, "x".into()));
    for n in 150..200 {
        world.command(&n.to_string(), "x").await;
    }
    let repeat = world.command("first", "x").await;
    assert!(
        matches!(agent.handle.resolved(repeat).await.unwrap(), Resolution::Duplicate { of, .. } if of == again)
    );
}

#[tokio::test(start_paused = true)]
async fn a_command_from_before_the_window_is_void() {
    let world = World::empty();
    let dedup = decree_wire::settings::Dedup { window: 5, ..settings().dedup };
    world.control(Control::Settings(Settings { dedup, ..settings() })).await;
    let agent = world.start();
    for n in 0..10 {
        world.command(&n.to_string(), "x").await;
    }
    let slept = Command { head: Some(Position(2)), ..command("slept", "x") };
    let position = world.log.append_record(record::encode_command(&slept), 0);
    assert!(matches!(agent.handle.resolved(position).await.unwrap(), Resolution::Void(_)));
    assert_eq!(agent.handle.known(&identity("slept")).unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_class_that_replicates_voids_what_is_no_request() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let agent = world.start_as(true, folder.path());
    let plain = world.log.append_record(Record::default(), 0);
    let request = Request { method: "PUT".into(), target: "/x".into(), headers: vec![] };
    let request = Command { request: Some(request), ..command("a", "1") };
    let request = world.log.append_record(record::encode_command(&request), 0);
    assert!(matches!(agent.handle.resolved(plain).await.unwrap(), Resolution::Void(_)));
    assert_eq!(applied(agent.handle.resolved(request).await.unwrap()).0, 200);
    assert_eq!(agent.at(request).await.counts.void, 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_processed_is_delivered_again_and_not_counted() {
    let world = World::new().await;
    let full = || Act::Answer(429, "");
    world.app.then([Act::NotConnected, full(), full(), full(), full(), Act::Answer(201, "done")]);
    let agent = world.start();
    let position = world.command("a", "1").await;
    assert_eq!(applied(agent.handle.resolved(position).await.unwrap()), (201, "done".into()));
    assert_eq!(agent.at(position).await.counts.retries, 5);
}

#[tokio::test(start_paused = true)]
async fn poison_halts_the_agent_and_stays_counted() {
    let world = World::new().await;
    world.app.then([Act::Answer(500, ""), Act::Answer(500, "")]);
    let agent = world.start();
    let position = world.command("a", "1").await;
    agent.until(|p| p.counts.retries == 2).await;
    agent.kill().await;
    world.app.then([Act::Answer(500, "")]);
    let agent = world.start();
    let waiter = agent.handle.resolved(position).await.unwrap();
    let Resolution::Halted(trouble) = waiter else { panic!("{waiter:?}") };
    assert_eq!(trouble.reason, "Poisoned");
    assert!(trouble.message.contains("position 1 failed 3 times"), "{}", trouble.message);
    agent.stop().await;
    let agent = world.start();
    assert_eq!(agent.halted().await.reason, "Poisoned");
    assert_eq!(world.app.positions(), [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_503_counts_only_where_the_application_says_that_it_is_well() {
    let world = World::new().await;
    world.app.then((0..3).map(|_| Act::Answer(503, "")));
    let agent = world.start();
    world.command("a", "1").await;
    assert_eq!(agent.halted().await.reason, "Poisoned");
}

#[tokio::test(start_paused = true)]
async fn an_overdue_delivery_goes_on() {
    let world = World::new().await;
    world.app.then([Act::Hang]);
    let agent = world.start();
    let position = world.command("a", "1").await;
    agent.until(|p| matches!(p.application, Application::Overdue(_))).await;
    world.app.release();
    assert_eq!(applied(agent.handle.resolved(position).await.unwrap()).0, 200);
    agent.until(|p| p.application == Application::Healthy).await;
}

#[tokio::test(start_paused = true)]
async fn an_application_that_restarts_before_the_first_command_has_lost_nothing() {
    let world = World::new().await;
    let agent = world.start();
    agent.until(|p| p.state == State::Running).await;
    world.life.restart(2);
    world.app.hang_up();
    let position = world.command("a", "1").await;
    assert_eq!(applied(agent.handle.resolved(position).await.unwrap()).0, 200);
    assert_eq!(agent.handle.application_known(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_restarted_sidecar_goes_on_where_it_was() {
    let world = World::new().await;
    let agent = world.start();
    let first = world.command("a", "1").await;
    let digest = agent.at(first).await.digest;
    agent.until(|p| p.reached).await;
    agent.kill().await;
    let second = world.command("b", "2").await;
    let agent = world.start();
    agent.at(second).await;
    assert_eq!(world.app.positions(), [1, 2]);
    assert_eq!(applied(agent.handle.resolved(first).await.unwrap()), (200, "1".into()));
    agent.stop().await;
    world.log.set_away(true);
    let agent = world.start();
    let progress = agent.until(|p| p.trouble.is_some()).await;
    assert_eq!((progress.state, progress.reached), (State::Waiting, true), "its application still stands");
    assert_ne!(progress.position, None);
    world.log.set_away(false);
    let progress = agent.until(|p| p.state == State::Running).await;
    assert_eq!(progress.trouble, None);
    assert_ne!(agent.until(|p| p.digest.is_some()).await.digest, digest);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_applied_before_the_settings_are_found() {
    let world = World::empty();
    world.command("early", "1").await;
    let agent = world.start();
    let progress = agent.until(|p| p.trouble.is_some()).await;
    assert_eq!(progress.trouble.unwrap().reason, "WaitingForSettings");
    assert_eq!(progress.state, State::Waiting);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.app.positions().is_empty());
    world.control(Control::Settings(settings())).await;
    let last = world.command("late", "2").await;
    agent.at(last).await;
    assert_eq!(world.app.positions(), [0, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_foreign_log_and_an_unknown_control_entry_halt() {
    let world = World::empty();
    world.control(Control::Settings(Settings { cluster: "another".into(), ..settings() })).await;
    let agent = world.start();
    assert_eq!(agent.halted().await.reason, "LogForeign");

    let world = World::new().await;
    let freeze = Record {
        value: Some(Bytes::from_static(b"{}")),
        headers: vec![("ce_type".into(), Some(Bytes::from_static(b"dev.decree.control.freeze")))],
    };
    world.log.append_record(freeze, 0);
    world.command("a", "1").await;
    let agent = world.start();
    assert_eq!(agent.halted().await.reason, "UnknownControl");
    assert!(world.app.positions().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_log_that_goes_away_is_followed_again() {
    let world = World::new().await;
    let agent = world.start();
    world.command("a", "1").await;
    agent.at(Position(1)).await;
    world.log.set_away(true);
    let progress = agent.until(|p| p.trouble.is_some()).await;
    assert_eq!(
        (progress.trouble.unwrap().reason.as_str(), progress.state),
        ("LogUnreachable", State::Running)
    );
    tokio::time::sleep(Duration::from_secs(120)).await;
    world.log.set_away(false);
    let second = world.command("b", "2").await;
    assert_eq!(agent.at(second).await.trouble, None);
    assert_eq!(world.app.positions(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_not_the_one_that_was_followed_halts() {
    let world = World::new().await;
    let agent = world.start();
    world.command("a", "1").await;
    agent.at(Position(1)).await;
    world.log.recreate();
    world.expected.send_replace(Some(Incarnation("memory-2".into())));
    assert_eq!(agent.halted().await.reason, "LogReplaced");

    let world = World::new().await;
    let agent = world.start();
    world.command("a", "1").await;
    agent.at(Position(1)).await;
    agent.stop().await;
    world.log.lose_end(Position(1));
    let agent = world.start();
    assert_eq!(agent.halted().await.reason, "LogReplaced");
    agent.stop().await;
    world.command("another", "2").await;
    let agent = world.start();
    assert_eq!(agent.halted().await.reason, "LogReplaced");
}

#[tokio::test(start_paused = true)]
async fn a_replaced_log_holds_every_agent_alike_until_a_person_gives_it_up() {
    let world = World::new().await;
    let agent = world.start();
    world.command("a", "1").await;
    agent.until(|p| p.reached && p.position == Some(Position(1))).await;
    world.log.recreate();
    agent.until(|p| p.state == State::Halted && p.shared && p.reached).await;
    agent.stop().await;
    let agent = world.start();
    agent.until(|p| p.shared && p.reached).await; // another sidecar, the same application
    world.expected.send_replace(Some(Incarnation("memory-2".into())));
    let halted = agent.until(|p| !p.shared).await;
    assert_eq!((halted.state, halted.trouble.unwrap().reason.as_str()), (State::Halted, "LogReplaced"));
    world.expected.send_replace(Some(Incarnation("memory-1".into())));
    agent.until(|p| p.shared).await;
    world.restart_application(2);
    agent.until(|p| !p.shared).await; // what the log left is gone
    agent.kill().await;
    for _ in 0..2 {
        let agent = world.start();
        let halted = agent.until(|p| p.state == State::Halted).await;
        assert_eq!((halted.reached, halted.incarnation), (false, Some(Incarnation("memory-1".into()))));
        agent.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_was_trimmed_past_what_is_needed_halts() {
    let world = World::new().await;
    let agent = world.start();
    let first = world.command("a", "1").await;
    agent.at(first).await;
    agent.stop().await;
    let second = world.command("b", "2").await;
    world.log.trim(second).await.unwrap(); // the last one read is gone, its successor stands
    let agent = world.start();
    agent.at(second).await;
    agent.stop().await;
    world.command("c", "3").await;
    let fourth = world.command("d", "4").await;
    world.log.trim(fourth).await.unwrap();
    let agent = world.start();
    assert_eq!(agent.halted().await.reason, "LogTrimmed");
    let folder = tempfile::tempdir().unwrap();
    let fresh = world.start_as(false, folder.path());
    assert_eq!(fresh.halted().await.reason, "LogTrimmed");
    assert_eq!(world.app.positions(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_the_topic_and_for_the_application() {
    let world = World::new().await;
    world.expected.send_replace(None);
    world.app.set_unwell(Some(Unwell::Unreachable { port: 80, detail: "refused".into() }));
    let agent = world.start();
    assert_eq!(agent.until(|p| p.trouble.is_some()).await.trouble.unwrap().reason, "WaitingForTopic");
    world.expected.send_replace(Some(Incarnation("memory-1".into())));
    let position = world.command("a", "1").await;
    agent
        .until(|p| matches!(&p.application, Application::Unwell(t) if t.reason == "ApplicationUnreachable"))
        .await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.app.positions().is_empty());
    world.app.set_unwell(None);
    assert_eq!(applied(agent.handle.resolved(position).await.unwrap()).0, 200);
}

#[tokio::test(start_paused = true)]
async fn log_time_never_runs_backwards_and_digests_are_equal() {
    let world = World::new().await;
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    for (id, log_time) in [("a", 5_000), ("b", 4_000), ("c", -1)] {
        world.log.append_record(record::encode_command(&command(id, "x")), log_time);
    }
    let mut digests = vec![];
    for folder in &folders {
        let agent = world.start_as(false, folder.path());
        digests.push(agent.at(Position(3)).await.digest.unwrap());
        agent.stop().await;
    }
    assert_eq!(digests[0], digests[1]);
}
