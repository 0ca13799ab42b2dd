//! A model of a group that is looked after by two operators, who see late, act late and die in between; driven at random.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use decree_wire::group::{Genesis, MemberId};
use decree_wire::member::{Leads, LogId, Member, Membership, Other, Place, Role};
use decree_wire::position::Incarnation;
use proptest::prelude::*;

use super::{Plan, plan};
use crate::group::facts::{Facts, Pod, Remembered};
use crate::group::step::{Order, Step};
use crate::group::view::quorum;

/// What happens to the world. Numbers choose among what there is.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Create { zone: u8, name: u8 },
    Delete(u8),
    Gone(u8),
    Deaf(u8),
    Cut(u8),
    Heal(u8),
    Propose(u16),
    Advance(u8),
    Elect(u8),
    Agree,
    Voters(u8),
    Look(bool),
    Act { operator: bool, joint: bool },
}

#[derive(Clone, Debug)]
struct Agent {
    id: MemberId,
    zone: u8,
    ending: bool,
    deaf: bool,
    cut: bool,
    open: bool,
    genesis: Option<Genesis>,
    last: Option<u64>,
    knows: Option<Membership>,
}

#[derive(Default)]
struct World {
    voters: usize,
    drawn: u64,
    looked: u64,
    changes: u64,
    status: Option<Genesis>,
    version: u64,
    remembered: Vec<Remembered>,
    pods: BTreeMap<String, Agent>,
    begun: Vec<Genesis>,
    leader: Option<MemberId>,
    term: u64,
    membership: Option<Membership>,
    /// The membership before, which was certain.
    before: Option<Membership>,
    head: u64,
    certain: u64,
}

/// What an operator saw: the facts, the status' version, and how much had happened.
type Seen = (Facts, u64, u64);

impl World {
    fn name(&self, of: u8) -> Option<String> {
        let names: Vec<_> = self.pods.keys().collect();
        (!names.is_empty()).then(|| names[usize::from(of) % names.len()].clone())
    }

    fn agent(&self, id: MemberId) -> Option<(&String, &Agent)> {
        self.pods.iter().find(|(_, agent)| agent.id == id)
    }

    fn lives(&self, id: MemberId) -> bool {
        self.agent(id).is_some_and(|(_, agent)| !agent.cut)
    }

    fn sets(&self) -> Vec<Vec<MemberId>> {
        self.membership.as_ref().map(|membership| membership.voters.clone()).unwrap_or_default()
    }

    fn has(&self, id: MemberId) -> u64 {
        self.agent(id).and_then(|(_, agent)| agent.last).unwrap_or(0)
    }

    fn each_set(&self, sets: &[Vec<MemberId>], of: impl Fn(MemberId) -> bool) -> bool {
        sets.iter().all(|set| set.iter().filter(|id| of(**id)).count() >= quorum(set.len()))
    }

    fn happens(&mut self, what: Happens) {
        let pods = self.pods.len();
        match what {
            Happens::Create { zone, name } if pods < 8 => self.create(zone, name),
            Happens::Delete(of) => self.of(of, |agent| agent.ending = true),
            Happens::Gone(of) => {
                if let Some(name) = self.name(of) {
                    let gone = self.pods.remove(&name).unwrap();
                    self.leader = self.leader.filter(|leader| *leader != gone.id);
                }
            }
            Happens::Deaf(of) => self.of(of, |agent| agent.deaf = true),
            Happens::Cut(of) => {
                self.of(of, |agent| agent.cut = true);
                self.leader = self.leader.filter(|leader| self.lives(*leader));
            }
            Happens::Heal(of) => self.of(of, |agent| (agent.deaf, agent.cut) = (false, false)),
            Happens::Propose(many) => self.propose(u64::from(many)),
            Happens::Advance(of) => self.advance(of),
            Happens::Elect(of) => self.elect(of),
            Happens::Agree => self.agree(),
            Happens::Voters(of) => self.voters = [1, 3, 5][usize::from(of) % 3],
            Happens::Create { .. } | Happens::Look(_) | Happens::Act { .. } => return,
        }
        self.changes += 1;
    }

    fn of(&mut self, of: u8, change: impl Fn(&mut Agent)) {
        if let Some(agent) = self.name(of).and_then(|name| self.pods.get_mut(&name)) {
            change(agent);
        }
    }

    fn create(&mut self, zone: u8, name: u8) {
        self.drawn += 1;
        // Some come again under a name that was there before, as a StatefulSet's do.
        let name = if name < 4 { format!("set-{name}") } else { format!("pod-{}", self.drawn) };
        let agent = Agent {
            id: MemberId(self.drawn),
            zone: zone % 3,
            ending: false,
            deaf: false,
            cut: false,
            open: false,
            genesis: None,
            last: None,
            knows: None,
        };
        self.pods.entry(name).or_insert(agent);
    }

