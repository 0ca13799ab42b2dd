//! openraft's network over the port by which members ask each other.

use std::sync::Arc;
use std::time::Duration;

use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};

use super::ask::{Answer, Ask, Error, Letter, Question};
use super::types::{
    AppendRequest, AppendResponse, Member, MemberId, Snapshot, SnapshotResponse, TransferRequest,
    TransferResponse, TypeConfig, Vote, VoteRequest, VoteResponse,
};

/// Makes a way to each member.
#[derive(Clone, Debug)]
pub struct Network {
    /// The group.
    pub incarnation: String,
    /// Who asks.
    pub from: MemberId,
    /// How.
    pub ask: Arc<dyn Ask>,
    /// Entries may take so long: the other's disk may be slow, and to send them again makes it no faster.
    pub patience: Duration,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Way;

    async fn new_client(&mut self, to: MemberId, member: &Member) -> Way {
        Way { network: self.clone(), to, member: member.clone() }
    }
}

/// The way to one member.
#[derive(Debug)]
pub struct Way {
    network: Network,
    to: MemberId,
    member: Member,
}

type Failed = RPCError<TypeConfig>;

impl Way {
    async fn ask(&self, question: Question, limit: Duration) -> Result<Answer, Failed> {
        let Network { incarnation, from, ask, .. } = &self.network;
        let letter = Letter { incarnation: incarnation.clone(), from: *from, to: self.to, question };
        ask.ask(&self.member, letter, limit).await.map_err(|error| match &error {
            // Only the first two are backed off from.
            Error::NotSent(_) | Error::Refused(_) => RPCError::Unreachable(Unreachable::new(&error)),
            Error::NoAnswer(_) => RPCError::Network(NetworkError::new(&error)),
        })
    }

    fn odd(answer: &Answer) -> Failed {
        let what = format!("an answer to another question came: {answer:?}");
        RPCError::Unreachable(Unreachable::from_string(what))
    }
}

impl RaftNetworkV2<TypeConfig> for Way {
    type SnapshotData = ();

    async fn append_entries(
        &mut self,
        request: AppendRequest,
        option: RPCOption,
    ) -> Result<AppendResponse, Failed> {
        let limit = if request.entries.is_empty() { option.soft_ttl() } else { self.network.patience };
        match self.ask(Question::Append(request), limit).await? {
            Answer::Append(response) => Ok(response),
            other => Err(Self::odd(&other)),
        }
    }

    async fn vote(&mut self, request: VoteRequest, option: RPCOption) -> Result<VoteResponse, Failed> {
        match self.ask(Question::Vote(request), option.soft_ttl()).await? {
            Answer::Vote(response) => Ok(response),
            other => Err(Self::odd(&other)),
        }
    }

    async fn pre_vote(&mut self, request: VoteRequest, option: RPCOption) -> Result<VoteResponse, Failed> {
        match self.ask(Question::PreVote(request), option.soft_ttl()).await? {
            Answer::Vote(response) => Ok(response),
            other => Err(Self::odd(&other)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse, StreamingError<TypeConfig>> {
        let asked = self.ask(Question::Snapshot(vote, snapshot.meta), self.network.patience);
        let answer = tokio::select! {
            biased;
            closed = cancel => return Err(closed.into()),
            answer = asked => answer?,
        };
        match answer {
            Answer::Snapshot(response) => Ok(response),
            other => Err(Self::odd(&other).into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferRequest,
        option: RPCOption,
    ) -> Result<TransferResponse, Failed> {
        match self.ask(Question::Transfer(request), option.soft_ttl()).await? {
            Answer::Transfer(response) => Ok(response),
            other => Err(Self::odd(&other)),
        }
    }
}
