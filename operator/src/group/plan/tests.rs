//! The plan, case by case.

use std::collections::BTreeMap;
use std::time::Duration;

use decree_wire::group::{Durability, Genesis, MemberId};
use decree_wire::member::{Leads, LogId, Member, Membership, Other, Place, Role};
use decree_wire::position::{Incarnation, Position};

use super::plan;
use crate::group::facts::{Facts, Pod};
use crate::group::step::{Order, Plan, Step};

const SEEN: LogId = LogId { term: 2, index: 40 };

fn genesis(incarnation: &str) -> Genesis {
    Genesis {
        incarnation: Incarnation(incarnation.into()),
        base: Position(0),
        first: MemberId(1),
        durability: Durability::Quorum,
    }
}

/// A pod that has not been told of any group; its member has the id `id`, and it is on the node of that number.
fn blank(id: u64) -> Pod {
    let name = format!("opa-{id}");
    let place = Place { pod: name.clone(), address: format!("10.0.0.{id}:7073"), zone: format!("node-{id}") };
    let answer = Member {
        level: 1,
        id: MemberId(id),
        pod: name.clone(),
        genesis: None,
        role: Role::Outside,
        term: 0,
        leader: None,
        last: None,
        committed: None,
        membership: None,
        leads: None,
    };
    Pod {
        name,
        place: Some(place),
        ending: false,
        begun: true,
        elder: true,
        open: false,
        answer: Some(answer),
    }
}

fn facts(pods: Vec<Pod>) -> Facts {
    Facts {
        voters: 3,
        election_timeout: Duration::from_secs(1),
        genesis: None,
        asked: false,
        remembered: vec![],
        committed: None,
        pods,
        fresh: Incarnation("fresh".into()),
    }
}

/// A group with these voters and learners, each in its pod; the first voter leads, and all have everything.
pub(crate) fn group(voters: &[u64], learners: &[u64]) -> Facts {
    let all = || voters.iter().chain(learners);
    let pods: Vec<Pod> = all().map(|id| blank(*id)).collect();
    let members: BTreeMap<MemberId, Place> =
        pods.iter().zip(all()).map(|(pod, id)| (MemberId(*id), pod.place.clone().unwrap())).collect();
    let voting = voters.iter().map(|id| MemberId(*id)).collect();
    let membership = Membership { at: SEEN, committed: true, voters: vec![voting], members };
    let mut facts = Facts { genesis: Some(genesis("one")), ..facts(pods) };
    for (pod, id) in facts.pods.iter_mut().zip(all()) {
        let answer = pod.answer.as_mut().unwrap();
        answer.genesis = Some(genesis("one"));
        answer.role = if voters.contains(id) { Role::Follower } else { Role::Learner };
        (answer.term, answer.last, answer.committed) = (2, Some(5000), Some(5000));
        answer.membership = Some(membership.clone());
    }
    let leader = facts.pods[0].answer.as_mut().unwrap();
    leader.role = Role::Leader;
    let others = all().skip(1).map(|id| (MemberId(*id), Other { matched: Some(5000), seen_ms: Some(20) }));
    leader.leads = Some(Leads { quorum_seen_ms: Some(20), others: others.collect() });
    facts
}

impl Facts {
    fn member(&mut self, id: u64) -> &mut Member {
        let member = self.pods.iter_mut().find_map(|pod| pod.answer.as_mut().filter(|a| a.id.0 == id));
        member.unwrap()
    }

    fn pod(&mut self, id: u64) -> &mut Pod {
        self.pods.iter_mut().find(|pod| pod.name == format!("opa-{id}")).unwrap()
    }

    fn gone(mut self, id: u64) -> Self {
        self.pods.retain(|pod| pod.name != format!("opa-{id}"));
        self
    }

    /// What the first pod's leader says of another member.
    fn other(&mut self, id: u64) -> &mut Other {
        let leader = self.pods[0].answer.as_mut().unwrap();
        leader.leads.as_mut().unwrap().others.get_mut(&MemberId(id)).unwrap()
    }

    fn told(&mut self, membership: impl Fn(&mut Membership)) {
        membership(self.pods[0].answer.as_mut().unwrap().membership.as_mut().unwrap());
    }
}

/// What the leader is asked to do; none where nothing is asked of it.
fn order(plan: &Plan) -> Option<Order> {
    match plan.step.clone() {
        Some(Step::Lead { order, .. }) => Some(order),
        _ => None,
    }
}

fn promote(id: u64, instead_of: Option<u64>) -> Option<Order> {
    Some(Order::Promote { seen: SEEN, id: MemberId(id), instead_of: instead_of.map(MemberId) })
}