    fn propose(&mut self, many: u64) {
        let Some(leader) = self.leader else { return };
        self.head += many;
        self.append(leader);
    }

    fn append(&mut self, to: MemberId) {
        let (head, membership) = (self.head, self.membership.clone());
        if let Some(agent) = self.pods.values_mut().find(|agent| agent.id == to) {
            (agent.last, agent.knows) = (Some(head), membership);
        }
        self.agree();
    }

    fn advance(&mut self, of: u8) {
        let Some(id) = self.name(of).and_then(|name| self.pods.get(&name)).map(|agent| agent.id) else {
            return;
        };
        let member = self.membership.as_ref().is_some_and(|membership| membership.members.contains_key(&id));
        if member && self.leader.is_some() && self.lives(id) && self.agent(id).unwrap().1.genesis.is_some() {
            self.append(id);
        }
    }

    /// What a quorum of each set has is certain; with it a change of the membership.
    fn agree(&mut self) {
        if self.leader.is_none() {
            return;
        }
        let sets = self.sets();
        let held: BTreeSet<u64> = self.pods.values().filter_map(|agent| agent.last).collect();
        let certain = held.into_iter().rev().find(|at| self.each_set(&sets, |id| self.has(id) >= *at));
        self.certain = self.certain.max(certain.unwrap_or(0));
        let certain = self.certain;
        if let Some(membership) = &mut self.membership {
            membership.committed |= membership.at.index <= certain;
        }
    }

    fn elect(&mut self, of: u8) {
        if self.leader.is_some() || self.membership.is_none() {
            return;
        }
        if !self.wins(of) && self.undo() {
            self.wins(of);
        }
    }

    /// One leads whose log no quorum is ahead of, if there is a quorum.
    fn wins(&mut self, of: u8) -> bool {
        let (sets, at) = (self.sets(), self.membership.as_ref().unwrap().at.index);
        let votes = |voter: MemberId, id: MemberId| self.lives(voter) && self.has(voter) <= self.has(id);
        let wins = |id: &MemberId| {
            self.lives(*id) && self.has(*id) >= at && self.each_set(&sets, |voter| votes(voter, *id))
        };
        let candidates: Vec<MemberId> = sets.iter().flatten().copied().filter(wins).collect();
        if candidates.is_empty() {
            return false;
        }
        let leader = candidates[usize::from(of) % candidates.len()];
        let head = self.has(leader);
        assert!(head >= self.certain, "an elected leader has all that is certain");
        for agent in self.pods.values_mut().filter(|agent| agent.last > Some(head)) {
            agent.last = Some(head);
        }
        (self.head, self.leader, self.term) = (head + 1, Some(leader), self.term + 1);
        self.append(leader);
        true
    }

    /// A change that is not certain, and that nobody has who can be elected, is undone.
    fn undo(&mut self) -> bool {
        let Some(undone) = self.membership.clone().filter(|membership| !membership.committed) else {
            return false;
        };
        let before = self.before.clone();
        for agent in self.pods.values_mut().filter(|agent| agent.last >= Some(undone.at.index)) {
            (agent.last, agent.knows) = (Some(undone.at.index - 1), before.clone());
        }
        self.membership = before;
        true
    }

    fn facts(&mut self) -> Seen {
        self.looked += 1;
        let pods = self.pods.iter().map(|(name, agent)| Pod {
            name: name.clone(),
            place: Some(place(name, agent)),
            ending: agent.ending,
            begun: true,
            elder: true,
            open: agent.open,
            answer: (!agent.deaf).then(|| self.answer(name, agent)),
        });
        let facts = Facts {
            voters: self.voters,
            election_timeout: Duration::from_secs(1),
            genesis: self.status.clone(),
            remembered: self.remembered.clone(),
            committed: None,
            pods: pods.collect(),
            fresh: Incarnation(format!("history-{}", self.looked)),
        };
        (facts, self.version, self.changes)
    }

    fn answer(&self, name: &str, agent: &Agent) -> Member {
        let leads = self.leader == Some(agent.id);
        let votes = |membership: &Membership| membership.voters.iter().flatten().any(|id| *id == agent.id);
        let role = match &agent.knows {
            _ if leads => Role::Leader,
            None => Role::Outside,
            Some(membership) if votes(membership) => Role::Follower,
            Some(membership) if membership.members.contains_key(&agent.id) => Role::Learner,
            Some(_) => Role::Outside,
        };
        let others = self.membership.iter().flat_map(|membership| membership.members.keys());
        let other = |id: &MemberId| Other {
            matched: Some(self.has(*id)),
            seen_ms: Some(if self.lives(*id) { 10 } else { 60_000 }),
        };
        let quorum = self.each_set(&self.sets(), |id| self.lives(id));
        Member {
            level: 1,
            id: agent.id,
            pod: name.to_owned(),
            genesis: agent.genesis.clone(),
            role,
            term: self.term,
            leader: self.leader,
            last: agent.last,
            committed: agent.last.map(|last| last.min(self.certain)),
            membership: if leads { self.membership.clone() } else { agent.knows.clone() },
            leads: leads.then(|| Leads {
                quorum_seen_ms: Some(if quorum { 10 } else { 60_000 }),
                others: others.map(|id| (*id, other(id))).collect(),
            }),
        }
    }

