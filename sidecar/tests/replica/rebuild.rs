//! An application's state is known, or it is rebuilt from the log: through doubts, new lives, poison and kills.

use std::time::Duration;

use decree_sidecar::app::scripted::Act;
use decree_sidecar::log::Log;
use decree_sidecar::replica::{Application, Progress, Resolution};
use decree_wire::control::Control;
use decree_wire::heartbeat::{CallsFor, State};
use decree_wire::position::Position;
use decree_wire::settings::{ClassSettings, Settings};

use super::agent::{Agent, World, identity, settings};

fn rebuilding(progress: &Progress) -> bool {
    progress.state == State::Rebuilding
}

async fn running(agent: &Agent) -> Progress {
    agent.until(|p| p.state == State::Running && p.caught_up()).await
}

async fn applied(agent: &Agent, position: Position) -> (u16, String) {
    match agent.handle.resolved(position).await.unwrap() {
        Resolution::Applied { outcome } => {
            (outcome.status, String::from_utf8(outcome.body.to_vec()).unwrap())
        }
        other => panic!("{other:?}"),
    }
}

/// With so many commands applied.
async fn settled(world: &World, commands: u64) -> Agent {
    let agent = world.start();
    for n in 0..commands {
        world.command(&n.to_string(), "x").await;
    }
    agent.at(Position(commands)).await;
    agent
}

#[tokio::test(start_paused = true)]
async fn a_new_life_gets_the_whole_log_in_order() {
    let world = World::new().await;
    let agent = settled(&world, 5).await;
    let before = running(&agent).await;
    world.restart_application(2);
    agent.until(rebuilding).await;
    let trouble = agent.handle.application_known().unwrap_err();
    assert!(["ApplicationStateUnknown", "Rebuilding"].contains(&trouble.reason.as_str()), "{trouble:?}");
    let after = running(&agent).await;
    assert_eq!(world.app.alive(), [1, 2, 3, 4, 5]);
    assert_eq!((after.digest, after.tally.rebuilds, after.rebuild), (before.digest, 1, None));
    assert_eq!((after.suspicion, after.trouble), (None, None));
    assert_eq!(agent.handle.application_known(), Ok(()));
    let next = world.command("next", "y").await;
    assert_eq!(applied(&agent, next).await, (200, "y".into()));
}

#[tokio::test(start_paused = true)]
async fn a_new_life_is_reached_over_a_connection_of_its_own() {
    let world = World::new().await;
    let agent = settled(&world, 5).await;
    running(&agent).await;
    let before = world.app.connections();
    world.life.restart(2); // and the last one still serves the connection that was kept
    agent.until(|p| p.tally.rebuilds == 1 && p.state == State::Running && p.caught_up()).await;
    assert_eq!(world.app.positions(), [1, 2, 3, 4, 5, 1, 2, 3, 4, 5]);
    assert!(world.app.connections() > before, "what was replayed went to the life of before");
}

