//! The one file that names openraft's types as a group has them.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use openraft::alias;
use serde::{Deserialize, Serialize};

openraft::declare_raft_types!(
    /// What a group orders, and what it knows of its members. One leader a term, at most.
    pub TypeConfig:
        D = Proposal,
        R = (),
        NodeId = MemberId,
        Node = Member,
        Term = u64,
        LeaderId = openraft::impls::leader_id_std::LeaderId<Self::Term, Self::NodeId>,
);

/// A member's id: made with its disk, and gone with it.
pub type MemberId = u64;

/// Where a member is found, and what it shares a fate with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The agent: its pod's name.
    pub agent: String,
    /// `host:port` of its peers' port.
    pub address: String,
    /// Members of one zone fail together: the Kubernetes node.
    pub zone: String,
}

/// All members of a group.
pub type Members = BTreeMap<MemberId, Member>;

/// An entry to be ordered: the leader's clock, and the record as [`super::sealed`] writes it.
///
/// The record travels and is stored as bytes: only readers look into it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// The leader's clock as it appended, in milliseconds since 1970; never below that of an entry before.
    pub log_time: i64,
    /// The record.
    pub record: Bytes,
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes at {}", self.record.len(), self.log_time)
    }
}

/// Who may lead in a term.
pub type Vote = alias::VoteOf<TypeConfig>;
/// A term, where the leader appended.
pub type CommittedLeaderId = alias::CommittedLeaderIdOf<TypeConfig>;
/// Term and index.
pub type LogId = alias::LogIdOf<TypeConfig>;
/// What the Raft log holds at an index.
pub type Entry = alias::EntryOf<TypeConfig>;
/// A blank entry, a proposal or a membership.
pub type Payload = alias::PayloadOf<TypeConfig>;
/// A membership, and where in the log it stands.
pub type StoredMembership = alias::StoredMembershipOf<TypeConfig>;
/// What a thin snapshot says: up to where, and the membership there.
pub type SnapshotMeta = alias::SnapshotMetaOf<TypeConfig>;
/// A thin snapshot: its meta is all of it.
pub type Snapshot = alias::SnapshotOf<TypeConfig, ()>;
/// Called when a write has reached the disk.
pub type Flushed = openraft::storage::IOFlushed<TypeConfig>;
/// The first and the last of the log.
pub type LogState = openraft::LogState<TypeConfig>;
/// What a member says of itself and its group.
pub type Metrics = openraft::RaftMetrics<TypeConfig>;

/// Asks for a vote, or whether there would be one.
pub type VoteRequest = openraft::raft::VoteRequest<TypeConfig>;
/// The answer.
pub type VoteResponse = openraft::raft::VoteResponse<TypeConfig>;
/// Hands over entries, or says that the leader lives.
pub type AppendRequest = openraft::raft::AppendEntriesRequest<TypeConfig>;
/// The answer.
pub type AppendResponse = openraft::raft::AppendEntriesResponse<TypeConfig>;
/// The answer to a snapshot.
pub type SnapshotResponse = openraft::raft::SnapshotResponse<TypeConfig>;
/// Tells a member to lead.
pub type TransferRequest = openraft::raft::TransferLeaderRequest<TypeConfig>;
/// The answer.
pub type TransferResponse = openraft::raft::TransferLeaderResponse<TypeConfig>;
/// openraft has ended on this member.
pub type Fatal = openraft::errors::Fatal<TypeConfig>;
