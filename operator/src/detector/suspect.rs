//! Who is suspect: the arrival of heartbeats against the clock. Pure: `now` is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use decree_wire::heartbeat::{CallsFor, Heartbeat, State, Trouble};

use super::digests::{Agreement, History, compare};

/// A trouble is told only once it has lasted so long: each start of a pod has some for a moment.
const LASTING: Duration = Duration::from_secs(5);

/// A pod that should be heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The pod's uid.
    pub uid: String,
    /// Its name.
    pub pod: String,
    /// Its class, as far as the pod says.
    pub class: String,
    /// Whether its sidecar's container runs: before that its silence means nothing.
    pub runs: bool,
}

/// What has been heard of one engine's agents.
#[derive(Clone, Debug)]
pub struct Detector {
    limit: Duration,
    /// Since when somebody has been heard without a gap; none: nobody is.
    audible_since: Option<Instant>,
    last_any: Option<Instant>,
    agents: BTreeMap<String, Agent>,
    /// By class, the first difference that was seen, for as long as every pod that it names is there.
    diverged: BTreeMap<String, Agreement>,
}

#[derive(Clone, Debug)]
struct Agent {
    expected: Expected,
    /// Since when it should be heard.
    runs_since: Option<Instant>,
    last: Option<(Instant, Heartbeat)>,
    digests: History,
    /// Since when each reason has been among its troubles.
    troubled: BTreeMap<String, Instant>,
}

/// Whether an agent is there, as far as can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// Heard of in time.
    Live,
    /// Silent while others were heard.
    Suspect,
    /// Nobody is heard, or it isn't yet due.
    Unknown,
}

/// What is known of an agent now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentView {
    /// The pod's name.
    pub pod: String,
    /// Its class.
    pub class: String,
    /// Whether it is there.
    pub liveness: Liveness,
    /// Its last heartbeat, however old.
    pub heartbeat: Option<Heartbeat>,
    /// Troubles that lasted.
    pub lasting: Vec<Trouble>,
}

impl AgentView {
    /// The trouble that halted it, if it is halted.
    #[must_use]
    pub fn halted(&self) -> Option<Option<&Trouble>> {
        let heartbeat = self.heartbeat.as_ref().filter(|heartbeat| heartbeat.state == State::Halted)?;
        Some(heartbeat.troubles.first())
    }
}

/// What is known of an engine's agents now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// By the pod's uid.
    pub agents: BTreeMap<String, AgentView>,
    /// By class.
    pub agreement: BTreeMap<String, Agreement>,
}

/// The part of a [`View`] that is written at once when it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    suspect: BTreeSet<String>,
    halted: BTreeMap<String, Option<Trouble>>,
    calls_for: BTreeMap<String, CallsFor>,
    lasting: BTreeSet<(String, String)>,
    agreement: BTreeMap<String, Agreement>,
}

impl Detector {
    /// Nobody has been heard yet.
    #[must_use]
    pub fn new(interval: Duration, misses: u32) -> Self {
        let mut new = Self {
            limit: Duration::ZERO,
            audible_since: None,
            last_any: None,
            agents: BTreeMap::new(),
            diverged: BTreeMap::new(),
        };
        new.configure(interval, misses);
        new
    }

    /// How often agents speak, and how many words may be missed. Half a word more: a heartbeat travels for a moment.
    pub fn configure(&mut self, interval: Duration, misses: u32) {
        self.limit = interval * misses + interval / 2;
    }

    /// From here on somebody else says what is heard: the silence in between is nobody's.
    pub fn interrupt(&mut self) {
        self.last_any = None;
    }

    /// Which pods there are: others are dropped.
    pub fn expect(&mut self, pods: Vec<Expected>, now: Instant) {
        let mut before = std::mem::take(&mut self.agents);
        for expected in pods {
            let known = before.remove(&expected.uid);
            let runs_since = known.as_ref().and_then(|agent| agent.runs_since);
            let runs_since = if expected.runs { runs_since.or(Some(now)) } else { None };
            let agent = match known {
                Some(agent) => Agent { expected: expected.clone(), runs_since, ..agent },
                None => Agent {
                    expected: expected.clone(),
                    runs_since,
                    last: None,
                    digests: History::default(),
                    troubled: BTreeMap::new(),
                },
            };
            self.agents.insert(expected.uid, agent);
        }
        let there = |name: &String| self.agents.values().any(|agent| agent.expected.pod == *name);
        self.diverged.retain(|_, agreement| agreement.pods().all(there));
    }

