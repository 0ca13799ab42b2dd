//! Commands that kill the application of one pod after the other. What a sidecar counted goes with its pod, so attempts at
//! a position are counted here where only a new pod helps. Pure: `now` is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use decree_wire::heartbeat::{CallsFor, Trouble};
use decree_wire::position::Position;

use crate::detector::suspect::{AgentView, View};
use crate::spec::Engine;

/// A position at which nobody was in doubt for so long is forgotten: a successor may replay for hours before it is there.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);

/// Where an agent's delivery was begun and not ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Doubt {
    class: String,
    /// The log's incarnation.
    log: Option<String>,
    position: Position,
}

impl Doubt {
    /// Of an agent that calls for its eviction because of one.
    #[must_use]
    pub fn of(agent: &AgentView) -> Option<Self> {
        let heartbeat = agent.heartbeat.as_ref()?;
        let position = heartbeat.in_doubt.filter(|_| heartbeat.calls_for == Some(CallsFor::Eviction))?;
        let log = heartbeat.incarnation.as_ref().map(|incarnation| incarnation.0.clone());
        Some(Self { class: agent.class.clone(), log, position })
    }
}

/// Attempts at positions, over pods that came one after the other.
#[derive(Clone, Debug, Default)]
pub struct Attempts(BTreeMap<Doubt, Tried>);

#[derive(Clone, Debug)]
struct Tried {
    /// So often in a row: pods that were there together count as one.
    times: u32,
    /// Pods that were there when the last of them was evicted, by uid: they are not its successors.
    there: BTreeSet<String>,
    last: Instant,
}

impl Attempts {
    /// A pod was evicted because of its doubt, while these were there.
    pub fn evicted(&mut self, doubt: &Doubt, pod: &str, there: &BTreeSet<String>, now: Instant) {
        let none = || Tried { times: 0, there: BTreeSet::new(), last: now };
        let tried = self.0.entry(doubt.clone()).or_insert_with(none);
        if !tried.there.contains(pod) {
            tried.times += 1;
            tried.there.clone_from(there);
        }
        tried.last = now;
    }

    /// Agents for which no more is tried, by uid, and why: at their position one of their class was the last that
    /// `maxAttempts` allows.
    pub fn poisoned(&mut self, engine: &Engine, view: &View, now: Instant) -> BTreeMap<String, Trouble> {
        self.0.retain(|_, tried| now.saturating_duration_since(tried.last) < FORGOTTEN);
        let doubts: Vec<(&String, Doubt)> =
            view.agents.iter().filter_map(|(uid, agent)| Some((uid, Doubt::of(agent)?))).collect();
        let mut most: BTreeMap<&Doubt, u32> = BTreeMap::new();
        for (uid, doubt) in &doubts {
            let attempt = self.attempt(doubt, uid, now);
            let most = most.entry(doubt).or_default();
            *most = attempt.max(*most);
        }
        let poison = |doubt: &Doubt| {
            let class = engine.classes.iter().find(|class| class.name == doubt.class)?;
            let times = most.get(doubt).copied().unwrap_or_default();
            (times >= class.settings.max_attempts.max(1)).then(|| trouble(doubt, times))
        };
        doubts.iter().filter_map(|(uid, doubt)| Some(((*uid).clone(), poison(doubt)?))).collect()
    }

    /// Which attempt this pod's was.
    fn attempt(&mut self, doubt: &Doubt, pod: &str, now: Instant) -> u32 {
        let Some(tried) = self.0.get_mut(doubt) else { return 1 };
        tried.last = now;
        tried.times + u32::from(!tried.there.contains(pod))
    }
}

fn trouble(doubt: &Doubt, times: u32) -> Trouble {
    let message = format!(
        "the command at position {} was tried {times} times, in one pod after the other, and each time the application ended \
         or lost the connection; agents[].app.maxAttempts allows no more, so no pod of class {} is evicted for it any \
         longer; what stands behind it waits in the log; see the application's log for why, mend it, then delete these pods",
        doubt.position, doubt.class
    );
    Trouble { reason: "Poisoned".into(), message }
}

#[cfg(test)]
mod tests {
    use decree_wire::position::Incarnation;

    use super::*;
    use crate::detector::suspect::{Liveness, example};
    use crate::spec::example as engine_of;

    fn engine(max_attempts: u32) -> Engine {
        let mut engine = engine_of();
        engine.classes[0].settings.max_attempts = max_attempts;
        engine
    }

