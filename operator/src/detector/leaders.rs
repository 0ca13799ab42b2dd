//! Feeds the detectors of engines that a group orders for: asks each group's leader for the heartbeats that it has heard.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use decree_wire::heartbeat::{Heartbeat, Told};
use decree_wire::member::path::HEARTBEATS;
use decree_wire::position::EngineName;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::heartbeats::Heartbeats;
use crate::group::call::{Agent, Calls};

/// How often a leader is asked.
const EVERY: Duration = Duration::from_secs(1);

/// Asks until `stop`. A leader that does not answer holds up no other.
pub async fn run(heartbeats: Heartbeats, calls: Calls, stop: CancellationToken) {
    let (mut asking, mut asked) = (HashSet::<EngineName>::new(), JoinSet::new());
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some(ended) = asked.join_next() => match ended {
                Ok(name) => { asking.remove(&name); }
                Err(error) => {
                    // Which one is not known any more: all are asked anew.
                    tracing::error!(%error, "a question for heartbeats failed");
                    asked.abort_all();
                    asking.clear();
                }
            },
            _ = tick.tick() => for (name, leader) in heartbeats.leaders() {
                if asking.insert(name.clone()) {
                    asked.spawn(ask(name, leader, heartbeats.clone(), calls.clone()));
                }
            },
        }
    }
}

async fn ask(name: EngineName, leader: Agent, heartbeats: Heartbeats, calls: Calls) -> EngineName {
    match calls.get::<Vec<Told>>(&leader, HEARTBEATS).await {
        Ok(told) => {
            let now = Instant::now();
            let names = [name.clone()];
            for Told { heartbeat, age_ms } in told {
                let at = now.checked_sub(Duration::from_millis(age_ms));
                if let Some((at, heartbeat)) = at.zip(fitting(&heartbeat)) {
                    heartbeats.hear(&names, &heartbeat, at);
                }
            }
        }
        Err(error) => tracing::debug!(engine = %name, %error, "the group's leader does not tell heartbeats"),
    }
    name
}

/// What fits into a status, whoever said it.
fn fitting(heartbeat: &Heartbeat) -> Option<Heartbeat> {
    Heartbeat::read(&serde_json::to_vec(heartbeat).ok()?).ok()
}