    /// Takes a heartbeat that came at `now`, or a while ago. That of a pod nobody knows is dropped: anybody may write to a
    /// topic.
    pub fn hear(&mut self, heartbeat: Heartbeat, now: Instant) {
        let Some(agent) = self.agents.get_mut(&heartbeat.uid) else { return };
        if agent.last.as_ref().is_some_and(|(last, _)| *last > now) {
            return;
        }
        // Who was silent while nobody could be heard isn't to blame: everybody's silence counts from here.
        if self.last_any.is_none_or(|last| now.saturating_duration_since(last) > self.limit) {
            self.audible_since = Some(now);
        }
        self.last_any = self.last_any.max(Some(now));
        agent.digests.note(heartbeat.incarnation.as_ref(), heartbeat.digest.as_ref());
        agent.troubled.retain(|reason, _| heartbeat.troubles.iter().any(|t| t.reason == *reason));
        for trouble in &heartbeat.troubles {
            agent.troubled.entry(trouble.reason.clone()).or_insert(now);
        }
        agent.last = Some((now, heartbeat));
        for (class, found) in self.compared() {
            if matches!(found, Agreement::Diverged { .. }) {
                self.diverged.entry(class).or_insert(found);
            }
        }
    }

    /// What is known now.
    #[must_use]
    pub fn view(&self, now: Instant) -> View {
        let heard = |since: Instant| now.saturating_duration_since(since) <= self.limit;
        let audible = self.audible_since.filter(|_| self.last_any.is_some_and(heard));
        let agents =
            self.agents.iter().map(|(uid, agent)| (uid.clone(), self.agent(agent, audible, now))).collect();
        View { agents, agreement: self.agreement() }
    }

    fn agent(&self, agent: &Agent, audible: Option<Instant>, now: Instant) -> AgentView {
        let last = agent.last.as_ref().map(|(at, _)| *at);
        let heard = |since: Instant| now.saturating_duration_since(since) <= self.limit;
        let liveness = match (last, audible, last.max(agent.runs_since)) {
            (Some(last), _, _) if heard(last) => Liveness::Live,
            (_, Some(audible), Some(due)) if !heard(due.max(audible)) => Liveness::Suspect,
            _ => Liveness::Unknown,
        };
        let heartbeat = agent.last.as_ref().map(|(_, heartbeat)| heartbeat.clone());
        let lasts = |trouble: &&Trouble| {
            agent
                .troubled
                .get(&trouble.reason)
                .is_some_and(|since| now.saturating_duration_since(*since) >= LASTING)
        };
        let troubles = heartbeat.iter().flat_map(|heartbeat| &heartbeat.troubles);
        let lasting = troubles.filter(lasts).cloned().collect();
        let Expected { uid: _, pod, class, runs: _ } = agent.expected.clone();
        AgentView { pod, class, liveness, heartbeat, lasting }
    }

    /// Agents that differed go on differing, though what showed it is no longer among their last digests.
    fn agreement(&self) -> BTreeMap<String, Agreement> {
        let mut agreement = self.compared();
        agreement.extend(self.diverged.clone());
        agreement
    }

    fn compared(&self) -> BTreeMap<String, Agreement> {
        let mut classes: BTreeMap<&str, Vec<(&str, &History)>> = BTreeMap::new();
        for agent in self.agents.values() {
            // An agent's own word for its class: the pod's label may be absent.
            let class = agent.last.as_ref().map_or(&agent.expected.class, |(_, heartbeat)| &heartbeat.class);
            classes.entry(class).or_default().push((&agent.expected.pod, &agent.digests));
        }
        classes.into_iter().map(|(class, agents)| (class.to_owned(), compare(agents))).collect()
    }
}

