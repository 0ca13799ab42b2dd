//! Step 2: from what was fetched to the facts that the plan is made from. After this nobody reads the raw spec. Pure.

use std::time::Duration;

use decree_crds::group::status::{ConsensusGroupStatus, EngineStatus, Role};
use decree_crds::{ConsensusGroup, labels};
use decree_wire::group::MemberId;
use decree_wire::member::Place;
use decree_wire::position::Position;
use k8s_openapi::api::core::v1::Pod as KubePod;
use kube::ResourceExt;

use super::facts::{Facts, Pod, Remembered};
use super::fetch::{self, Asked, Fetched};
use super::genesis;
use crate::care::pods;
use crate::engine::problem::Problem;

/// A group that an engine names.
#[derive(Debug)]
pub struct Valid {
    /// That engine.
    pub engine: EngineStatus,
    /// What the plan is made from.
    pub facts: Facts,
}

/// Everything that the plan needs.
///
/// # Errors
/// If no engine names it, or its status can't be read.
pub fn validate(fetched: &Fetched) -> Result<Valid, Problem> {
    let Fetched { object, engine, pods, fresh } = fetched;
    let Some(engine) = engine.clone() else {
        return Err(Problem::time(
            "NotNamed",
            format!(
                "no DecisionEngine of this namespace names this group; set spec.consensusGroup.name: {} in the engine that it \
                 is to order for",
                object.name_any()
            ),
        ));
    };
    let none = ConsensusGroupStatus::default();
    let status = object.status.as_ref().unwrap_or(&none);
    let begun = status.genesis.as_ref();
    let decided = begun.map(genesis::read).transpose().map_err(|why| {
        Problem::person(
            "GenesisUnreadable",
            format!("status.genesis can't be read ({why}), and nothing is done without it; put back what stood there"),
        )
    })?;
    let facts = Facts {
        voters: usize::try_from(object.spec.voters).unwrap_or(1).max(1),
        election_timeout: Duration::from(object.spec.election_timeout),
        genesis: decided,
        asked: begun.is_some_and(|genesis| genesis.asked > 0),
        remembered: remembered(status)?,
        committed: status.committed.and_then(|position| u64::try_from(position).ok()).map(Position),
        pods: pods.iter().map(|asked| pod(asked, object)).collect(),
        fresh: fresh.clone(),
    };
    Ok(Valid { engine, facts })
}

fn remembered(status: &ConsensusGroupStatus) -> Result<Vec<Remembered>, Problem> {
    let members = status.members.iter().map(|member| {
        let id = member.id.parse::<MemberId>().map_err(|error| {
            Problem::person("MembersUnreadable", format!("status.members can't be read: {error}"))
        })?;
        Ok(Remembered { id, pod: member.pod.clone(), votes: member.role == Role::Voter })
    });
    members.collect()
}

fn pod(asked: &Asked, group: &ConsensusGroup) -> Pod {
    let Asked { pod, agent, answer } = asked;
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let place = agent.as_ref().zip(node).map(|(agent, zone)| Place {
        pod: agent.pod.clone(),
        address: agent.address.clone(),
        zone,
    });
    let made = |meta: &kube::api::ObjectMeta| meta.creation_timestamp.as_ref().map(|time| time.0);
    Pod {
        name: pod.name_any(),
        place,
        ending: pods::is_ending(pod),
        begun: fetch::has_begun(pod),
        // Times of creation have whole seconds only.
        elder: made(&pod.metadata) <= made(&group.metadata),
        open: is_open(pod),
        answer: answer.clone(),
    }
}

/// Whether its readiness gate is open.
fn is_open(pod: &KubePod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref());
    conditions.unwrap_or_default().iter().any(|c| c.type_ == labels::MEMBER_GATE && c.status == "True")
}
