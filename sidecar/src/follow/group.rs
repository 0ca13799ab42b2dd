//! The group that the document names: this agent's identity, its door for peers, and its member of the group.
//!
//! ```text
//!   certificates ─▶ identity ─▶ peers ◀─ asks ── member (log) ◀── forming, where the members are written down
//!                      └──────▶ door ── letters, heartbeats ─▶┘
//! ```

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use decree_wire::document::group::{Fixed, Group};
use decree_wire::position::Position;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::certificates::Certificates;
use super::forming::Forming;
use super::ordered::{Error, Ordered};
use super::standing;
use crate::agent::Agent;
use crate::config::Places;
use crate::heartbeat::Publish;
use crate::heartbeat::heard::{self, Heard};
use crate::heartbeat::leader::{Leader, Leads, ToLeader};
use crate::log::raft::ask::{self, Answer, Letter};
use crate::log::raft::peers::{Answers, OverPeers, router};
use crate::log::raft::types::Member;
use crate::log::raft::{Genesis, RaftLog, Settings};
use crate::peers::client::Peers;
use crate::peers::refusal::Refusals;
use crate::peers::{Target, server};

/// The group's folder beside the replica's store.
const FOLDER: &str = "raft";
/// How long another member gets to take over before this one ends.
const HAND_OVER: Duration = Duration::from_millis(800);

/// Opens this agent's member once it is decided how the group began; none where nobody waits for that any more.
pub(super) async fn open(
    agent: &Agent,
    places: &Places,
    publisher: watch::Sender<Option<Arc<dyn Publish>>>,
    stop: CancellationToken,
) -> Result<Option<Ordered>, Error> {
    let Some((group, genesis)) = decided(agent, &stop).await else { return Ok(None) };
    let (identity, identities) = watch::channel(None);
    let refusals = Refusals::new(agent.metrics().clone());
    let peers = Peers::new(identities.clone(), refusals.clone());
    let settings = settings(agent, places, &group, genesis)?;
    let log = RaftLog::open(settings, Arc::new(OverPeers::new(peers.clone()))).await?;
    let address = places.peers;
    let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
    tracing::info!(member = log.id(), %address, "opened this agent's member of the group");
    agent.set_member(log.clone());

    let heard = Heard::default();
    publisher.send_replace(Some(Arc::new(ToLeader::new(Own(log.clone()), peers.clone(), heard.clone()))));
    let letters = router(Arc::new(Own(log.clone())));
    let doors = letters.merge(heard::router(heard)).merge(standing::router(log.clone()));
    // The others need this member until it has handed over, and so do proposals that are on their way.
    let ended = CancellationToken::new();
    let serving = server::serve(listener, doors, identities, refusals, ended.clone());
    let certified = Certificates::new(agent.clone(), places.token.clone(), identity).keep(ended.clone());
    let forming = group.fixed.map(|fixed| Forming {
        own: agent.pod().name.clone(),
        fixed,
        log: log.clone(),
        peers,
        refusals: agent.refusals().clone(),
    });
    let member = log.clone();
    let keep = Box::pin(async move {
        let living = async {
            let lived = live(&member, forming, stop).await;
            ended.cancel();
            lived
        };
        let ((), (), lived) = tokio::join!(serving, certified, living);
        lived
    });
    Ok(Some(Ordered { log: Arc::new(log), keep }))
}

/// Until `stop`, or until the member can't go on.
async fn live(member: &RaftLog, forming: Option<Forming>, stop: CancellationToken) -> Result<(), Error> {
    let working = async {
        match forming {
            Some(forming) => forming.run(stop).await,
            None => stop.cancelled().await,
        }
    };
    tokio::select! {
        biased;
        why = member.failed() => return Err(Error::Member(why)),
        () = working => {}
    }
    let handed = member.hand_over(HAND_OVER).await;
    tracing::info!(handed, "this agent's member of the group ends");
    member.close().await;
    Ok(())
}

/// The first document that says how the group began.
async fn decided(agent: &Agent, stop: &CancellationToken) -> Option<(Group, Genesis)> {
    let mut documents = agent.documents();
    loop {
        let group =
            documents.borrow_and_update().current.as_ref().and_then(|document| document.group.clone());
        if let Some(group) = group {
            let fixed =
                group.fixed.as_ref().map(|Fixed { incarnation, .. }| (incarnation.clone(), Position(0)));
            let given = group.genesis.as_ref().map(|genesis| (genesis.incarnation.clone(), genesis.base));
            if let Some((incarnation, base)) = given.or(fixed) {
                return Some((group, Genesis { incarnation, base }));
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            changed = documents.changed() => changed.ok()?,
        }
    }
}

fn settings(agent: &Agent, places: &Places, group: &Group, genesis: Genesis) -> Result<Settings, Error> {
    let pod = &agent.pod().name;
    let address = match &group.fixed {
        None => format!("{}:{}", agent.pod().ip, places.peers.port()),
        Some(fixed) => {
            let own = fixed.members.iter().find(|member| member.pod == *pod);
            own.ok_or_else(|| Error::Stranger(pod.clone()))?.address.clone()
        }
    };
    Ok(Settings {
        folder: places.state.join(FOLDER),
        genesis,
        member: Member { agent: pod.clone(), address, zone: String::new() },
        election_timeout: Duration::from_millis(group.election_timeout_ms),
        heartbeat_interval: Duration::from_millis(group.heartbeat_interval_ms),
    })
}

/// The member as its peers and its heartbeats ask it.
#[derive(Debug)]
struct Own(RaftLog);

#[async_trait]
impl Answers for Own {
    async fn answer(&self, letter: Letter) -> Result<Answer, ask::Error> {
        self.0.answer(letter).await
    }
}

impl Leads for Own {
    fn leader(&self) -> Option<Leader> {
        let view = self.0.view();
        let leader = view.leader?;
        if leader == view.id {
            return Some(Leader::Own);
        }
        let Member { agent, address, .. } = view.members.into_iter().find(|seen| seen.id == leader)?.member;
        Some(Leader::Other(Target { pod: agent, address }))
    }
}
