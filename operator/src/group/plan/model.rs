//! A model of a group that is looked after by two operators, who see late, act late and die in between; driven at random.

mod raft;
mod world;

use std::collections::BTreeSet;

use decree_wire::group::MemberId;
use proptest::prelude::*;
use world::{Happens, Seen, World};

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
            && world.asked > 0
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
