//! A group that the operator forms: begun once, grown and mended one step at a time, by whoever has its certificate alone.

#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on says so
#![allow(dead_code)] // shared with the tests on Kafka and of the transport

#[path = "process/application.rs"]
mod application;
#[path = "peers/authority.rs"]
mod authority;
#[path = "peers/careless.rs"]
mod careless;
#[path = "process/client.rs"]
mod client;
#[path = "group/member.rs"]
mod member;
#[path = "group/operator.rs"]
mod operator;

use std::net::SocketAddr;

use authority::{Authority, When};
use client::{request, until};
use decree_sidecar::log::raft::ask::{Letter, Question};
use decree_wire::group::{Durability, Genesis, MemberId};
use decree_wire::heartbeat::Told;
use decree_wire::member::{
    HandOver, Initialize, Join, Learner, LogId, Member, Membership, Ordered, Place, Promote, Remove, Role,
    Scan, Scanned, Settle, path,
};
use decree_wire::position::{Incarnation, Position};
use member::Members;
use operator::{Operator, Said};

/// The members, and who forms a group of them.
struct Forming {
    members: Members,
    operator: Operator,
}

impl Forming {
    fn new(count: usize) -> Self {
        let mut members = Members::unformed(count);
        let operator = Operator::new(&members.authority.sign_name("decree://c", When::Now));
        members.start();
        Self { members, operator }
    }

    fn at(&self, n: usize) -> SocketAddr {
        self.members.all[n].peers()
    }

    /// What a member says, once it answers.
    fn member(&self, n: usize) -> Member {
        let mut member = None;
        until("a member answers the operator", || {
            member = self.operator.member(self.at(n));
            member.is_some()
        });
        member.unwrap()
    }

    fn id(&self, n: usize) -> MemberId {
        self.member(n).id
    }

    fn place(&self, n: usize) -> Place {
        let pod = self.members.all[n].pod.clone();
        Place { pod, address: self.at(n).to_string(), zone: format!("node-{n}") }
    }

    fn genesis(&self, first: usize, incarnation: &str) -> Genesis {
        Genesis {
            incarnation: Incarnation(incarnation.into()),
            base: Position(0),
            first: self.id(first),
            durability: Durability::Quorum,
        }
    }

    fn initialize(&self, n: usize, genesis: &Genesis) -> Said {
        let what = Initialize { genesis: genesis.clone(), place: self.place(n) };
        self.operator.post(self.at(n), path::INITIALIZE, &what)
    }

    fn join(&self, n: usize, genesis: &Genesis) -> Said {
        self.operator.post(self.at(n), path::JOIN, &Join { genesis: genesis.clone() })
    }

    /// Who leads among these, with a membership that is settled.
    fn leader(&self, among: &[usize]) -> (usize, Member) {
        let mut found = None;
        until("one leads, and the membership is settled", || {
            let answers = among.iter().filter_map(|n| Some((*n, self.operator.member(self.at(*n))?)));
            found = answers.filter(|(_, member)| member.role == Role::Leader).find(|(_, member)| {
                let settled = |membership: &Membership| membership.committed && membership.voters.len() == 1;
                member.leads.as_ref().is_some_and(|leads| leads.quorum_seen_ms.is_some_and(|ms| ms < 2_000))
                    && member.membership.as_ref().is_some_and(settled)
            });
            found.is_some()
        });
        found.unwrap()
    }

    /// Asks the leader for a change of the membership as it is, until it does it.
    fn lead<T: serde::Serialize>(&self, among: &[usize], path: &str, what: impl Fn(LogId) -> T) {
        until(path, || {
            let (leader, seen) = self.leader(among);
            let said = self.operator.post(self.at(leader), path, &what(seen.membership.unwrap().at));
            assert!(matches!(said.0, 200 | 409 | 421 | 503 | 504), "{path}: {said:?}");
            said.0 == 200
        });
    }

    /// Joins, learns, votes.
    fn grow(&self, among: &[usize], n: usize, genesis: &Genesis, instead_of: Option<MemberId>) {
        assert_eq!(self.join(n, genesis).0, 200);
        let (id, place) = (self.id(n), self.place(n));
        self.lead(among, path::LEARNER, |seen| Learner { seen, id, place: place.clone() });
        self.lead(among, path::PROMOTE, |seen| Promote { seen, id, instead_of });
    }

