//! Raft as the world has it: who leads, what is certain, and changes of the membership by a leader.

use std::collections::BTreeSet;

use decree_wire::group::{Genesis, MemberId};
use decree_wire::member::{LogId, Membership, Place};

use super::world::World;
use crate::group::step::Order;

impl World {
    pub(super) fn propose(&mut self, many: u64) {
        let Some(leader) = self.leader else { return };
        self.head += many;
        self.append(leader);
    }

    pub(super) fn append(&mut self, to: MemberId) {
        let (head, membership) = (self.head, self.membership.clone());
        if let Some(agent) = self.pods.values_mut().find(|agent| agent.id == to) {
            (agent.last, agent.knows) = (Some(head), membership);
        }
        self.agree();
    }

    pub(super) fn advance(&mut self, of: u8) {
        let Some(id) = self.name(of).and_then(|name| self.pods.get(&name)).map(|agent| agent.id) else {
            return;
        };
        let member = self.membership.as_ref().is_some_and(|membership| membership.members.contains_key(&id));
        if member && self.leader.is_some() && self.lives(id) && self.agent(id).unwrap().1.genesis.is_some() {
            self.append(id);
        }
    }

    /// What a quorum of each set has is certain; with it a change of the membership.
    pub(super) fn agree(&mut self) {
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

    pub(super) fn elect(&mut self, of: u8) {
        if self.leader.is_some() || self.membership.is_none() {
            return;
        }
        if !self.wins(of) && self.undo() {
            self.wins(of);
        }
    }

    /// One leads whose log no quorum is ahead of, if there is a quorum.
    pub(super) fn wins(&mut self, of: u8) -> bool {
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
    pub(super) fn undo(&mut self) -> bool {
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

    pub(super) fn initialize(&mut self, pod: &str, genesis: &Genesis, place: &Place) {
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
    pub(super) fn lead(&mut self, pod: &str, order: &Order, wanted: usize, joint: bool) -> bool {
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
}
