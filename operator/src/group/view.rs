//! What the facts come to: who leads, who belongs, and how each member does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use decree_wire::group::{Genesis, MemberId};
use decree_wire::member::{Leads, Member, Membership, Place, Role};

use super::facts::{Facts, Pod};

/// A member that is so many entries behind the last certain one has caught up: it gets them faster than others come.
pub const CAUGHT_UP: u64 = 1000;
/// A leader that has not heard of a quorum for so many election timeouts may have been deposed.
const DEPOSED: u32 = 2;
/// A member that has not answered its leader for so many election timeouts counts for nothing.
const SILENT: u32 = 3;

/// How a member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Its sidecar answers.
    Well,
    /// Its pod is there, and its sidecar does not answer: nobody knows.
    Silent,
    /// Its pod is going away, and its disk with it.
    Leaving,
    /// Its pod is gone, or has another disk.
    Lost,
}

impl Facts {
    /// How a member does, of which its group knows that it lived in the pod `place.pod`.
    #[must_use]
    pub fn health(&self, id: MemberId, pod: &str) -> Health {
        let is = |pod: &&Pod| pod.answer.as_ref().is_some_and(|answer| answer.id == id);
        if let Some(pod) = self.pods.iter().find(is) {
            return if pod.ending { Health::Leaving } else { Health::Well };
        }
        match self.pods.iter().find(|there| there.name == pod) {
            // Another pod of that name has another disk, on which nothing is before its sidecar has run.
            Some(Pod { answer: None, begun: true, ending, .. }) => {
                if *ending {
                    Health::Leaving
                } else {
                    Health::Silent
                }
            }
            Some(_) | None => Health::Lost,
        }
    }

    /// What those say that belong to the group of this genesis, or are to.
    pub fn answers<'a>(&'a self, genesis: &'a Genesis) -> impl Iterator<Item = (&'a Pod, &'a Member)> {
        let answered = self.pods.iter().filter_map(|pod| Some((pod, pod.answer.as_ref()?)));
        answered.filter(move |(_, answer)| answer.genesis.as_ref() == Some(genesis))
    }
}

/// A leader, what it knows, and what that comes to.
#[derive(Debug)]
pub struct View<'a> {
    /// What is known.
    pub facts: &'a Facts,
    /// The leader's pod.
    pub pod: &'a Pod,
    /// The leader.
    pub leader: &'a Member,
    /// The membership that it goes by.
    pub membership: &'a Membership,
    leads: &'a Leads,
    health: BTreeMap<MemberId, Health>,
}

impl<'a> View<'a> {
    /// Of the group with this genesis; none where nobody leads it for certain.
    #[must_use]
    pub fn of(facts: &'a Facts, genesis: &'a Genesis) -> Option<Self> {
        let leading = facts.answers(genesis).filter(|(_, answer)| answer.role == Role::Leader);
        // One that was cut off thinks that it leads still, in an earlier term.
        let (pod, leader) = leading.max_by_key(|(_, answer)| answer.term)?;
        let (leads, membership) = (leader.leads.as_ref()?, leader.membership.as_ref()?);
        let fresh = within(leads.quorum_seen_ms, facts.election_timeout * DEPOSED);
        let members = membership.members.iter();
        let health = members.map(|(id, place)| (*id, facts.health(*id, &place.pod))).collect();
        fresh.then_some(Self { facts, pod, leader, membership, leads, health })
    }

    /// The voters; of two sets the newer one.
    #[must_use]
    pub fn voters(&self) -> BTreeSet<MemberId> {
        self.membership.voters.last().into_iter().flatten().copied().collect()
    }

    /// How a member does.
    #[must_use]
    pub fn health(&self, id: MemberId) -> Health {
        self.health.get(&id).copied().unwrap_or(Health::Lost)
    }

    /// Whether the leader has heard of it lately.
    #[must_use]
    pub fn is_seen(&self, id: MemberId) -> bool {
        let seen = || self.leads.others.get(&id).and_then(|other| other.seen_ms);
        id == self.leader.id || within(seen(), self.facts.election_timeout * SILENT)
    }

    /// Whether it has nearly all that is certain.
    #[must_use]
    pub fn is_caught_up(&self, id: MemberId) -> bool {
        let certain = self.leader.committed.unwrap_or(0);
        let matched = || self.leads.others.get(&id).and_then(|other| other.matched);
        id == self.leader.id || matched().is_some_and(|matched| matched + CAUGHT_UP >= certain)
    }

    /// The last index that a member certainly has.
    #[must_use]
    pub fn matched(&self, id: MemberId) -> Option<u64> {
        if id == self.leader.id { self.leader.last } else { self.leads.others.get(&id)?.matched }
    }

    /// How long ago the leader heard of it, in milliseconds.
    #[must_use]
    pub fn seen_ms(&self, id: MemberId) -> Option<u64> {
        if id == self.leader.id { Some(0) } else { self.leads.others.get(&id)?.seen_ms }
    }

    /// Whether a member could vote at once: its pod stays, its sidecar answers us and the leader, and it has caught up.
    #[must_use]
    pub fn is_fit(&self, id: MemberId) -> bool {
        self.health(id) == Health::Well && self.is_seen(id) && self.is_caught_up(id)
    }

    /// Whether a voter does its part: its pod stays, its leader hears it, and it has caught up. That it does not answer us, as
    /// one that is busy, says nothing of that.
    #[must_use]
    pub fn serves(&self, id: MemberId) -> bool {
        let stays = matches!(self.health(id), Health::Well | Health::Silent);
        stays && self.is_seen(id) && self.is_caught_up(id)
    }

    /// Whether the voters may become these without a moment in which nothing can be ordered: a quorum of those before is
    /// there to agree, and a quorum of those after has what is certain.
    #[must_use]
    pub fn may_become(&self, after: &BTreeSet<MemberId>) -> bool {
        let agree = self.voters().iter().filter(|id| self.is_seen(**id)).count();
        let hold = after.iter().filter(|id| self.is_seen(**id) && self.is_caught_up(**id)).count();
        agree >= quorum(self.voters().len()) && hold >= quorum(after.len())
    }

    /// Where a member is found.
    #[must_use]
    pub fn place(&self, id: MemberId) -> Option<&'a Place> {
        self.membership.members.get(&id)
    }
}

/// More than half.
#[must_use]
pub fn quorum(of: usize) -> usize {
    of / 2 + 1
}

fn within(ms: Option<u64>, limit: Duration) -> bool {
    ms.is_some_and(|ms| u128::from(ms) <= limit.as_millis())
}
