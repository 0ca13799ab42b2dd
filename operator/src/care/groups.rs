//! Which consumer groups belong to agents that are gone. Pure.

use std::collections::BTreeSet;

use decree_crds::labels;
use decree_wire::position::EngineName;

/// So many are deleted in one pass; the rest in the next.
const MOST: usize = 50;

/// What the groups of an engine's agents begin with.
#[must_use]
pub fn prefix(engine: &EngineName) -> String {
    labels::consumer_group(&engine.namespace, &engine.name, "")
}

/// Those of `groups` whose pod is not among `pods`, the names of all that are there, ending or not.
#[must_use]
pub fn orphaned(engine: &EngineName, groups: &[String], pods: &BTreeSet<String>) -> Vec<String> {
    let prefix = prefix(engine);
    let gone = |group: &&String| group.strip_prefix(&prefix).is_some_and(|pod| !pods.contains(pod));
    groups.iter().filter(gone).take(MOST).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_groups_of_this_engines_pods_that_are_gone() {
        let engine = EngineName { namespace: "shop".into(), name: "policy".into() };
        let groups = ["decree.shop.policy.a", "decree.shop.policy.b", "decree.shop.policy-2.c", "mine"];
        let groups = groups.map(str::to_owned);
        let pods = BTreeSet::from(["b".to_owned()]);
        assert_eq!(orphaned(&engine, &groups, &pods), ["decree.shop.policy.a"]);
        let many: Vec<String> = (0..100).map(|n| format!("decree.shop.policy.{n}")).collect();
        assert_eq!(orphaned(&engine, &many, &pods).len(), MOST);
    }
}