fn remove(id: u64, stays: bool) -> Option<Order> {
    Some(Order::Remove { seen: SEEN, id: MemberId(id), stays })
}

fn reasons(plan: &Plan) -> Vec<&'static str> {
    plan.problems.iter().map(|problem| problem.reason).collect()
}

#[test]
fn a_group_begins_with_one_member_and_its_genesis_comes_first() {
    let mut facts = facts(vec![blank(2), blank(1)]);
    let Some(Step::Remember(genesis)) = plan(&facts).step else { panic!("nothing is remembered") };
    assert_eq!((genesis.incarnation.0.as_str(), genesis.first), ("fresh", MemberId(1)));
    facts.genesis = Some(genesis.clone());
    facts.fresh = Incarnation("fresher".into());
    let begun = plan(&facts).step;
    let Some(Step::Initialize { pod, genesis: with, .. }) = &begun else { panic!("{begun:?}") };
    assert_eq!((pod.as_str(), with), ("opa-1", &genesis));
    // Told, and the operator ended before it saw what came of it.
    facts.member(1).genesis = Some(genesis);
    assert_eq!(plan(&facts).step, begun);
}

#[test]
fn nothing_begins_while_a_pod_may_know_more() {
    let mut facts = facts(vec![blank(1), blank(2)]);
    facts.pods[1].answer = None;
    assert_eq!((plan(&facts).step, plan(&facts).waiting.is_some()), (None, true));
    facts.pods[1].elder = false;
    assert!(plan(&facts).step.is_some(), "made after the group, it knows nothing of one before");
    (facts.pods[1].elder, facts.pods[1].begun) = (true, false);
    assert!(plan(&facts).step.is_some(), "it never ran");
    let none = plan(&Facts { pods: vec![], ..facts });
    assert_eq!((none.step, none.no_quorum.unwrap().0), (None, "NoMembers"));
}

#[test]
fn a_resource_that_was_made_again_reads_its_genesis_from_the_living() {
    let again = Facts { genesis: None, ..group(&[1, 2, 3], &[]) };
    assert_eq!(plan(&again).step, Some(Step::Remember(genesis("one"))));
    let mut two = again;
    two.member(2).genesis = Some(genesis("two"));
    assert_eq!((plan(&two).step, reasons(&plan(&two))), (None, vec!["SeveralHistories"]));
}

#[test]
fn there_is_no_second_history_where_one_was_lost() {
    let mut gone = Facts { genesis: Some(genesis("one")), asked: true, ..facts(vec![blank(7), blank(8)]) };
    let plan_ = plan(&gone);
    assert_eq!((plan_.step.clone(), reasons(&plan_)), (None, vec!["QuorumLost"]));
    gone.pods[0].answer = None;
    assert_eq!(reasons(&plan(&gone)), Vec::<&str>::new(), "one that does not answer may be it");
}

#[test]
fn a_genesis_that_nobody_was_asked_to_begin_with_gives_way_to_another() {
    let mut gone = Facts { genesis: Some(genesis("one")), ..facts(vec![blank(7), blank(8)]) };
    let Some(Step::Remember(another)) = plan(&gone).step else { panic!("nothing is remembered") };
    assert_eq!((another.incarnation.0.as_str(), another.first), ("fresh", MemberId(7)));
    gone.pods.push(Pod { ending: true, ..blank(1) });
    assert_eq!(plan(&gone).step, Some(Step::Remember(another)), "its first member is going away");
    gone.asked = true;
    assert!(
        matches!(plan(&gone).step, Some(Step::Initialize { pod, .. }) if pod == "opa-1"),
        "it may have begun"
    );
}

