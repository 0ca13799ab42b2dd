//! Settings entries that follow the first take effect at their position, in every replica alike, replayed or not.

use bytes::Bytes;
use decree_sidecar::app::scripted::Act;
use decree_sidecar::replica::Resolution;
use decree_wire::control::Control;
use decree_wire::heartbeat::State;
use decree_wire::position::Position;
use decree_wire::settings::{ClassSettings, Dedup, DigestOf, Settings};

use super::agent::{World, settings};

fn class(class: ClassSettings) -> Control {
    Control::Settings(Settings { classes: [("opa".to_owned(), class)].into(), ..settings() })
}

#[tokio::test(start_paused = true)]
async fn the_digest_covers_what_they_say_from_there_on() {
    let world = World::new().await;
    world.command("a", "1").await;
    world.control(class(ClassSettings { digest: DigestOf::Status, ..ClassSettings::default() })).await;
    let last = world.command("b", "2").await;
    let mut digests = vec![];
    for (first, second) in [("x", "y"), ("x", "z"), ("other", "y")] {
        let folder = tempfile::tempdir().unwrap();
        world.app.then([Act::Answer(200, first), Act::Answer(200, second)]);
        let agent = world.start_as(false, folder.path());
        digests.push(agent.at(last).await.digest.unwrap().hash);
        agent.stop().await;
    }
    assert_eq!(digests[0], digests[1], "bodies count no longer");
    assert_ne!(digests[0], digests[2], "but those before do");
}

#[tokio::test(start_paused = true)]
async fn as_many_attempts_as_they_say_and_the_same_digest_after_a_replay() {
    let world = World::new().await;
    let agent = world.start();
    world.command("a", "1").await;
    world
        .control(class(ClassSettings { max_attempts: 5, idempotent: true, ..ClassSettings::default() }))
        .await;
    world.app.then([Act::Answer(200, "1"), Act::Lost, Act::Answer(200, "one")]);
    let second = world.command("b", "2").await;
    let before = agent.at(second).await;
    assert_eq!(before.tally.doubts, 1);
    // The answer of the idempotent one may be another after a rebuild: it counts for nothing.
    world.app.then([Act::Answer(200, "1"), Act::Answer(200, "another")]);
    world.restart_application(2);
    let after = agent.until(|p| p.tally.rebuilds == 1 && p.state == State::Running && p.caught_up()).await;
    assert_eq!((after.digest, after.suspicion), (before.digest, None));
    world.app.then((0..5).map(|_| Act::Answer(500, "")));
    world.command("poison", "3").await;
    let trouble = agent.halted().await;
    assert!(trouble.message.contains("failed 5 times"), "{}", trouble.message);
}

#[tokio::test(start_paused = true)]
async fn a_window_that_shrank_forgets_and_one_that_grew_does_not_remember_again() {
    let world = World::new().await;
    let agent = world.start();
    let with =
        |window| Control::Settings(Settings { dedup: Dedup { window, ..settings().dedup }, ..settings() });
    world.command("early", "x").await;
    for n in 0..20 {
        world.command(&n.to_string(), "x").await;
    }
    world.control(with(5)).await;
    world.command("between", "x").await;
    world.control(with(1_000)).await;
    let again = world.command("early", "x").await;
    let told = agent.handle.resolved(again).await.unwrap();
    assert!(matches!(told, Resolution::Applied { .. }), "forgotten in between: {told:?}");
    let repeat = world.command("between", "x").await;
    let told = agent.handle.resolved(repeat).await.unwrap();
    assert!(matches!(told, Resolution::Duplicate { of: Position(23), .. }), "{told:?}");
    let expected = world.app.alive();
    world.restart_application(2);
    agent.until(|p| p.tally.rebuilds == 1 && p.state == State::Running && p.caught_up()).await;
    assert_eq!(world.app.alive(), expected, "a replay decides as the first time");
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_comes_while_its_entry_is_dealt_with_is_answered() {
    let world = World::new().await;
    let agent = world.start();
    for n in 0..300 {
        let position = world.command(&n.to_string(), "x").await;
        let handle = agent.handle.clone();
        // At another moment of the entry's way each time.
        let waiter = tokio::spawn(async move {
            for _ in 0..n % 30 {
                tokio::task::yield_now().await;
            }
            handle.resolved(position).await.unwrap()
        });
        let told = tokio::time::timeout(std::time::Duration::from_secs(60), waiter).await.unwrap().unwrap();
        let Resolution::Applied { outcome } = told else { panic!("{told:?}") };
        assert_eq!(outcome.body, Bytes::from_static(b"x"));
    }
}