impl View {
    /// What is written at once when it changes.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let mut summary = Summary { agreement: self.agreement.clone(), ..Summary::default() };
        for (uid, agent) in &self.agents {
            if agent.liveness == Liveness::Suspect {
                summary.suspect.insert(uid.clone());
            }
            if let Some(trouble) = agent.halted() {
                summary.halted.insert(uid.clone(), trouble.cloned());
            }
            if let Some(calls_for) = agent.heartbeat.as_ref().and_then(|heartbeat| heartbeat.calls_for) {
                summary.calls_for.insert(uid.clone(), calls_for);
            }
            let lasting = agent.lasting.iter().map(|trouble| (uid.clone(), trouble.reason.clone()));
            summary.lasting.extend(lasting);
        }
        summary
    }
}

/// A heartbeat of an agent that is well, for tests.
#[cfg(test)]
pub(crate) fn example(uid: &str) -> Heartbeat {
    Heartbeat {
        level: 1,
        pod: format!("pod-{uid}"),
        uid: uid.into(),
        class: "opa".into(),
        sequence: 0,
        incarnation: None,
        position: None,
        head: None,
        lag: None,
        lag_ms: None,
        digest: None,
        version: 1,
        state: State::Running,
        ready: true,
        troubles: vec![],
        calls_for: None,
        in_doubt: None,
        rebuild: None,
        build: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::example as heartbeat;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn expected(uid: &str) -> Expected {
        Expected { uid: uid.into(), pod: format!("pod-{uid}"), class: "opa".into(), runs: true }
    }

    fn detector(uids: &[&str], now: Instant) -> Detector {
        let mut detector = Detector::new(SECOND, 3);
        detector.expect(uids.iter().map(|uid| expected(uid)).collect(), now);
        detector
    }

    fn liveness(detector: &Detector, now: Instant) -> Vec<Liveness> {
        detector.view(now).agents.values().map(|agent| agent.liveness).collect()
    }

    #[test]
    fn another_leader_blames_nobody_for_what_it_did_not_hear() {
        let start = Instant::now();
        let mut detector = detector(&["a", "b"], start);
        detector.hear(heartbeat("a"), start);
        detector.hear(heartbeat("b"), start);
        let late = start + SECOND * 4;
        detector.interrupt();
        detector.hear(heartbeat("a"), late);
        assert_eq!(liveness(&detector, late), [Liveness::Live, Liveness::Unknown]);
        // What the leader before had heard is older than what is known.
        detector.hear(heartbeat("b"), late);
        detector.hear(heartbeat("b"), start);
        assert_eq!(liveness(&detector, late + SECOND), [Liveness::Live; 2]);
        for second in 1..=4 {
            detector.hear(heartbeat("a"), late + SECOND * second);
        }
        assert_eq!(liveness(&detector, late + SECOND * 4), [Liveness::Live, Liveness::Suspect]);
    }

    #[test]
    fn three_missed_while_others_are_heard_is_suspect() {
        let start = Instant::now();
        let mut detector = detector(&["a", "b"], start);
        detector.hear(heartbeat("a"), start);
        detector.hear(heartbeat("b"), start);
        for second in 1..=3 {
            detector.hear(heartbeat("a"), start + SECOND * second);
            assert_eq!(liveness(&detector, start + SECOND * second), [Liveness::Live; 2]);
        }
        let now = start + SECOND * 4;
        detector.hear(heartbeat("a"), now);
        assert_eq!(liveness(&detector, now), [Liveness::Live, Liveness::Suspect]);
        detector.hear(heartbeat("b"), now);
        assert_eq!(liveness(&detector, now), [Liveness::Live; 2], "and is no longer when it is heard");
    }

    #[test]
    fn when_nobody_is_heard_all_are_unknown() {
        let start = Instant::now();
        let mut detector = detector(&["a", "b"], start);
        assert_eq!(liveness(&detector, start + SECOND * 60), [Liveness::Unknown; 2]);
        detector.hear(heartbeat("a"), start);
        detector.hear(heartbeat("b"), start);
        let later = start + SECOND * 60;
        assert_eq!(liveness(&detector, later), [Liveness::Unknown; 2]);
        // The first that is heard after an outage does not make the others suspect at once.
        detector.hear(heartbeat("a"), later);
        assert_eq!(liveness(&detector, later), [Liveness::Live, Liveness::Unknown]);
        for second in 1..=4 {
            detector.hear(heartbeat("a"), later + SECOND * second);
        }
        assert_eq!(liveness(&detector, later + SECOND * 4), [Liveness::Live, Liveness::Suspect]);
    }

    #[test]
    fn an_agent_that_never_spoke_is_suspect_once_it_should_have() {
        let start = Instant::now();
        let mut detector = Detector::new(SECOND, 3);
        let starting = Expected { runs: false, ..expected("b") };
        detector.expect(vec![expected("a"), starting], start);
        let speak = |detector: &mut Detector, from: u32, to: u32| {
            (from..=to).for_each(|second| detector.hear(heartbeat("a"), start + SECOND * second));
        };
        speak(&mut detector, 0, 10);
        assert_eq!(liveness(&detector, start + SECOND * 10), [Liveness::Live, Liveness::Unknown]);
        detector.expect(vec![expected("a"), expected("b")], start + SECOND * 10);
        speak(&mut detector, 11, 13);
        assert_eq!(liveness(&detector, start + SECOND * 13), [Liveness::Live, Liveness::Unknown]);
        speak(&mut detector, 14, 14);
        assert_eq!(liveness(&detector, start + SECOND * 14), [Liveness::Live, Liveness::Suspect]);
    }

    #[test]
    fn pods_that_are_gone_are_dropped_and_strangers_are_not_heard() {
        let start = Instant::now();
        let mut detector = detector(&["a", "b"], start);
        detector.hear(heartbeat("stranger"), start);
        assert!(detector.last_any.is_none(), "a stranger is nobody");
        detector.expect(vec![expected("a")], start);
        assert_eq!(detector.view(start).agents.len(), 1);
    }

    #[test]
    fn agents_that_differed_stay_named_until_one_of_them_is_gone() {
        let start = Instant::now();
        let mut detector = detector(&["a", "b"], start);
        let says = |uid: &str, position: u64, hash: &str| Heartbeat {
            incarnation: Some(decree_wire::position::Incarnation("i".into())),
            digest: Some(decree_wire::heartbeat::Digest {
                position: decree_wire::position::Position(position),
                hash: hash.into(),
            }),
            ..heartbeat(uid)
        };
        detector.hear(says("a", 1, "x"), start);
        detector.hear(says("b", 1, "y"), start);
        let first = detector.view(start).agreement["opa"].clone();
        assert!(matches!(&first, Agreement::Diverged { position, .. } if position.0 == 1));
        // Under load they seldom speak of one position, and what showed it leaves the last digests.
        for position in 2..100 {
            detector.hear(says(if position % 2 == 0 { "a" } else { "b" }, position, "z"), start);
        }
        assert_eq!(detector.view(start).agreement["opa"], first);
        detector.expect(vec![expected("a")], start);
        assert_eq!(detector.view(start).agreement["opa"], Agreement::Unknown);
    }

    #[test]
    fn a_trouble_is_told_when_it_lasts() {
        let start = Instant::now();
        let mut detector = detector(&["a"], start);
        let trouble = Trouble { reason: "ApplicationUnreachable".into(), message: "nothing answers".into() };
        let troubled = Heartbeat { troubles: vec![trouble.clone()], ready: false, ..heartbeat("a") };
        let before = detector.view(start).summary();
        for second in 0..=5 {
            detector.hear(troubled.clone(), start + SECOND * second);
        }
        let view = detector.view(start + SECOND * 4);
        assert!(view.agents["a"].lasting.is_empty());
        let view = detector.view(start + SECOND * 5);
        assert_eq!(view.agents["a"].lasting, [trouble]);
        assert_ne!(view.summary(), before, "and it is a change to be written at once");
        detector.hear(heartbeat("a"), start + SECOND * 6);
        assert!(detector.view(start + SECOND * 6).agents["a"].lasting.is_empty());
    }
}
