//! Who leads, as this node sees it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use bramble_cluster::{NodeId, Timestamp};

/// Who leads, who votes, and whether they are heard of.
///
/// On a board that holds no log all of it is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader, if this node knows one that a quorum answers.
    pub leader: Option<NodeId>,
    /// Whether this node leads: a quorum answers it, and it has applied all that earlier leaders
    /// committed.
    pub is_leader_here: bool,
    /// The term. A leader is the only one of its term.
    pub term: u64,
    /// The managers.
    pub voters: BTreeSet<NodeId>,
    /// The managers that were heard of lately, this one included.
    pub reachable: BTreeSet<NodeId>,
    /// Who led before the leader, or before there was none.
    pub former_leader: Option<NodeId>,
    /// Since when `leader` leads, or there is none; by this node's cluster clock.
    pub since: Timestamp,
    /// When a quorum was last known to be there, if it is not now. What the state says may be
    /// older than the cluster by that much.
    pub quorum_lost: Option<Instant>,
}

impl Leadership {
    /// How old this node's state may be: zero while there is a quorum.
    pub fn state_age(&self) -> Duration {
        self.quorum_lost.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Whether this node votes.
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.contains(&node)
    }
}