    /// An operator does what it decided on what it saw, perhaps long ago.
    fn act(&mut self, (facts, version, changes): &Seen, joint: bool) -> Plan {
        let plan = plan(facts);
        let fresh = *changes == self.changes && *version == self.version;
        for name in &plan.opens {
            self.pods.get_mut(name).map(|agent| agent.open = true);
        }
        match &plan.step {
            None => return plan,
            Some(Step::Remember(genesis)) => {
                if *version == self.version {
                    assert!(self.status.is_none(), "a genesis is never replaced");
                    (self.status, self.version) = (Some(genesis.clone()), self.version + 1);
                }
            }
            Some(Step::Initialize { pod, genesis, place }) => self.initialize(pod, genesis, place),
            Some(Step::Join { pod, genesis }) => {
                if let Some(agent) = self.pods.get_mut(pod).filter(|agent| agent.genesis.is_none()) {
                    agent.genesis = Some(genesis.clone());
                }
            }
            Some(Step::Lead { pod, order }) => {
                let done = self.lead(pod, order, facts.voters, joint);
                assert!(done || !fresh, "{order:?} was asked for and could not be done");
            }
        }
        self.changes += 1;
        plan
    }

    fn initialize(&mut self, pod: &str, genesis: &Genesis, place: &Place) {
        let Some(agent) = self.pods.get_mut(pod) else { return };
        if agent.id != genesis.first
            || agent.last.is_some()
            || agent.genesis.as_ref().is_some_and(|known| known != genesis)
        {
            return;
        }
        let id = agent.id;
        let members = [(id, place.clone())].into();
        let at = LogId { term: 1, index: 1 };
        (agent.genesis, agent.last) = (Some(genesis.clone()), Some(1));
        self.begun.push(genesis.clone());
        assert_eq!(self.begun.len(), 1, "a group begins once");
        self.membership = Some(Membership { at, committed: true, voters: vec![vec![id]], members });
        (self.head, self.certain, self.term) = (1, 1, 1);
        self.pods.get_mut(pod).unwrap().knows = self.membership.clone();
        self.leader = Some(id).filter(|id| self.lives(*id));
    }

    /// As a leader does it: only on the membership that was seen, and only one change at a time.
    fn lead(&mut self, pod: &str, order: &Order, wanted: usize, joint: bool) -> bool {
        let Some(leader) = self.leader.filter(|id| self.agent(*id).is_some_and(|(name, _)| name == pod))
        else {
            return false;
        };
        let now = self.membership.clone().unwrap();
        let (mut sets, mut members) = (now.voters.clone(), now.members.clone());
        let last: BTreeSet<MemberId> = sets.last().unwrap().iter().copied().collect();
        let mut after = last.clone();
        let seen = match order {
            Order::HandOver { to } => {
                if !self.lives(*to) || !last.contains(to) {
                    return false;
                }
                self.leader = None;
                self.append(*to);
                (self.leader, self.term) = (Some(*to), self.term + 1);
                self.append(*to);
                return true;
            }
            Order::Settle { seen } => {
                assert!(sets.len() > 1 || *seen != now.at, "there is something to settle");
                seen
            }
            Order::Learner { seen, id, place } => {
                members.insert(*id, place.clone());
                seen
            }
            Order::Promote { seen, id, instead_of } => {
                assert!(
                    now.at != *seen || members.contains_key(id) && !last.contains(id),
                    "a learner is promoted"
                );
                after.insert(*id);
                after.retain(|voter| Some(*voter) != *instead_of);
                seen
            }
            Order::Remove { seen, id, stays } => {
                after.remove(id);
                if !stays {
                    members.remove(id);
                }
                seen
            }
        };
        if *seen != now.at || !now.committed || (sets.len() > 1 && !matches!(order, Order::Settle { .. })) {
            return false;
        }
        let agrees = |world: &Self, sets: &[Vec<MemberId>]| world.each_set(sets, |id| world.lives(id));
        let changed = after != last;
        sets = vec![after.iter().copied().collect()];
        let both = [now.voters.clone(), sets.clone()].concat();
        if changed {
            assert!(after.difference(&last).count() <= 1 && last.difference(&after).count() <= 1);
            assert!(after.len() <= last.len().max(wanted), "never more voters than were wanted");
            assert!(!after.is_empty());
        }
        let agreed = agrees(self, &both);
        if changed && (joint || !agreed) {
            // The leader ended in the middle, or nobody answers it: two sets remain until somebody settles it.
            sets = both;
            members.extend(now.members.clone());
        }
        let others: Vec<MemberId> = now.members.keys().copied().filter(|id| self.lives(*id)).collect();
        self.before = Some(now);
        self.head += 1;
        let at = LogId { term: self.term, index: self.head };
        self.membership = Some(Membership { at, committed: false, voters: sets, members });
        for id in others {
            self.append(id);
        }
        if !after.contains(&leader) && !joint {
            self.leader = None;
        }
        self.agree();
        agreed
    }