#[tokio::test(start_paused = true)]
async fn a_delivery_in_doubt_calls_for_a_restart_and_is_rebuilt() {
    let world = World::new().await;
    world.app.then([Act::Answer(200, "a"), Act::Lost]);
    let agent = world.start();
    world.command("a", "1").await;
    let doubtful = world.command("b", "2").await;
    let progress = agent.until(|p| p.calls_for.is_some()).await;
    assert_eq!((progress.state, progress.calls_for), (State::Rebuilding, Some(CallsFor::ContainerRestart)));
    let trouble = progress.trouble.unwrap();
    assert_eq!(trouble.reason, "ApplicationStateUnknown");
    assert!(trouble.message.contains("position 2"), "{}", trouble.message);
    assert_eq!(agent.handle.application_known().unwrap_err().reason, "ApplicationStateUnknown");
    let waiter = tokio::spawn({
        let handle = agent.handle.clone();
        async move { handle.resolved(doubtful).await.unwrap() }
    });
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.app.positions(), [1, 2], "nothing is delivered to it any more");
    world.life.stop(); // its container ends
    assert_eq!(agent.until(|p| p.calls_for.is_none()).await.state, State::Rebuilding);
    world.restart_application(2);
    assert!(matches!(waiter.await.unwrap(), Resolution::Applied { .. }));
    let progress = running(&agent).await;
    assert_eq!(world.app.alive(), [1, 2]);
    assert_eq!((progress.tally.doubts, progress.tally.rebuilds), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_that_ends_in_the_middle_of_a_delivery_leaves_it_in_doubt() {
    let world = World::new().await;
    world.app.then([Act::Hang]);
    let agent = world.start();
    world.command("a", "1").await;
    agent.until(|p| matches!(p.application, Application::Overdue(_))).await;
    agent.kill().await;
    let agent = world.start();
    let progress = agent.until(|p| p.calls_for.is_some()).await;
    assert_eq!(progress.tally.doubts, 1);
    agent.kill().await;
    world.restart_application(2);
    let agent = world.start();
    let progress = running(&agent).await;
    assert_eq!((progress.tally.doubts, progress.tally.rebuilds), (1, 1), "counted once");
    assert_eq!(world.app.alive(), [1]);
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_point_of_a_rebuild_it_ends_where_the_log_does() {
    let world = World::new().await;
    let mut agent = settled(&world, 20).await;
    let digest = running(&agent).await.digest;
    for kill in 0..20 {
        world.restart_application(kill + 2);
        // In the middle of the delivery of each position in turn.
        world.app.then((0..kill % 20).map(|_| Act::Answer(200, "x")).chain([Act::Hang]));
        agent.until(|p| matches!(p.application, Application::Overdue(_))).await;
        agent.kill().await;
        agent = world.start();
        let doubt = agent.until(|p| p.calls_for.is_some()).await;
        assert_eq!(doubt.calls_for, Some(CallsFor::ContainerRestart));
    }
    world.restart_application(100);
    let progress = running(&agent).await;
    assert_eq!(world.app.alive(), (1..=20).collect::<Vec<_>>());
    assert_eq!((progress.digest, progress.suspicion), (digest, None));
    assert_eq!(progress.tally.doubts, 20);
}

#[tokio::test(start_paused = true)]
async fn an_application_that_dies_in_the_middle_of_a_rebuild_is_rebuilt_again() {
    let world = World::new().await;
    let agent = settled(&world, 10).await;
    world.restart_application(2);
    world.app.then((0..4).map(|_| Act::Answer(200, "x")).chain([Act::Lost]));
    agent.until(|p| p.calls_for.is_some()).await;
    world.restart_application(3);
    let progress = running(&agent).await;
    assert_eq!(world.app.alive(), (1..=10).collect::<Vec<_>>());
    assert_eq!((progress.tally.rebuilds, progress.tally.doubts), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn the_window_and_the_outcomes_are_rebuilt_too() {
    let world = World::new().await;
    let agent = world.start();
    let first = world.command("a", "1").await;
    let repeat = world.command("a", "1").await;
    let reused = world.command("a", "2").await;
    let last = world.command("b", "3").await;
    agent.at(last).await;
    world.restart_application(2);
    world.app.then([Act::Hang]);
    agent.until(|p| p.rebuild.is_some() && matches!(p.application, Application::Overdue(_))).await;
    assert_eq!(agent.handle.known(&identity("a")).unwrap(), None, "not yet applied to this life");
    world.app.release();
    running(&agent).await;
    assert_eq!(world.app.alive(), [first.0, last.0]);
    assert_eq!(agent.handle.known(&identity("a")).unwrap().unwrap().position, first);
    let told = agent.handle.resolved(repeat).await.unwrap();
    assert!(matches!(told, Resolution::Duplicate { of, outcome: Some(_) } if of == first), "{told:?}");
    assert_eq!(agent.handle.resolved(reused).await.unwrap(), Resolution::Reused { of: first });
}

#[tokio::test(start_paused = true)]
async fn a_command_that_kills_the_application_each_time_halts_the_agent_before_it() {
    let world = World::new().await;
    let agent = settled(&world, 2).await;
    let poison = world.command("poison", "x").await;
    world.command("behind", "x").await;
    for attempt in 1..=3 {
        if attempt > 1 {
            world.app.then([Act::Answer(200, "x"), Act::Answer(200, "x")]);
        }
        world.app.then([Act::Lost]);
        let lost = |p: &Progress| p.tally.doubts == attempt;
        if attempt == 1 {
            world.app.hang_up();
        }
        let progress = agent.until(lost).await;
        assert_eq!(progress.state == State::Halted, attempt == 3, "said at once: {progress:?}");
        world.restart_application(1 + u32::try_from(attempt).unwrap());
    }
    let rebuilt =
        |p: &Progress| p.position == Some(Position(2)) && p.rebuild.is_none() && p.tally.rebuilds == 3;
    let progress = agent.until(rebuilt).await;
    assert_eq!((progress.state, progress.trouble.unwrap().reason.as_str()), (State::Halted, "Poisoned"));
    assert_eq!(world.app.alive(), [1, 2]);
    assert!(matches!(agent.handle.resolved(poison).await.unwrap(), Resolution::Halted(_)));
    // Neither another sidecar nor another life tries it again.
    agent.kill().await;
    let agent = world.start();
    assert_eq!(agent.halted().await.reason, "Poisoned");
    world.restart_application(10);
    agent.until(|p| p.tally.rebuilds == 4 && p.position == Some(Position(2))).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.app.alive(), [1, 2]);
    assert_eq!(agent.halted().await.reason, "Poisoned");
}

#[tokio::test(start_paused = true)]
async fn attempts_outlive_a_replay_that_fails_before_them() {
    let world = World::new().await;
    let agent = settled(&world, 3).await;
    world.app.then([Act::Lost]);
    world.command("poison", "x").await;
    // In each next life, how many positions are applied before one is in doubt.
    for (life, applied) in [(2, 2), (3, 3), (4, 1), (5, 3)] {
        agent.until(|p| p.calls_for.is_some() && p.tally.doubts == u64::from(life) - 1).await;
        world.app.then((0..applied).map(|_| Act::Answer(200, "x")).chain([Act::Lost]));
        world.restart_application(life);
    }
    let trouble = agent.halted().await;
    assert!(trouble.message.contains("position 4 failed 3 times"), "{}", trouble.message);
}

#[tokio::test(start_paused = true)]
async fn an_application_that_outlives_its_container_calls_for_eviction() {
    let world = World::new().await;
    let agent = world.start_in_pod();
    agent.until(|p| p.state == State::Running).await;
    world.restart_application(2); // nothing was applied yet
    let first = world.command("a", "1").await;
    agent.at(first).await;
    world.restart_application(3);
    let progress = agent.until(|p| p.calls_for.is_some()).await;
    assert_eq!((progress.calls_for, progress.state), (Some(CallsFor::Eviction), State::Rebuilding));
    assert!(progress.trouble.unwrap().message.contains("evicts"));
    assert!(agent.handle.application_known().is_err());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.app.alive().is_empty());
    agent.stop().await;
    let agent = world.start_in_pod();
    assert_eq!(agent.until(|p| p.calls_for.is_some()).await.calls_for, Some(CallsFor::Eviction));
}

async fn idempotent() -> World {
    let world = World::empty();
    let class = ClassSettings { idempotent: true, max_attempts: 3, ..ClassSettings::default() };
    world
        .control(Control::Settings(Settings { classes: [("opa".into(), class)].into(), ..settings() }))
        .await;
    world
}

#[tokio::test(start_paused = true)]
async fn what_is_idempotent_is_delivered_again_to_the_same_life() {
    let world = idempotent().await;
    world.app.then([Act::Lost, Act::Answer(200, "second")]);
    let agent = world.start();
    let first = world.command("a", "1").await;
    assert_eq!(applied(&agent, first).await, (200, "second".into()));
    let progress = running(&agent).await;
    assert_eq!((progress.tally.doubts, progress.tally.rebuilds), (1, 0));
    // Its answer is no part of the digest, in any agent.
    let other = idempotent().await;
    other.app.then([Act::Answer(200, "first")]);
    let peer = other.start();
    other.command("a", "1").await;
    assert_eq!(peer.at(first).await.digest, progress.digest);

    world.app.then([Act::Hang]);
    let second = world.command("b", "2").await;
    agent.until(|p| matches!(p.application, Application::Overdue(_))).await;
    agent.kill().await;
    let agent = world.start();
    assert_eq!(applied(&agent, second).await, (200, "2".into()));
    assert_eq!(world.app.alive(), [1, 1, 2, 2]);

    world.app.then([Act::Lost]);
    let third = world.command("c", "3").await;
    agent.until(|p| p.tally.doubts == 3).await;
    world.restart_application(2);
    assert_eq!(applied(&agent, third).await, (200, "3".into()));
    running(&agent).await;
    assert_eq!(world.app.alive(), [1, 2, 3], "another life is rebuilt all the same");
}

#[tokio::test(start_paused = true)]
async fn what_is_idempotent_and_always_in_doubt_is_poison() {
    let world = idempotent().await;
    world.app.then([Act::Lost, Act::Lost, Act::Lost]);
    let agent = world.start();
    world.command("a", "1").await;
    assert_eq!(agent.halted().await.reason, "Poisoned");
    assert_eq!(world.app.positions(), [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_not_what_was_applied_is_not_replayed() {
    let world = World::new().await;
    let agent = settled(&world, 5).await;
    agent.stop().await;
    world.log.lose_end(Position(5));
    world.command("other", "y").await;
    world.restart_application(2);
    let agent = world.start();
    assert_eq!(agent.halted().await.reason, "LogReplaced");
    assert!(world.app.alive().is_empty());
    agent.stop().await;

    let world = World::new().await;
    let agent = settled(&world, 5).await;
    world.log.trim(Position(2)).await.unwrap();
    world.restart_application(2);
    assert_eq!(agent.halted().await.reason, "LogTrimmed");
    assert!(world.app.alive().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_log_that_changes_under_a_replay_is_found_out() {
    let world = World::new().await;
    let agent = settled(&world, 5).await;
    world.restart_application(2);
    world.app.then([Act::Answer(200, "x"), Act::Hang]);
    agent.until(|p| matches!(p.application, Application::Overdue(_))).await;
    agent.kill().await;
    world.log.lose_end(Position(5));
    world.command("other", "y").await;
    world.restart_application(3);
    let agent = world.start();
    assert_eq!(agent.halted().await.reason, "LogReplaced");
}

#[tokio::test(start_paused = true)]
async fn an_application_that_answers_otherwise_than_before_is_reported() {
    let world = World::new().await;
    let agent = settled(&world, 3).await;
    world.app.then([Act::Answer(200, "x"), Act::Answer(200, "another answer")]);
    world.restart_application(2);
    let progress = agent.until(|p| p.suspicion.is_some()).await;
    let suspicion = progress.suspicion.unwrap();
    assert_eq!(suspicion.reason, "NotDeterministic");
    assert!(suspicion.message.contains("up to position 3"), "{}", suspicion.message);
    running(&agent).await;
    agent.stop().await;
    let agent = world.start();
    assert_eq!(running(&agent).await.suspicion, Some(suspicion), "as long as the pod lives");
}

#[tokio::test(start_paused = true)]
async fn it_says_how_far_a_rebuild_is() {
    let world = World::new().await;
    let agent = settled(&world, 100).await;
    world.app.then((0..50).map(|_| Act::Answer(200, "x")).chain([Act::Hang]));
    world.restart_application(2);
    agent.until(|p| matches!(p.application, Application::Overdue(_))).await;
    let progress = agent.handle.progress().borrow().clone();
    let rebuild = progress.rebuild.unwrap();
    assert_eq!((rebuild.target, rebuild.position), (Position(101), Position(51)));
    assert!(rebuild.remaining_ms.is_some_and(|ms| ms > 20_000), "{rebuild:?}");
    let trouble = progress.trouble.unwrap();
    assert_eq!(trouble.reason, "Rebuilding");
    assert!(trouble.message.contains("position 51 of 101, about "), "{}", trouble.message);
}
