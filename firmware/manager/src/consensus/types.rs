//! The types openraft works with, and ours that go to disk and on the wire in their stead.
//!
//! openraft's own types never leave this folder: what is stored or sent is [`Ballot`],
//! [`Position`], [`VoterSets`] and [`Item`], whose bytes we freeze.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    sync::Arc,
};

use bramble_cluster::{Entry, NodeId, Outcome};
use openraft::{EntryPayload, Membership, StoredMembership, vote::RaftLeaderId};
use serde::{Deserialize, Serialize};

/// A node as openraft names it. A type of its own because openraft's test suite makes ids from
/// small numbers, which a [`NodeId`] should not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub(crate) struct Voter(pub(crate) NodeId);

impl fmt::Display for Voter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Debug for Voter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl From<u64> for Voter {
    fn from(number: u64) -> Self {
        Self(NodeId::from_random(u128::from(number)))
    }
}

/// What is proposed: an entry, shared because it is held by the log, the network and `apply`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proposal(pub(crate) Arc<Entry>);

impl fmt::Display for Proposal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} commands", self.0.commands.len())
    }
}

openraft::declare_raft_types!(
    /// Standard Raft: one leader a term, so that a term names a leadership everywhere else too.
    pub(crate) Types:
        D = Proposal,
        R = Vec<Outcome>,
        NodeId = Voter,
        Node = (),
        Term = u64,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, Voter>,
);

pub(crate) type LeaderId = openraft::impls::leader_id_std::LeaderId<u64, Voter>;
pub(crate) type CommittedLeaderId = <LeaderId as RaftLeaderId>::Committed;
pub(crate) type LogId = openraft::LogId<CommittedLeaderId>;
pub(crate) type Vote = openraft::Vote<LeaderId>;
pub(crate) type RaftEntry = openraft::Entry<CommittedLeaderId, RaftPayload>;
pub(crate) type RaftPayload = EntryPayload<Proposal, Voter, ()>;
pub(crate) type RaftMembership = Membership<Voter, ()>;
pub(crate) type AppliedMembership = StoredMembership<CommittedLeaderId, Voter, ()>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<CommittedLeaderId, Voter, ()>;

/// Where an item is in the log.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub(crate) struct Position {
    /// Of the leader that proposed it.
    pub(crate) term: u64,
    /// How many items are before it.
    pub(crate) index: u64,
}

impl From<LogId> for Position {
    fn from(id: LogId) -> Self {
        Self { term: id.leader_id.term, index: id.index }
    }
}

impl From<Position> for LogId {
    fn from(position: Position) -> Self {
        Self::new_term_index(position.term, position.index)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.term, self.index)
    }
}

/// A vote: who may lead a term, and whether a quorum has agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ballot {
    /// The term.
    pub(crate) term: u64,
    /// Who.
    pub(crate) candidate: NodeId,
    /// Whether the candidate is known to have become leader.
    pub(crate) is_won: bool,
}

impl From<Vote> for Ballot {
    fn from(vote: Vote) -> Self {
        Self {
            term: vote.leader_id.term,
            candidate: vote.leader_id.voted_for.0,
            is_won: vote.committed,
        }
    }
}

impl From<Ballot> for Vote {
    fn from(ballot: Ballot) -> Self {
        let leader_id = LeaderId { term: ballot.term, voted_for: Voter(ballot.candidate) };
        Self { leader_id, committed: ballot.is_won }
    }
}

/// Who votes: one set, or two while the voters change; and who only listens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VoterSets {
    /// A quorum of each is needed.
    pub(crate) sets: Vec<BTreeSet<NodeId>>,
    /// Nodes that receive the log without voting.
    pub(crate) learners: BTreeSet<NodeId>,
}

impl VoterSets {
    /// Everyone who votes in either set.
    pub(crate) fn voters(&self) -> BTreeSet<NodeId> {
        self.sets.iter().flatten().copied().collect()
    }
}

impl From<&RaftMembership> for VoterSets {
    fn from(membership: &RaftMembership) -> Self {
        Self {
            sets: membership
                .get_joint_config()
                .iter()
                .map(|set| set.iter().map(|voter| voter.0).collect())
                .collect(),
            learners: membership.learner_ids().map(|voter| voter.0).collect(),
        }
    }
}

impl TryFrom<VoterSets> for RaftMembership {
    type Error = io::Error;

    fn try_from(voters: VoterSets) -> Result<Self, io::Error> {
        let nodes: BTreeMap<Voter, ()> = voters
            .voters()
            .into_iter()
            .chain(voters.learners.iter().copied())
            .map(|node| (Voter(node), ()))
            .collect();
        let sets =
            voters.sets.into_iter().map(|set| set.into_iter().map(Voter).collect()).collect();
        Self::new(sets, nodes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// One item of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Item {
    /// Where.
    pub(crate) position: Position,
    /// What.
    pub(crate) content: Content,
}

/// What an item of the log says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Content {
    /// Nothing: a new leader's first item, which commits those before it.
    Blank,
    /// Changes of the cluster's state.
    Entry(Proposal),
    /// A change of the voters.
    Voters(VoterSets),
}

impl From<&RaftEntry> for Item {
    fn from(entry: &RaftEntry) -> Self {
        let content = match &entry.payload {
            EntryPayload::Blank => Content::Blank,
            EntryPayload::Normal(proposal) => Content::Entry(proposal.clone()),
            EntryPayload::Membership(membership) => Content::Voters(membership.into()),
        };
        Self { position: entry.log_id.into(), content }
    }
}

impl TryFrom<Item> for RaftEntry {
    type Error = io::Error;

    fn try_from(item: Item) -> Result<Self, io::Error> {
        let payload = match item.content {
            Content::Blank => EntryPayload::Blank,
            Content::Entry(proposal) => EntryPayload::Normal(proposal),
            Content::Voters(voters) => EntryPayload::Membership(voters.try_into()?),
        };
        Ok(Self { log_id: item.position.into(), payload })
    }
}