#[test]
fn a_majority_whose_disks_are_gone_is_told_and_what_is_left_too() {
    let mut facts = group(&[1, 2, 3], &[]).gone(1).gone(2);
    facts.committed = Some(Position(4990));
    let lost = plan(&facts);
    assert_eq!((lost.step.clone(), reasons(&lost)), (None, vec!["QuorumLost"]));
    let message = &lost.problems[0].message;
    for part in ["2 of 3 voters", "opa-1, opa-2", "up to position 5000", "position 4990"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    let elects = plan(&group(&[1, 2, 3], &[]).gone(1));
    assert_eq!((reasons(&elects), elects.no_quorum.unwrap().0), (vec![], "NoLeader"));
}

#[test]
fn one_change_at_a_time_and_what_was_begun_is_finished() {
    let mut facts = group(&[1, 2], &[3]);
    facts.told(|membership| membership.committed = false);
    assert_eq!((plan(&facts).step, plan(&facts).waiting.is_some()), (None, true));
    facts.told(|membership| {
        membership.committed = true;
        membership.voters = vec![vec![MemberId(1), MemberId(2)], vec![MemberId(1), MemberId(2), MemberId(3)]];
    });
    assert_eq!(order(&plan(&facts)), Some(Order::Settle { seen: SEEN }));
}

#[test]
fn a_pod_is_told_then_learns_and_votes_when_it_has_caught_up() {
    let mut facts = group(&[1, 2], &[]);
    facts.pods.push(blank(3));
    assert_eq!((plan(&facts).joins, order(&plan(&facts))), (vec!["opa-3".to_owned()], None));
    facts.member(3).genesis = Some(genesis("one"));
    assert!(matches!(order(&plan(&facts)), Some(Order::Learner { id: MemberId(3), seen: SEEN, .. })));
    let mut facts = group(&[1, 2], &[3]);
    facts.other(3).matched = Some(100);
    let behind = plan(&facts);
    assert_eq!((order(&behind), behind.waiting), (None, Some("learners are catching up")));
    facts.other(3).matched = Some(4100);
    assert_eq!(order(&plan(&facts)), promote(3, None));
    facts.other(3).seen_ms = Some(10_000);
    assert_eq!(order(&plan(&facts)), None, "the leader does not hear it");
}

#[test]
fn a_member_with_another_address_is_found_there() {
    let mut facts = group(&[1, 2, 3], &[]);
    let moved = Place { address: "10.9.9.9:7073".into(), ..facts.pod(2).place.clone().unwrap() };
    facts.pod(2).place = Some(moved.clone());
    assert_eq!(order(&plan(&facts)), Some(Order::Learner { seen: SEEN, id: MemberId(2), place: moved }));
}

#[test]
fn one_that_leaves_is_replaced_in_one_change_and_serves_until_then() {
    let mut facts = group(&[1, 2, 3], &[4]);
    facts.pod(3).ending = true;
    assert_eq!(order(&plan(&facts)), promote(4, Some(3)));
    facts.other(4).matched = Some(0);
    assert_eq!(order(&plan(&facts)), None, "it serves while the other catches up");
    let mut alone = group(&[1, 2, 3], &[]);
    alone.pod(3).ending = true;
    assert_eq!(order(&plan(&alone)), remove(3, false), "nobody can take its place");
    alone.pods.push(Pod { answer: None, begun: false, ..blank(5) });
    assert_eq!(order(&plan(&alone)), None, "somebody may, soon");
    alone.pod(2).ending = true;
    assert_eq!(order(&plan(&alone)), remove(2, false), "one that stays could order nothing without them");
    let mut first = group(&[1, 2, 3], &[]);
    (first.pod(1).ending, first.pod(2).ending) = (true, true);
    first.other(3).matched = Some(0);
    assert_eq!(order(&plan(&first)), None, "who can't hand over yet stays, and so does the quorum");
    first.other(3).matched = Some(5000);
    first.voters = 1;
    assert_eq!(order(&plan(&first)), Some(Order::HandOver { to: MemberId(3) }));
    first
        .pod(1)
        .answer
        .as_mut()
        .unwrap()
        .leads
        .as_mut()
        .unwrap()
        .others
        .get_mut(&MemberId(3))
        .unwrap()
        .seen_ms = None;
    assert_eq!(order(&plan(&first)), None);
}

#[test]
fn one_that_is_lost_no_longer_counts() {
    assert_eq!(order(&plan(&group(&[1, 2, 3], &[4]).gone(3))), promote(4, Some(3)));
    let facts = group(&[1, 2, 3], &[]).gone(3);
    assert_eq!(order(&plan(&facts)), remove(3, false));
    let mut alone = group(&[1, 2, 3], &[]).gone(3);
    alone.other(2).seen_ms = None;
    assert_eq!(order(&plan(&alone)), None, "there is no quorum to agree");
    assert_eq!(order(&plan(&group(&[1, 2, 3], &[4]).gone(4))), remove(4, false));
    // The next pod of that name has another disk.
    let mut again = group(&[1, 2, 3], &[]);
    let next = again.member(3);
    (next.id, next.genesis) = (MemberId(9), None);
    assert_eq!(plan(&again).joins, ["opa-3"]);
    assert_eq!(order(&plan(&again)), remove(3, false), "and that waits for no answer");
    again.member(9).genesis = Some(genesis("one"));
    assert_eq!(order(&plan(&again)), remove(3, false));
    again.pod(3).answer = None;
    assert_eq!(order(&plan(&again)), None, "it may be the old one: nobody knows");
    again.pod(3).begun = false;
    assert_eq!(order(&plan(&again)), remove(3, false));
}

#[test]
fn a_leader_that_leaves_hands_over_first() {
    let mut facts = group(&[1, 2, 3], &[4]);
    facts.pod(1).ending = true;
    facts.other(2).matched = Some(4900);
    assert_eq!(order(&plan(&facts)), Some(Order::HandOver { to: MemberId(3) }));
    let mut alone = group(&[1], &[4]);
    (alone.voters, alone.pod(1).ending) = (1, true);
    assert_eq!(order(&plan(&alone)), promote(4, Some(1)));
}

#[test]
fn voters_are_as_many_as_wanted_and_on_nodes_of_their_own() {
    let mut fewer = group(&[1, 2, 3], &[]);
    fewer.voters = 1;
    assert_eq!(order(&plan(&fewer)), remove(3, true));
    let crowd = |facts: &mut Facts| {
        let zone = |place: &mut Place| place.zone = "node-1".into();
        facts.told(|membership| zone(membership.members.get_mut(&MemberId(3)).unwrap()));
        zone(facts.pod(3).place.as_mut().unwrap());
    };
    let mut crowded = group(&[1, 2, 3], &[4]);
    crowd(&mut crowded);
    assert_eq!(order(&plan(&crowded)), promote(4, Some(3)));
    let mut grows = group(&[1], &[3, 4]);
    crowd(&mut grows);
    assert_eq!(order(&plan(&grows)), promote(4, None), "on a node without a voter first");
    let mut nowhere = group(&[1, 2, 3], &[]);
    crowd(&mut nowhere);
    assert_eq!(plan(&nowhere).step, None);
}

#[test]
fn no_gate_opens_while_a_promotion_is_outstanding() {
    let mut rollout = group(&[1, 2, 3], &[4]);
    assert_eq!(plan(&rollout).opens, ["opa-1", "opa-2", "opa-3", "opa-4"], "a learner is a successor");
    rollout.pod(3).ending = true;
    assert_eq!(plan(&rollout).opens, Vec::<String>::new());
    rollout.other(4).matched = Some(0);
    assert_eq!(plan(&rollout).opens, ["opa-1", "opa-2"], "one that is not ready yet holds up no other");
    let mut first = group(&[1], &[]);
    assert_eq!(plan(&first).opens, ["opa-1"], "nor do pods that don't exist");
    first.pod(1).open = true;
    assert_eq!(plan(&first).opens, Vec::<String>::new());
}

#[test]
fn whoever_was_deposed_is_not_asked() {
    let mut facts = group(&[1, 2, 3], &[4]).gone(4);
    let mut elected = facts.member(1).clone();
    (elected.id, elected.pod, elected.term) = (MemberId(2), "opa-2".into(), 3);
    *facts.member(2) = elected;
    let step = plan(&facts).step;
    assert!(matches!(&step, Some(Step::Lead { pod, .. }) if pod == "opa-2"), "{step:?}");
    facts.member(2).leads.as_mut().unwrap().quorum_seen_ms = Some(9000);
    let cut_off = plan(&facts);
    assert_eq!((cut_off.step, cut_off.no_quorum.unwrap().0), (None, "NoLeader"));
}

#[test]
fn a_stranger_stays_outside() {
    let mut facts = group(&[1, 2, 3], &[]);
    facts.pods.push(blank(4));
    facts.member(4).genesis = Some(genesis("other"));
    let plan = plan(&facts);
    assert_eq!(plan.step, None);
    let alert = plan.alerts.iter().find(|alert| alert.reason == "OtherHistory").unwrap();
    assert!(alert.message.contains("opa-4"), "{}", alert.message);
}

#[test]
fn fewer_voters_than_wanted_are_told() {
    let mut facts = group(&[1, 2], &[]);
    let told = |facts: &Facts| plan(facts).alerts.iter().any(|alert| alert.reason == "BelowVoters");
    assert!(told(&facts));
    let mut busy = group(&[1, 2, 3], &[]);
    busy.pod(3).answer = None;
    assert!(!told(&busy), "its leader hears it");
    facts.voters = 1;
    assert!(!told(&facts));
    assert!(!told(&group(&[1, 2, 3], &[])));
    assert_eq!(
        plan(&group(&[1, 2, 3], &[])),
        Plan { opens: vec!["opa-1".into(), "opa-2".into(), "opa-3".into()], ..Plan::default() }
    );
}
