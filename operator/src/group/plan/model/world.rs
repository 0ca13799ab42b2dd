//! The world: pods, what becomes of them, what operators see of them and do.

use std::collections::BTreeMap;
use std::time::Duration;

use decree_wire::group::{Genesis, MemberId};
use decree_wire::member::{Leads, Member, Membership, Other, Place, Role};
use decree_wire::position::Incarnation;

use crate::group::facts::{Facts, Pod, Remembered};
use crate::group::plan::plan;
use crate::group::step::{Plan, Step};
use crate::group::view::quorum;

/// What happens to the world. Numbers choose among what there is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Happens {
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
pub(super) struct Agent {
    pub(super) id: MemberId,
    pub(super) zone: u8,
    pub(super) ending: bool,
    pub(super) deaf: bool,
    pub(super) cut: bool,
    pub(super) open: bool,
    pub(super) genesis: Option<Genesis>,
    pub(super) last: Option<u64>,
    pub(super) knows: Option<Membership>,
}

#[derive(Default)]
pub(super) struct World {
    pub(super) voters: usize,
    pub(super) drawn: u64,
    pub(super) looked: u64,
    pub(super) changes: u64,
    pub(super) status: Option<Genesis>,
    /// How often the first member was asked to begin.
    pub(super) asked: u64,
    pub(super) version: u64,
    pub(super) remembered: Vec<Remembered>,
    pub(super) pods: BTreeMap<String, Agent>,
    pub(super) begun: Vec<Genesis>,
    pub(super) leader: Option<MemberId>,
    pub(super) term: u64,
    pub(super) membership: Option<Membership>,
    /// The membership before, which was certain.
    pub(super) before: Option<Membership>,
    pub(super) head: u64,
    pub(super) certain: u64,
}

/// What an operator saw: the facts, the status' version, and how much had happened.
pub(super) type Seen = (Facts, u64, u64);

impl World {
    pub(super) fn name(&self, of: u8) -> Option<String> {
        let names: Vec<_> = self.pods.keys().collect();
        (!names.is_empty()).then(|| names[usize::from(of) % names.len()].clone())
    }

    pub(super) fn agent(&self, id: MemberId) -> Option<(&String, &Agent)> {
        self.pods.iter().find(|(_, agent)| agent.id == id)
    }

    pub(super) fn lives(&self, id: MemberId) -> bool {
        self.agent(id).is_some_and(|(_, agent)| !agent.cut)
    }

    pub(super) fn sets(&self) -> Vec<Vec<MemberId>> {
        self.membership.as_ref().map(|membership| membership.voters.clone()).unwrap_or_default()
    }

    pub(super) fn has(&self, id: MemberId) -> u64 {
        self.agent(id).and_then(|(_, agent)| agent.last).unwrap_or(0)
    }

    pub(super) fn each_set(&self, sets: &[Vec<MemberId>], of: impl Fn(MemberId) -> bool) -> bool {
        sets.iter().all(|set| set.iter().filter(|id| of(**id)).count() >= quorum(set.len()))
    }

    pub(super) fn happens(&mut self, what: Happens) {
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

    pub(super) fn of(&mut self, of: u8, change: impl Fn(&mut Agent)) {
        if let Some(agent) = self.name(of).and_then(|name| self.pods.get_mut(&name)) {
            change(agent);
        }
    }

    pub(super) fn create(&mut self, zone: u8, name: u8) {
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

    pub(super) fn facts(&mut self) -> Seen {
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
            asked: self.asked > 0,
            remembered: self.remembered.clone(),
            committed: None,
            pods: pods.collect(),
            fresh: Incarnation(format!("history-{}", self.looked)),
        };
        (facts, self.version, self.changes)
    }

    pub(super) fn answer(&self, name: &str, agent: &Agent) -> Member {
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
    pub(super) fn act(&mut self, (facts, version, changes): &Seen, joint: bool) -> Plan {
        let plan = plan(facts);
        let fresh = *changes == self.changes && *version == self.version;
        for name in &plan.opens {
            if let Some(agent) = self.pods.get_mut(name) {
                agent.open = true;
            }
        }
        for name in &plan.joins {
            if let Some(agent) = self.pods.get_mut(name).filter(|agent| agent.genesis.is_none()) {
                agent.genesis = facts.genesis.clone();
            }
        }
        match &plan.step {
            None => return plan,
            Some(Step::Remember(genesis)) => {
                if *version == self.version {
                    assert!(self.begun.is_empty(), "a genesis that may have begun is never replaced");
                    assert_eq!(self.asked, 0);
                    (self.status, self.version) = (Some(genesis.clone()), self.version + 1);
                }
            }
            Some(Step::Initialize { pod, genesis, place }) => {
                if *version == self.version {
                    (self.asked, self.version) = (self.asked + 1, self.version + 1);
                    match self.pods.get(pod) {
                        // The operator ended before it asked.
                        Some(_) if joint => {}
                        Some(_) => self.initialize(pod, genesis, place),
                        // It was certainly not asked, nor by anybody before.
                        None if self.asked == 1 => (self.asked, self.version) = (0, self.version + 1),
                        None => {}
                    }
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

    pub(super) fn remember(&mut self) {
        let Some(membership) = &self.membership else { return };
        let votes = |id: &MemberId| membership.voters.iter().flatten().any(|voter| voter == id);
        let members = membership.members.iter();
        self.remembered = members
            .map(|(id, place)| Remembered { id: *id, pod: place.pod.clone(), votes: votes(id) })
            .collect();
    }

    /// Nothing happens any more but what the group and one operator do.
    pub(super) fn rests(&mut self) -> Plan {
        for agent in self.pods.values_mut() {
            (agent.deaf, agent.cut) = (false, false);
        }
        self.pods.retain(|_, agent| !agent.ending);
        // A leader that has no quorum is none for long.
        let quorum = self.each_set(&self.sets(), |id| self.lives(id));
        self.leader = self.leader.filter(|leader| quorum && self.lives(*leader));
        for _ in 0..200 {
            self.elect(0);
            for of in 0..8 {
                self.advance(of);
            }
            let seen = self.facts();
            let plan = self.act(&seen, false);
            self.remember();
            if plan.step.is_none() && plan.opens.is_empty() && plan.joins.is_empty() {
                return plan;
            }
        }
        panic!("the operator comes to no end: {:?}", plan(&self.facts().0).step);
    }
}

pub(super) fn place(name: &str, agent: &Agent) -> Place {
    Place {
        pod: name.to_owned(),
        address: format!("10.0.0.{}:7073", agent.id.0),
        zone: format!("node-{}", agent.zone),
    }
}
