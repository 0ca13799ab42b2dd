//! Which group this agent's disk belongs to: as the disk says; else as the members are written down, or as the operator says.

use decree_wire::document::group::{Fixed, Group};
use decree_wire::group;
use decree_wire::heartbeat::Trouble;

use super::ordered::Error;
use crate::agent::Agent;
use crate::log::raft::genesis::Genesis;
use crate::member::Seat;

/// Waits until it is decided, and nothing speaks against it; gives the group as the document has it then. None where nobody
/// writes documents any more.
///
/// # Errors
/// If the members are written down, and this agent is not one of them, or its disk belongs to another group.
pub(super) async fn decided(agent: &Agent, seat: &Seat) -> Result<Option<Group>, Error> {
    let (mut documents, mut decided) = (agent.documents(), seat.decided());
    loop {
        let document = documents.borrow_and_update().current.clone();
        let _ = decided.borrow_and_update();
        if let Some(group) = document.and_then(|document| document.group.clone()) {
            if let Some(fixed) = &group.fixed {
                join_fixed(seat, fixed).await?;
                return Ok(Some(group));
            }
            let waits = waits(&group, seat.genesis());
            seat.wait(waits.clone());
            match waits {
                None => return Ok(Some(group)),
                Some(Trouble { reason, message }) => tracing::warn!(reason, message, "has no log yet"),
            }
        }
        tokio::select! {
            changed = documents.changed() => if changed.is_err() { return Ok(None) },
            changed = decided.changed() => if changed.is_err() { return Ok(None) },
        }
    }
}

async fn join_fixed(seat: &Seat, fixed: &Fixed) -> Result<(), Error> {
    if !fixed.members.iter().any(|member| member.pod == seat.pod()) {
        return Err(Error::Stranger(seat.pod().to_owned()));
    }
    Ok(seat.decide(Genesis::fixed(fixed.incarnation.clone())).await?)
}

/// What keeps this disk from being a member's of that group; none: nothing.
fn waits(group: &Group, own: Option<&Genesis>) -> Option<Trouble> {
    let trouble = |reason: &str, message| Some(Trouble { reason: reason.into(), message });
    let Group { name, genesis, .. } = group;
    match (own, genesis) {
        (None, _) => trouble(
            "WaitingForGroup",
            format!(
                "this agent waits for the operator to begin the group {name} with it, or to add it to the group; the conditions of \
                 the ConsensusGroup {name} say what that waits for"
            ),
        ),
        (Some(own), Some(named)) if own.decided().as_ref() != Some(named) => {
            let group::Genesis { incarnation, .. } = named;
            trouble(
                "OtherHistory",
                format!(
                    "the disk of this agent holds the log of incarnation {}, and the group {name} is of incarnation {incarnation}; \
                     delete the pod, and its volume if it has one, once that log is of no use any more",
                    own.incarnation
                ),
            )
        }
        (Some(_), _) => None,
    }
}

#[cfg(test)]
mod tests {
    use decree_wire::group::{Durability, MemberId};
    use decree_wire::position::{Incarnation, Position};

    use super::*;

    #[test]
    fn the_disk_decides_and_a_document_that_says_otherwise_is_a_trouble() {
        let genesis = |name: &str| group::Genesis {
            incarnation: Incarnation(name.into()),
            base: Position(7),
            first: MemberId(1),
            durability: Durability::Quorum,
        };
        let group = |genesis: Option<group::Genesis>| Group {
            name: "g".into(),
            genesis,
            election_timeout_ms: 1000,
            heartbeat_interval_ms: 100,
            identity: None,
            issuer: None,
            gone: Vec::new(),
            fixed: None,
        };
        let reason = |named: Option<&str>, own: Option<&str>| {
            let own = own.map(|own| Genesis::from(genesis(own)));
            waits(&group(named.map(genesis)), own.as_ref()).map(|trouble| trouble.reason)
        };
        assert_eq!(reason(None, None).as_deref(), Some("WaitingForGroup"));
        assert_eq!(reason(Some("a"), None).as_deref(), Some("WaitingForGroup"), "it is to be asked to join");
        assert_eq!((reason(None, Some("a")), reason(Some("a"), Some("a"))), (None, None));
        assert_eq!(reason(Some("b"), Some("a")).as_deref(), Some("OtherHistory"));
        let fixed = Genesis::fixed(Incarnation("a".into()));
        assert!(waits(&group(Some(genesis("a"))), Some(&fixed)).is_some());
    }
}
