//! A group whose members are written down forms itself: the first begins it, whoever leads adds the others. Pure.

use std::collections::BTreeMap;

use decree_wire::document::group::FixedMember;

/// A member's id.
type Id = u64;

/// What a written-down member says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) id: Id,
    /// Its log holds something.
    pub(super) begun: bool,
}

/// One that belongs to the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) agent: String,
    pub(super) votes: bool,
    /// It has the log, or nearly: it can vote without holding up the others.
    pub(super) fit: bool,
}

/// What this member knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Whether its own log holds something.
    pub(super) begun: bool,
    /// Whether it leads.
    pub(super) leads: bool,
    /// The group as it is.
    pub(super) members: BTreeMap<Id, Member>,
    /// What each pod said; it is not here if it did not answer.
    pub(super) known: BTreeMap<String, Known>,
}

/// What is to be done next, by this member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Begin,
    Add(Id, FixedMember),
    Promote(Id),
    Remove(Id),
    /// Nothing, until others are there or have done their part.
    Wait(String),
    /// Nothing: all are members, or another one sees to it.
    Rest,
}

/// One step towards the group that is written down, from what `own` knows.
pub(super) fn step(own: &str, fixed: &[FixedMember], facts: &Facts) -> Step {
    if !facts.begun {
        return beginning(own, fixed, facts);
    }
    if !facts.leads {
        return Step::Rest;
    }
    let mut missing = Vec::new();
    for member in fixed {
        let Some(known) = facts.known.get(&member.pod) else {
            missing.push(member.pod.as_str());
            continue;
        };
        match facts.members.get(&known.id) {
            None => return Step::Add(known.id, member.clone()),
            Some(Member { votes: false, fit: true, .. }) => return Step::Promote(known.id),
            Some(Member { votes: false, fit: false, .. }) => {
                return Step::Wait(format!("{} is still getting the log", member.pod));
            }
            Some(Member { votes: true, .. }) => {}
        }
        // A disk that was lost took its member's id along: the pod is a new member, and the old one never comes again.
        let lost = facts.members.iter().find(|(id, other)| other.agent == member.pod && **id != known.id);
        if let Some((id, _)) = lost {
            return Step::Remove(*id);
        }
    }
    if missing.is_empty() { Step::Rest } else { Step::Wait(format!("no answer from {}", missing.join(", "))) }
}

/// Only while nobody has begun: a first member that lost its disk would else begin a second history of the same name.
fn beginning(own: &str, fixed: &[FixedMember], facts: &Facts) -> Step {
    if fixed.first().is_none_or(|first| first.pod != own) {
        return Step::Wait("waits to be added by the group's leader".into());
    }
    let others = || fixed.iter().filter(|member| member.pod != own);
    let silent: Vec<_> = others()
        .filter(|member| !facts.known.contains_key(&member.pod))
        .map(|member| member.pod.as_str())
        .collect();
    if facts.known.values().any(|known| known.begun) {
        return Step::Wait("the others have begun; waits to be added by the group's leader".into());
    }
    if !silent.is_empty() {
        let why = "the group begins when all its members say that they hold no log";
        return Step::Wait(format!("{why}; no answer from {}", silent.join(", ")));
    }
    Step::Begin
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed() -> Vec<FixedMember> {
        ["a", "b", "c"].map(|pod| FixedMember { pod: pod.into(), address: format!("{pod}:1") }).into()
    }

    fn known(of: &[(&str, Id, bool)]) -> BTreeMap<String, Known> {
        of.iter().map(|(pod, id, begun)| ((*pod).to_owned(), Known { id: *id, begun: *begun })).collect()
    }

    #[test]
    fn the_first_begins_when_all_others_say_that_nobody_has() {
        let mut facts = Facts { known: known(&[("a", 1, false), ("b", 2, false)]), ..Facts::default() };
        assert!(matches!(step("a", &fixed(), &facts), Step::Wait(why) if why.contains("from c")));
        facts.known = known(&[("a", 1, false), ("b", 2, false), ("c", 3, false)]);
        assert_eq!(step("a", &fixed(), &facts), Step::Begin);
        assert!(matches!(step("b", &fixed(), &facts), Step::Wait(_)));
        facts.known = known(&[("a", 4, false), ("b", 2, true), ("c", 3, true)]);
        assert!(matches!(step("a", &fixed(), &facts), Step::Wait(why) if why.contains("have begun")));
    }

    #[test]
    fn it_grows_one_by_one_whoever_leads_and_a_lost_disk_is_another_member() {
        let mut members = BTreeMap::from([(1, "a")]);
        let mut voters = vec![1];
        let mut done = Vec::new();
        loop {
            let facts = Facts {
                begun: true,
                leads: true,
                members: members
                    .iter()
                    .map(|(id, agent)| {
                        (*id, Member { agent: (*agent).into(), votes: voters.contains(id), fit: true })
                    })
                    .collect(),
                known: known(&[
                    ("a", 1, true),
                    ("b", 2, true),
                    ("c", if done.len() < 4 { 3 } else { 9 }, true),
                ]),
            };
            match step("b", &fixed(), &facts) {
                Step::Add(id, member) => {
                    done.push(format!("add {id}"));
                    members.insert(id, if member.pod == "b" { "b" } else { "c" });
                }
                Step::Promote(id) => {
                    done.push(format!("promote {id}"));
                    voters.push(id);
                }
                Step::Remove(id) => {
                    done.push(format!("remove {id}"));
                    members.remove(&id);
                    voters.retain(|voter| *voter != id);
                }
                other => {
                    assert_eq!(other, Step::Rest);
                    break;
                }
            }
        }
        assert_eq!(done, ["add 2", "promote 2", "add 3", "promote 3", "add 9", "promote 9", "remove 3"]);
        let behind = Member { agent: "b".into(), votes: false, fit: false };
        let known = known(&[("a", 1, true), ("b", 2, true), ("c", 3, true)]);
        let own = Member { agent: "a".into(), votes: true, fit: true };
        let members = BTreeMap::from([(1, own), (2, behind)]);
        let behind = Facts { begun: true, leads: true, members, known };
        assert!(matches!(step("a", &fixed(), &behind), Step::Wait(why) if why.contains("b is still")));
        let idle = Facts { begun: true, ..Facts::default() };
        assert_eq!(step("a", &fixed(), &idle), Step::Rest, "another one leads");
    }
}
