//! Whatever is killed and whenever, a counter's count is what a fold over the log gives.

use std::sync::Arc;
use std::time::Duration;

use decree_sidecar::log::memory::MemoryLog;
use decree_sidecar::log::{Log, NewEntry};
use decree_wire::control::{Barrier, Control};
use decree_wire::heartbeat::{CallsFor, Digest, State};
use decree_wire::position::Position;
use decree_wire::settings::{ClassSettings, Settings};

use super::agent::{Agent, World, command, settings};
use super::counter::{Counter, Dice};

const COMMANDS: u64 = 150;
const SEEDS: u64 = 12;

/// A log of commands, repeats and control entries, and the positions that a fold over it counts.
async fn log(dice: &mut Dice) -> (MemoryLog, Vec<u64>) {
    let log = MemoryLog::new();
    let class = ClassSettings { max_attempts: 1_000, ..ClassSettings::default() };
    let settings = Settings { classes: [("opa".into(), class)].into(), ..settings() };
    log.append(&NewEntry::Control(Control::Settings(settings))).await.unwrap();
    let (mut counted, mut ids) = (vec![], 0);
    while counted.len() < COMMANDS as usize {
        let entry = match dice.below(10) {
            0 => NewEntry::Control(Control::Barrier(Barrier { agent: "a".into() })),
            1 if ids > 0 => NewEntry::Command(command(&dice.below(ids).to_string(), "x")),
            _ => {
                ids += 1;
                NewEntry::Command(command(&(ids - 1).to_string(), "x"))
            }
        };
        let fresh = matches!(&entry, NewEntry::Command(c) if c.id == Some((ids - 1).to_string()));
        let position = log.append(&entry).await.unwrap();
        if fresh && counted.len() < ids as usize {
            counted.push(position.0);
        }
    }
    (log, counted)
}

/// What the kubelet does: a container that ended is started again, and one whose liveness probe fails is restarted.
async fn kubelet(agent: &Agent, counter: &Counter) {
    let calls_for = agent.handle.progress().borrow().calls_for;
    if !counter.alive() || calls_for == Some(CallsFor::ContainerRestart) {
        counter.die();
        tokio::time::sleep(Duration::from_millis(20)).await;
        counter.start();
    }
}

async fn undisturbed(world: &World, last: Position) -> Digest {
    let folder = tempfile::tempdir().unwrap();
    let counter = Arc::new(Counter::new(0));
    let agent = world.start_living(&counter, folder.path());
    agent.at(last).await.digest.unwrap()
}

#[tokio::test(start_paused = true)]
async fn each_lives_count_is_what_a_fold_over_the_log_gives() {
    let mut sum = [0; 3];
    for seed in 0..SEEDS {
        let mut dice = Dice::new(seed);
        let (log, counted) = log(&mut dice).await;
        let last = Position(log.head().await.unwrap().0 - 1);
        let world = World::with(log);
        let expected = undisturbed(&world, last).await;

        let counter = Arc::new(Counter::new(seed));
        counter.trouble(seed % 4);
        let folder = tempfile::tempdir().unwrap();
        let mut agent = world.start_living(&counter, folder.path());
        for _ in 0..30 {
            // A new life is looked at for half a second before it is given anything.
            let wait = if dice.below(4) == 0 { 100 } else { 500 + dice.below(700) };
            tokio::time::sleep(Duration::from_millis(wait)).await;
            match dice.below(4) {
                0 => {
                    agent.kill().await;
                    agent = world.start_living(&counter, folder.path());
                }
                1 => counter.die(),
                _ => {}
            }
            kubelet(&agent, &counter).await;
        }
        counter.trouble(0);
        let done = |agent: &Agent| {
            let progress = agent.handle.progress();
            let there = matches!(&*progress.borrow(), p if p.state == State::Running && p.caught_up() && p.digest.is_some());
            there && agent.handle.application_known().is_ok()
        };
        let mut tries = 0;
        while !done(&agent) {
            tries += 1;
            assert!(tries < 5_000, "seed {seed}: {:#?}", agent.handle.progress().borrow().clone());
            kubelet(&agent, &counter).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let progress = agent.handle.progress().borrow().clone();
        assert_eq!(counter.given(), counted, "seed {seed}");
        assert_eq!((progress.digest.as_ref(), progress.suspicion), (Some(&expected), None), "seed {seed}");
        for (sum, more) in sum.iter_mut().zip([progress.tally.doubts, progress.tally.rebuilds, 1]) {
            *sum += more;
        }
        agent.stop().await;
    }
    let [doubts, rebuilds, seeds] = sum;
    println!("{doubts} deliveries in doubt and {rebuilds} rebuilds in {seeds} seeds");
    assert!(doubts > seeds && rebuilds > seeds, "too little was killed: {doubts}, {rebuilds}");
}
