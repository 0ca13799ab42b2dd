//! What a pod's deletion costs its group: of a ReplicaSet's pods learners go first, the leader last. Pure.

use decree_crds::labels;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::fetch::Asked;
use super::view::View;
use crate::care::pods;

const LEARNER: &str = "0";
const VOTER: &str = "100";
const LEADER: &str = "101";

/// Pods whose annotation is to be written, by name, and what it is to say. A user's own stays.
#[must_use]
pub fn costs(view: &View<'_>, all: &[Asked]) -> Vec<(String, &'static str)> {
    let voters = view.voters();
    let wanted = all.iter().filter(|asked| !pods::is_ending(&asked.pod)).filter_map(|asked| {
        let id = asked.answer.as_ref()?.id;
        let other = || if voters.contains(&id) { VOTER } else { LEARNER };
        let cost = if id == view.leader.id { LEADER } else { other() };
        differs(&asked.pod, cost).then(|| (asked.pod.name_any(), cost))
    });
    wanted.collect()
}

fn differs(pod: &Pod, cost: &str) -> bool {
    match pod.annotations().get(labels::POD_DELETION_COST).map(String::as_str) {
        None => cost != LEARNER,
        Some(is @ (LEARNER | VOTER | LEADER)) => is != cost,
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_says_stays() {
        let mut pod = pods::example("a", true);
        assert!(differs(&pod, VOTER) && !differs(&pod, LEARNER));
        pod.annotations_mut().insert(labels::POD_DELETION_COST.into(), VOTER.into());
        assert!(differs(&pod, LEARNER) && differs(&pod, LEADER) && !differs(&pod, VOTER));
        pod.annotations_mut().insert(labels::POD_DELETION_COST.into(), "-7".into());
        assert!(!differs(&pod, VOTER));
    }
}