    fn remember(&mut self) {
        let Some(membership) = &self.membership else { return };
        let votes = |id: &MemberId| membership.voters.iter().flatten().any(|voter| voter == id);
        let members = membership.members.iter();
        self.remembered = members
            .map(|(id, place)| Remembered { id: *id, pod: place.pod.clone(), votes: votes(id) })
            .collect();
    }

    /// Nothing happens any more but what the group and one operator do.
    fn rests(&mut self) -> Plan {
        for agent in self.pods.values_mut() {
            (agent.deaf, agent.cut) = (false, false);
        }
        self.pods.retain(|_, agent| !agent.ending);
        self.leader = self.leader.filter(|leader| self.lives(*leader));
        for _ in 0..200 {
            self.elect(0);
            for of in 0..8 {
                self.advance(of);
            }
            let seen = self.facts();
            let plan = self.act(&seen, false);
            self.remember();
            if plan.step.is_none() && plan.opens.is_empty() {
                return plan;
            }
        }
        panic!("the operator comes to no end: {:?}", plan(&self.facts().0).step);
    }
}

fn place(name: &str, agent: &Agent) -> Place {
    Place {
        pod: name.to_owned(),
        address: format!("10.0.0.{}:7073", agent.id.0),
        zone: format!("node-{}", agent.zone),
    }
}

fn happens() -> impl Strategy<Value = Happens> {
    let which = any::<u8>;
    prop_oneof![
        3 => (which(), which()).prop_map(|(zone, name)| Happens::Create { zone, name: name % 12 }),
        2 => which().prop_map(Happens::Delete),
        1 => which().prop_map(Happens::Gone),
        1 => which().prop_map(Happens::Deaf),
        1 => which().prop_map(Happens::Cut),
        3 => which().prop_map(Happens::Heal),
        3 => (0u16..1500).prop_map(Happens::Propose),
        6 => which().prop_map(Happens::Advance),
        3 => which().prop_map(Happens::Elect),
        2 => Just(Happens::Agree),
        1 => which().prop_map(Happens::Voters),
        8 => any::<bool>().prop_map(Happens::Look),
        8 => (any::<bool>(), prop::bool::weighted(0.2)).prop_map(|(operator, joint)| Happens::Act { operator, joint }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_group_begins_once_changes_one_by_one_and_comes_to_rest(story in prop::collection::vec(happens(), 0..120)) {
        let mut world = World { voters: 3, ..World::default() };
        let mut seen: [Option<Seen>; 2] = [None, None];
        for what in story {
            match what {
                Happens::Look(operator) => seen[usize::from(operator)] = Some(world.facts()),
                Happens::Act { operator, joint } => {
                    if let Some(seen) = &seen[usize::from(operator)] {
                        world.act(seen, joint);
                        world.remember();
                    }
                }
                what => world.happens(what),
            }
        }
        if world.pods.is_empty() {
            world.create(0, 9);
        }
        let plan = world.rests();
        let lost = plan.problems.iter().any(|problem| problem.reason == "QuorumLost");
        let first_is_gone = world.membership.is_none()
            && world.status.as_ref().is_some_and(|genesis| world.agent(genesis.first).is_none());
        // At rest everybody is reached: who can't be elected then never can.
        let hopeless = world.membership.is_some() && world.leader.is_none();
        prop_assert_eq!(lost, hopeless || first_is_gone);
        if !lost && !world.pods.is_empty() {
            let membership = world.membership.clone().unwrap();
            prop_assert_eq!(membership.voters.len(), 1);
            prop_assert_eq!(membership.voters[0].len(), world.voters.min(world.pods.len()));
            let members: BTreeSet<MemberId> = membership.members.keys().copied().collect();
            prop_assert_eq!(members, world.pods.values().map(|agent| agent.id).collect());
            prop_assert!(world.pods.values().all(|agent| agent.open), "every gate is open");
        }
    }
}
