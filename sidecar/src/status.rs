//! Everything about this agent, as JSON: what `/status` and `GET /v1/status` show.

use decree_wire::heartbeat::{CallsFor, Digest, Rebuild, State, Trouble};
use decree_wire::member::Role;
use decree_wire::position::{Incarnation, Position};
use serde::Serialize;

use crate::agent::{Agent, Heartbeats};
use crate::log::raft::view::{Seen, View};
use crate::member::Seat;
use crate::propose::OUTSTANDING;
use crate::replica::{Application, Counts, Progress, Tally};
use crate::shutdown::Phase;

/// Everything about this agent.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    level: u32,
    build: &'static str,
    pod: String,
    uid: String,
    engine: Option<String>,
    class: Option<String>,
    version: u32,
    shutdown: Phase,
    ready: bool,
    unready: Vec<Trouble>,
    troubles: Vec<Trouble>,
    document: Document,
    group: Option<Group>,
    replica: Option<Replica>,
    proposals: Option<Proposals>,
    heartbeats: Heartbeats,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    known: bool,
    trouble: Option<String>,
    topic: Option<String>,
    topic_id: Option<String>,
}

/// The group as this agent's member sees it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    member: u64,
    incarnation: Option<Incarnation>,
    role: Role,
    leader: Option<u64>,
    term: u64,
    /// The index behind the last entry that is known to be ordered.
    committed: u64,
    members: Vec<Member>,
}

/// What only the leader knows is there on the leader alone.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    id: u64,
    pod: String,
    voter: bool,
    matched: Option<u64>,
    seen_ms: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Replica {
    state: State,
    incarnation: Option<Incarnation>,
    position: Option<Position>,
    next: Position,
    head: Option<Position>,
    start_head: Option<Position>,
    reached: bool,
    lag: Option<u64>,
    lag_ms: Option<u64>,
    digest: Option<Digest>,
    application: &'static str,
    trouble: Option<Trouble>,
    suspicion: Option<Trouble>,
    calls_for: Option<CallsFor>,
    rebuild: Option<Rebuild>,
    counts: Entries,
    tally: Tally,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entries {
    applied: u64,
    rejected: u64,
    duplicates: u64,
    reused: u64,
    void: u64,
    control: u64,
    retries: u64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Proposals {
    outstanding: usize,
    limit: usize,
}

/// What is known now.
#[must_use]
pub fn status(agent: &Agent) -> Status {
    let documents = agent.documents().borrow().clone();
    let kafka = documents.current.as_ref().and_then(|document| document.kafka.as_ref());
    let engine = agent.engine();
    let unready = agent.unready();
    Status {
        level: decree_wire::PROTOCOL_LEVEL,
        build: env!("CARGO_PKG_VERSION"),
        pod: agent.pod().name.clone(),
        uid: agent.pod().uid.clone(),
        engine: documents.current.as_ref().map(|document| document.engine.to_string()),
        class: agent.class().ok().map(|class| class.name),
        version: agent.pod().version,
        shutdown: agent.phase(),
        ready: unready.is_empty(),
        unready,
        troubles: agent.troubles(),
        document: Document {
            known: documents.current.is_some(),
            trouble: documents.trouble,
            topic: kafka.map(|kafka| kafka.topic.clone()),
            topic_id: kafka.and_then(|kafka| kafka.topic_id.clone()),
        },
        group: agent.seat().map(group),
        replica: agent.progress().map(replica),
        proposals: engine
            .map(|engine| Proposals { outstanding: engine.proposer.outstanding(), limit: OUTSTANDING }),
        heartbeats: agent.heartbeats(),
    }
}

fn group(seat: &Seat) -> Group {
    let (member, incarnation) = (seat.disk().id(), seat.genesis().map(|genesis| genesis.incarnation.clone()));
    let Some(view) = seat.log().map(|log| log.view()) else {
        let (role, members) = (Role::Outside, Vec::new());
        return Group { member, incarnation, role, leader: None, term: 0, committed: 0, members };
    };
    let View { role, leader, term, committed, members, .. } = view;
    let seen = |seen: Seen| Member {
        id: seen.id,
        pod: seen.member.agent,
        voter: seen.voter,
        matched: seen.matched,
        seen_ms: seen.seen.and_then(|seen| u64::try_from(seen.as_millis()).ok()),
    };
    let members = members.into_iter().map(seen).collect();
    Group { member, incarnation, role, leader, term, committed, members }
}

fn replica(progress: Progress) -> Replica {
    Replica {
        state: progress.state,
        incarnation: progress.incarnation,
        position: progress.position,
        next: progress.next,
        head: progress.end,
        start_head: progress.start_head,
        reached: progress.reached,
        lag: progress.lag,
        lag_ms: progress.lag_ms,
        digest: progress.digest,
        application: match progress.application {
            Application::Unknown => "unknown",
            Application::Healthy => "healthy",
            Application::Unwell(_) => "unwell",
            Application::Overdue(_) => "overdue",
        },
        trouble: progress.trouble,
        suspicion: progress.suspicion,
        calls_for: progress.calls_for,
        rebuild: progress.rebuild,
        tally: progress.tally,
        counts: entries(progress.counts),
    }
}

fn entries(counts: Counts) -> Entries {
    let Counts { applied, rejected, duplicates, reused, void, control, retries, .. } = counts;
    Entries { applied, rejected, duplicates, reused, void, control, retries }
}