    fn settings(&self, leader: usize) -> Position {
        let said = self.operator.post(self.at(leader), path::SETTINGS, &member::settings());
        said.read::<Ordered>().position
    }
}

#[test]
fn a_group_is_begun_once_grown_one_by_one_and_goes_on_without_its_first_leader() {
    let mut group = Forming::new(4);
    let blank = group.member(0);
    let ready = request(group.members.all[0].health(), "GET", "/readyz", &[], "");
    assert_eq!(ready.status, 503, "{ready:?}");
    assert_eq!((blank.role, &blank.genesis, blank.last), (Role::Outside, &None, None));
    until("it says what it waits for", || {
        request(group.members.all[0].health(), "GET", "/readyz", &[], "").body.contains("WaitingForGroup")
    });
    let nothing = group.operator.post(group.at(0), path::SCAN, &Scan { from: None });
    assert_eq!(nothing.0, 409, "{nothing:?}");

    let (genesis, other) = (group.genesis(0, "one"), group.genesis(0, "other"));
    assert_eq!(group.initialize(1, &genesis).0, 409, "it is not the first");
    assert_eq!(group.initialize(0, &genesis).0, 200);
    assert_eq!(group.initialize(0, &genesis).0, 200, "again is no error");
    assert_eq!((group.initialize(0, &other).0, group.join(0, &other).0), (409, 409));
    let (_, leader) = group.leader(&[0]);
    assert_eq!(leader.leads.unwrap().quorum_seen_ms, Some(0), "it is a quorum by itself");
    assert_eq!((leader.id, leader.genesis), (genesis.first, Some(genesis.clone())));

    let scan = |from| group.operator.post(group.at(0), path::SCAN, &Scan { from }).read::<Scanned>();
    let Scanned::Nothing { next } = scan(None) else { panic!("there are settings already") };
    let position = group.settings(0);
    assert!(position >= next, "{position} {next}");
    assert_eq!(scan(None), Scanned::Settings { position, settings: Box::new(member::settings()) });
    assert!(matches!(scan(Some(position.next())), Scanned::Nothing { .. }));

    for n in 1..3 {
        group.grow(&[0, 1, 2][..n], n, &genesis, None);
        assert_eq!((group.join(n, &genesis).0, group.join(n, &other).0), (200, 409));
    }
    let (leader, seen) = group.leader(&[0, 1, 2]);
    assert_eq!(seen.membership.unwrap().voters[0].len(), 3);
    for n in 0..30 {
        let answer = group.members.all[n % 3].propose(&format!("id-{n}"), &n.to_string());
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    until("the leader has everybody's heartbeat, and tells the operator", || {
        let said = group.operator.get(group.at(leader), path::HEARTBEATS);
        let told: Vec<Told> = said.read();
        told.len() == 3
    });
    let follower = (leader + 1) % 3;
    assert_eq!(group.operator.get(group.at(follower), path::HEARTBEATS).0, 421);

    let dead = group.id(leader);
    group.members.all[leader].kill();
    let rest: Vec<_> = (0..3).filter(|n| *n != leader).collect();
    group.grow(&rest, 3, &genesis, Some(dead));
    group.lead(&rest, path::REMOVE, |seen| Remove { seen, id: dead, stays: false });
    let (_, seen) = group.leader(&[&rest[..], &[3]].concat());
    let membership = seen.membership.unwrap();
    assert!(!membership.members.contains_key(&dead), "{membership:?}");
    assert_eq!((membership.voters[0].len(), membership.members.len()), (3, 3));

    assert_eq!(group.members.all[3].propose("after", "after").status, 202);
    let mut expected: Vec<_> = (0..30).map(|n| n.to_string()).collect();
    expected.push("after".into());
    for n in [rest[0], rest[1], 3] {
        until("all is applied", || group.members.all[n].application.taken() == expected);
    }
}

#[test]
fn a_change_is_of_the_membership_that_was_seen_and_of_the_leader_alone() {
    let group = Forming::new(2);
    let genesis = group.genesis(0, "one");
    assert_eq!(group.initialize(0, &genesis).0, 200);
    let (_, seen) = group.leader(&[0]);
    let old = seen.membership.unwrap().at;
    let (id, place) = (group.id(1), group.place(1));
    let learner = |seen, place: &Place| {
        group.operator.post(group.at(0), path::LEARNER, &Learner { seen, id, place: place.clone() })
    };
    assert_eq!(group.join(1, &genesis).0, 200);
    let promote = Promote { seen: old, id, instead_of: None };
    let stranger = group.operator.post(group.at(0), path::PROMOTE, &promote);
    assert!(stranger.0 == 409 && stranger.1.contains("does not belong"), "{stranger:?}");
    assert_eq!(learner(old, &place).0, 200);
    let stale = learner(old, &place);
    assert!(stale.0 == 409 && stale.1.contains("another one by now"), "{stale:?}");
    let now = || group.leader(&[0]).1.membership.unwrap();
    assert_eq!(learner(now().at, &place).0, 200, "as it should be");
    let moved = Place { zone: "elsewhere".into(), ..place.clone() };
    assert_eq!(learner(now().at, &moved).0, 200);
    assert_eq!(now().members[&id], moved);

    let follower = group.operator.post(group.at(1), path::SETTLE, &Settle { seen: now().at });
    let leader = genesis.first.to_string();
    assert!(follower.0 == 421 && follower.1.contains(&leader), "{follower:?}");
    assert_eq!(group.operator.post(group.at(0), path::SETTLE, &Settle { seen: now().at }).0, 200);
    group.lead(&[0], path::PROMOTE, |seen| Promote { seen, id, instead_of: None });
    assert_eq!(now().voters[0].len(), 2);
    assert_eq!(group.operator.post(group.at(0), path::HAND_OVER, &HandOver { to: id }).0, 200);
    assert_eq!(group.leader(&[0, 1]).0, 1);
    let first = genesis.first;
    group.lead(&[1], path::REMOVE, |seen| Remove { seen, id: first, stays: true });
    let membership = group.leader(&[1]).1.membership.unwrap();
    assert_eq!((membership.voters, membership.members.len()), (vec![vec![id]], 2));
    until("it knows that it is a learner", || group.member(0).role == Role::Learner);
    assert_eq!(group.operator.post(group.at(1), path::REMOVE, &"nonsense").0, 400);
}

#[test]
fn a_first_member_killed_before_it_began_begins_when_it_is_asked_again() {
    let mut group = Forming::new(1);
    let genesis = group.genesis(0, "one");
    let id = genesis.first;
    // As if it had been killed between the genesis on its disk and the log's first entry.
    assert_eq!(group.join(0, &genesis).0, 200);
    group.members.all[0].kill();
    group.members.all[0].start();
    let again = group.member(0);
    assert_eq!((again.id, again.genesis.as_ref(), again.role), (id, Some(&genesis), Role::Outside));
    assert_eq!(group.initialize(0, &genesis).0, 200);
    group.leader(&[0]);
    group.settings(0);
    assert_eq!(group.members.all[0].propose("a", "a").status, 202);
    group.members.all[0].kill();
    group.members.all[0].start();
    assert_eq!(group.member(0).genesis.as_ref(), Some(&genesis));
    assert_eq!(group.initialize(0, &genesis).0, 200, "again is no error");
    assert_eq!(group.leader(&[0]).1.id, id);
}

#[test]
fn an_agent_speaks_for_no_member_but_its_own() {
    let group = Forming::new(1);
    let genesis = group.genesis(0, "one");
    assert_eq!(group.initialize(0, &genesis).0, 200);
    group.leader(&[0]);
    let MemberId(to) = genesis.first;
    let letter = |pod: &str, from| {
        let letter = Letter { incarnation: "one".into(), from, to, question: Question::Head };
        let peer = Operator::new(&group.members.authority.sign(&authority::peer(pod), When::Now));
        peer.post_bytes(group.at(0), "/raft/v1/head", postcard::to_stdvec(&letter).unwrap())
    };
    assert_eq!(letter("a-1", 7).0, 200, "one of whom the membership knows nothing");
    let other = letter("a-1", to);
    assert!(other.0 == 409 && other.1.contains("pod a-1 does not speak for"), "{other:?}");
    assert_eq!(letter("a-0", to).0, 200);
}

#[test]
fn a_voter_that_is_to_end_serves_until_its_group_has_let_it_go() {
    let mut group = Forming::new(2);
    let genesis = group.genesis(0, "one");
    assert_eq!(group.initialize(0, &genesis).0, 200);
    group.grow(&[0], 1, &genesis, None);
    group.settings(group.leader(&[0, 1]).0);
    let leaver = group.id(0);
    group.members.all[0].signal();
    until("it has handed over, and drains no more", || {
        let flushed = group.members.all[0].status()["shutdown"] == "flushed";
        flushed && group.member(0).role == Role::Follower
    });
    // Of two voters both are needed.
    assert_eq!(group.members.all[1].propose("a", "a").status, 202);
    assert_eq!(group.members.all[0].propose("b", "b").status, 503);
    assert!(!group.members.all[0].has_ended());
    group.lead(&[1], path::REMOVE, |seen| Remove { seen, id: leaver, stays: false });
    until("it ends", || group.members.all[0].has_ended());
    assert_eq!(group.members.all[1].propose("c", "c").status, 202);
}

#[test]
fn a_disk_of_another_history_is_never_overwritten_and_says_what_to_do() {
    let mut group = Forming::new(1);
    let (genesis, other) = (group.genesis(0, "one"), group.genesis(0, "other"));
    assert_eq!(group.initialize(0, &genesis).0, 200);
    group.leader(&[0]);
    group.members.all[0].kill();
    group.members.all[0].told(|group| group.genesis = Some(other.clone()));
    group.members.all[0].start();
    let own = group.member(0);
    assert_eq!((own.genesis, own.role), (Some(genesis.clone()), Role::Outside));
    until("it says so", || {
        let body = request(group.members.all[0].health(), "GET", "/readyz", &[], "").body;
        body.contains("OtherHistory") && body.contains("delete the pod")
    });
    assert_eq!(group.initialize(0, &other).0, 409);
    group.members.all[0].told(|group| group.genesis = Some(genesis.clone()));
    assert_eq!(group.leader(&[0]).1.genesis, Some(genesis));
}

#[test]
fn peers_and_strangers_are_not_the_operator() {
    let group = Forming::new(1);
    let genesis = group.genesis(0, "one");
    let authority = &group.members.authority;
    let refused = |reason: &str| {
        let metrics = group.members.all[0].metrics();
        let line = metrics.lines().find(|line| line.contains(&format!("reason=\"{reason}\"")));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0_u64)
    };
    let peer = Operator::new(&authority.sign(&authority::peer("a-1"), When::Now));
    let join = Join { genesis };
    for path in [path::JOIN, path::INITIALIZE, path::LEARNER, path::SETTINGS] {
        assert_eq!(peer.post(group.at(0), path, &join).0, 403, "{path}");
    }
    assert_eq!(peer.get(group.at(0), path::MEMBER).0, 403);
    assert_eq!(peer.get(group.at(0), path::HEARTBEATS).0, 403);
    assert_eq!(refused("forbidden"), 6);
    let letter = group.operator.post(group.at(0), "/raft/v1/vote", &join);
    assert_eq!(letter.0, 403, "{letter:?}");
    assert_eq!(group.operator.post(group.at(0), "/v1/heartbeat", &join).0, 403);
    assert_eq!(group.operator.get(group.at(0), "/nothing").0, 404);
    for (material, reason) in [
        (authority.sign_name("decree://other", When::Now), "engine"),
        (Authority::new("stranger").sign_name("decree://c", When::Now), "authority"),
        (authority.sign_name("decree://c", When::LongAgo), "expired"),
    ] {
        let before = refused(reason);
        assert_eq!(Operator::new(&material).get(group.at(0), path::MEMBER).0, 0, "{reason}");
        until(reason, || refused(reason) == before + 1);
    }
    assert_eq!(group.member(0).genesis, None);
}
