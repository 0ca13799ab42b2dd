//! Which pods' readiness gates open: those whose going away, or whose predecessor's, the membership can bear.

use decree_wire::group::MemberId;

use crate::group::facts::Pod;
use crate::group::view::{Health, View};

/// Pods whose gate opens now. One that is open stays so: readiness says nothing of what all share.
///
/// A rollout goes on when a new pod is ready, and takes an old one away: so no gate opens while a member that could vote
/// has still to be promoted in the place of one that is lost, leaving, or was never there.
pub(super) fn open(view: &View<'_>) -> Vec<String> {
    let members = || view.membership.members.keys().copied();
    let fit = members().filter(|id| view.is_fit(*id)).count();
    let voters = view.voters().iter().filter(|id| view.health(**id) == Health::Well).count();
    if voters < fit.min(view.facts.voters) {
        return vec![];
    }
    let is_member = |id: MemberId| members().any(|member| member == id);
    let opens = |pod: &&Pod| {
        let id = pod.answer.as_ref().map(|answer| answer.id);
        !pod.open && !pod.ending && id.is_some_and(|id| is_member(id) && view.is_fit(id))
    };
    view.facts.pods.iter().filter(opens).map(|pod| pod.name.clone()).collect()
}
