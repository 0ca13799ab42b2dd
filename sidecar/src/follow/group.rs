//! The group that the document names: this agent's identity, its door for peers and the operator, and its seat in the group.
//!
//! ```text
//!   certificates ─▶ identity ─▶ peers ◀─ asks ── log ◀── decided: by the disk, the operator, or as it is written down
//!                      └──────▶ door ── letters, heartbeats, the operator's wishes ─▶ seat
//! ```
//!
//! The door is open before there is a log: the operator decides which group this disk belongs to, and asks there.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use decree_wire::document::group::Group;
use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;

use super::certificates::Certificates;
use super::decided::decided;
use super::forming::Forming;
use super::ordered::{Error, Ordered};
use super::standing;
use crate::agent::Agent;
use crate::config::Places;
use crate::heartbeat::Publish;
use crate::heartbeat::heard::{self, Heard};
use crate::heartbeat::leader::{Leader, Leads, ToLeader};
use crate::log::raft::ask::{self, Answer, Letter};
use crate::log::raft::disk::Disk;
use crate::log::raft::peers::{Answers, OverPeers, router};
use crate::log::raft::types::Member;
use crate::log::raft::{RaftLog, Settings};
use crate::member::{Seat, door};
use crate::peers::client::Peers;
use crate::peers::refusal::Refusals;
use crate::peers::{Target, caller, server};

/// The group's folder beside the replica's store.
const FOLDER: &str = "raft";
/// How long another member gets to take over before this one ends.
const HAND_OVER: Duration = Duration::from_millis(800);

/// Opens this agent's seat in the group, and its log once it is decided which group that is; none where nobody waits for
/// that any more.
pub(super) async fn open(
    agent: &Agent,
    places: &Places,
    publisher: watch::Sender<Option<Arc<dyn Publish>>>,
    stop: CancellationToken,
) -> Result<Option<Ordered>, Error> {
    let disk = Disk::open(places.state.join(FOLDER), agent.metrics().raft().clone()).await?;
    let seat = Seat::new(agent.pod().name.clone(), disk);
    agent.set_seat(seat.clone());
    let address = places.peers;
    let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
    tracing::info!(member = %seat.id(), %address, "opened this agent's seat in the group");
    let (identity, identities) = watch::channel(None);
    let refusals = Refusals::new(agent.metrics().clone());
    let peers = Peers::new(identities.clone(), refusals.clone());

    let (own, heard) = (Arc::new(Own(seat.clone())), Heard::default());
    let of_peers = router(own).merge(heard::router(heard.clone())).merge(standing::router(seat.clone()));
    let doors = caller::routes(of_peers, door::router(seat.clone(), heard.clone()), &refusals);
    // The others need this member until it has handed over, and so do proposals that are on their way.
    let ended = CancellationToken::new();
    let serving = server::serve(listener, doors, identities, refusals, ended.clone());
    let certified = Certificates::new(agent.clone(), places.token.clone(), identity).keep(ended.clone());
    let mut beside: BoxFuture<'static, ()> = Box::pin(async { _ = tokio::join!(serving, certified) });

    let opening = async {
        let Some(group) = decided(agent, &seat).await? else { return Ok(None) };
        let log =
            RaftLog::open(seat.disk(), settings(&group), Arc::new(OverPeers::new(peers.clone()))).await?;
        Ok(Some((group, log)))
    };
    let opened: Result<_, Error> = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(None),
        () = &mut beside => Ok(None),
        opened = opening => opened,
    };
    let Some((group, log)) = opened? else {
        ended.cancel();
        return Ok(None);
    };
    seat.take(log.clone());
    publisher.send_replace(Some(Arc::new(ToLeader::new(Own(seat.clone()), peers.clone(), heard))));
    let own = (agent.clone(), seat.clone());
    let forming = group.fixed.map(|fixed| Forming {
        own: agent.pod().name.clone(),
        fixed,
        seat,
        log: log.clone(),
        peers,
        refusals: agent.refusals().clone(),
    });
    let keep = Box::pin(async move {
        let living = async {
            let lived = live(&own, forming, stop).await;
            ended.cancel();
            lived
        };
        let ((), lived) = tokio::join!(beside, living);
        lived
    });
    Ok(Some(Ordered { log: Arc::new(log), keep }))
}

/// Until `stop`, and then until its vote is not needed any more; or until the member can't go on.
async fn live(
    (agent, seat): &(Agent, Seat),
    forming: Option<Forming>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let Some(member) = seat.log() else { return Ok(()) };
    let working = async {
        match forming {
            Some(forming) => forming.run(stop).await,
            None => stop.cancelled().await,
        }
        let handed = member.hand_over(HAND_OVER).await;
        tracing::info!(handed, "this agent's member of the group does not lead any more");
        if let Some(until) = agent.shutdown().now().votes_until().filter(|_| seat.votes()) {
            // The disk ends with the pod: somebody else has to vote before.
            let let_go = timeout_at(until, member.let_go()).await.is_ok();
            tracing::info!(let_go, "this agent's member of the group ends");
        }
    };
    tokio::select! {
        biased;
        why = member.failed() => return Err(Error::Member(why)),
        () = working => {}
    }
    member.close().await;
    Ok(())
}

fn settings(group: &Group) -> Settings {
    Settings {
        election_timeout: Duration::from_millis(group.election_timeout_ms),
        heartbeat_interval: Duration::from_millis(group.heartbeat_interval_ms),
    }
}

/// The member as its peers and its heartbeats ask it.
#[derive(Debug)]
struct Own(Seat);

#[async_trait]
impl Answers for Own {
    async fn answer(&self, pod: &str, letter: Letter) -> Result<Answer, ask::Error> {
        let refused = |why: String| Err(ask::Error::Refused(why));
        let Some(log) = self.0.log() else { return refused("this agent has no log of a group yet".into()) };
        if !log.speaks_for(pod, letter.from) {
            return refused(format!("pod {pod} does not speak for member {:016x}", letter.from));
        }
        log.answer(letter).await
    }
}

impl Leads for Own {
    fn leader(&self) -> Option<Leader> {
        let view = self.0.log()?.view();
        let leader = view.leader?;
        if leader == view.id {
            return Some(Leader::Own);
        }
        let Member { agent, address, .. } = view.members.into_iter().find(|seen| seen.id == leader)?.member;
        Some(Leader::Other(Target { pod: agent, address }))
    }
}