    /// Agents that call for their eviction, each in doubt at a position.
    fn view(agents: &[(&str, u64)]) -> View {
        let agent = |(uid, position): &(&str, u64)| {
            let mut heartbeat = example(uid);
            heartbeat.incarnation = Some(Incarnation("log".into()));
            heartbeat.in_doubt = Some(Position(*position));
            heartbeat.calls_for = Some(CallsFor::Eviction);
            let (pod, class) = (heartbeat.pod.clone(), heartbeat.class.clone());
            let agent = AgentView {
                pod,
                class,
                liveness: Liveness::Live,
                heartbeat: Some(heartbeat),
                lasting: vec![],
            };
            ((*uid).to_owned(), agent)
        };
        View { agents: agents.iter().map(agent).collect(), ..View::default() }
    }

    fn doubt(position: u64) -> Doubt {
        Doubt::of(&view(&[("x", position)]).agents["x"]).unwrap()
    }

    fn uids(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn names(poisoned: &BTreeMap<String, Trouble>) -> Vec<&str> {
        poisoned.keys().map(String::as_str).collect()
    }

    #[test]
    fn attempts_of_one_pod_after_the_other_add_up_and_then_all_stay() {
        let (engine, now, mut attempts) = (engine(2), Instant::now(), Attempts::default());
        let all = [("a", 7), ("b", 7), ("c", 7)];
        assert!(attempts.poisoned(&engine, &view(&all), now).is_empty(), "each has tried once");
        attempts.evicted(&doubt(7), "a", &uids(&["a", "b", "c"]), now);
        let while_it_goes = attempts.poisoned(&engine, &view(&all), now);
        assert!(
            while_it_goes.is_empty(),
            "those that were there beside it are none after it: {while_it_goes:?}"
        );
        attempts.evicted(&doubt(7), "b", &uids(&["b", "c", "a2"]), now);
        let next = attempts.poisoned(&engine, &view(&[("a2", 7), ("c", 7), ("d", 9)]), now);
        assert_eq!(names(&next), ["a2", "c"], "who is in doubt elsewhere is another matter");
        let said = &next["a2"];
        assert_eq!(said.reason, "Poisoned");
        assert!(said.message.contains("position 7 ") && said.message.contains("2 times"), "{}", said.message);
    }

    #[test]
    fn what_is_allowed_decides_and_one_attempt_is_the_least() {
        let now = Instant::now();
        let first = |most| Attempts::default().poisoned(&engine(most), &view(&[("a", 7)]), now).len();
        assert_eq!((first(0), first(1), first(2)), (1, 1, 0));
        let mut attempts = Attempts::default();
        for (pod, next) in [("a", "b"), ("b", "c"), ("c", "d")] {
            assert!(attempts.poisoned(&engine(4), &view(&[(pod, 7)]), now).is_empty());
            attempts.evicted(&doubt(7), pod, &uids(&[pod]), now);
            assert!(attempts.poisoned(&engine(4), &view(&[(next, 8)]), now).is_empty());
        }
        assert_eq!(attempts.poisoned(&engine(4), &view(&[("d", 7)]), now).len(), 1);
        assert!(attempts.poisoned(&engine(5), &view(&[("d", 7)]), now).is_empty(), "a person may allow more");
    }

    #[test]
    fn another_log_begins_anew_and_who_only_wants_a_restart_is_no_case_of_it() {
        let (engine, now, mut attempts) = (engine(2), Instant::now(), Attempts::default());
        attempts.evicted(&doubt(7), "a", &uids(&["a"]), now);
        let mut other = view(&[("b", 7)]);
        let heartbeat = other.agents.get_mut("b").unwrap().heartbeat.as_mut().unwrap();
        heartbeat.incarnation = Some(Incarnation("another".into()));
        assert!(attempts.poisoned(&engine, &other, now).is_empty());
        let mut restarts = view(&[("b", 7)]);
        let heartbeat = restarts.agents.get_mut("b").unwrap().heartbeat.as_mut().unwrap();
        heartbeat.calls_for = Some(CallsFor::ContainerRestart);
        assert!(attempts.poisoned(&engine, &restarts, now).is_empty());
    }

    #[test]
    fn a_position_is_forgotten_unless_somebody_stands_there() {
        let (engine, now, mut attempts) = (engine(2), Instant::now(), Attempts::default());
        attempts.evicted(&doubt(7), "a", &uids(&["a"]), now);
        let (standing, day) = (view(&[("b", 7)]), FORGOTTEN - Duration::from_secs(1));
        assert_eq!(attempts.poisoned(&engine, &standing, now + day).len(), 1);
        assert_eq!(attempts.poisoned(&engine, &standing, now + 2 * day).len(), 1);
        assert!(attempts.poisoned(&engine, &view(&[]), now + 4 * day).is_empty());
        assert!(attempts.poisoned(&engine, &standing, now + 4 * day).is_empty(), "it begins anew");
    }
}
