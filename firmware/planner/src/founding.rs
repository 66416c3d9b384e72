//! What a board does that has no cluster, or whose cluster has a rival: [`decide`].
//!
//! Boards with the same cluster key hear of each other by mDNS ([`Neighbour`]). A board without a
//! cluster joins a member if it hears one; among boards that only seek, the lowest id founds and
//! the others wait for it. Nothing here needs every message to arrive: if two boards found because
//! they did not hear each other, one of the two clusters dissolves into the other, unless both are
//! used already: those are never merged, only reported.
//!
//! # Rules
//! - Hearing a member beats everything: join it, at once.
//! - The lowest id founds after [`FOUND_AFTER`]; sooner, from [`SEEK_FOR`] on, if it has heard other
//!   seekers and none new for [`QUIET_FOR`]. A lone board always waits the whole time.
//! - A board waits [`PATIENCE`] longer for each lower id that seeks, so that a board which hangs
//!   stops nobody for ever.
//! - Of two clusters one survives: the used one, else the older, else the one with the lower id
//!   ([`ClusterFacts::survives`]). Both sides come to the same verdict, as they compare the same
//!   facts. A used cluster never dissolves.
//! - The leader decides for its cluster. A member decides alone only once it has lost its leader
//!   for [`LEADERLESS_AFTER`]: its cluster has dissolved without it.
//!
//! The caller looks again when a neighbour comes, changes or goes, and when a step's `until` has
//! come. It drops neighbours whose record expired or that cannot be connected to, until they are
//! heard again. It dissolves only after the other cluster said that it will admit it, and after
//! it made sure, as the leader, that its own cluster still is unused.

use std::{collections::BTreeMap, time::Duration};

use bramble_cluster::{ClusterId, NodeId, Timestamp};

/// How long a board seeks at least before it founds, if it heard other seekers.
pub const SEEK_FOR: Duration = Duration::from_secs(2);

/// How long the last new neighbour must be ago before a board founds sooner than
/// [`FOUND_AFTER`].
pub const QUIET_FOR: Duration = Duration::from_secs(1);

/// How long the lowest of the seekers seeks before it founds at the latest.
pub const FOUND_AFTER: Duration = Duration::from_secs(3);

/// How much longer a board waits for each lower id that seeks.
pub const PATIENCE: Duration = Duration::from_secs(4);

/// Spread over the boards by their ids, so that they do not all act in the same instant.
pub const JITTER: Duration = Duration::from_millis(250);

/// A member of an unused cluster that has had no leader for this long may decide for itself.
pub const LEADERLESS_AFTER: Duration = Duration::from_secs(3);

/// What of a cluster decides which of two survives. All but `is_used` are fixed at its founding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterFacts {
    /// Which.
    pub id: ClusterId,
    /// When it was founded, by its own clock.
    pub founded_at: Timestamp,
    /// Whether anything was ever created in it.
    pub is_used: bool,
}

/// What a board is, as far as clusters go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has no cluster.
    Seeking,
    /// It is a member.
    Member {
        /// Of what.
        cluster: ClusterFacts,
        /// Whether it leads, with a quorum.
        is_leader: bool,
        /// For how long it has known no leader, if it knows none.
        leaderless_for: Option<Duration>,
    },
}

/// Another board with our cluster key, as it announces itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// The cluster it is a member of; `None` while it seeks.
    pub cluster: Option<ClusterFacts>,
    /// Whether it says that it manages its cluster.
    pub is_manager: bool,
    /// When it was first heard, on the scale of [`decide`]'s `elapsed`.
    pub first_heard: Duration,
    /// How often it did not let us in since we seek.
    pub refusals: u32,
}

/// What a board does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundingStep {
    /// Go on listening; if nothing is heard, ask again then.
    Wait {
        /// On the scale of `elapsed`.
        until: Duration,
    },
    /// Ask this board to be let into its cluster.
    Join {
        /// Whom.
        via: NodeId,
        /// Into what.
        cluster: ClusterId,
    },
    /// Found a cluster.
    Found,
    /// Remain a member of the cluster.
    Stay {
        /// Other clusters with our key that are used as ours is: a person must choose.
        rivals: Vec<ClusterId>,
    },
    /// Give up the unused cluster and join another one.
    Dissolve {
        /// Whom to ask.
        via: NodeId,
        /// The cluster to join.
        into: ClusterId,
    },
}

impl ClusterFacts {
    /// Whether this cluster survives a meeting with `other` if only one may.
    pub fn survives(&self, other: &Self) -> bool {
        self.rank() < other.rank()
    }

    /// The lower, the more it deserves to survive.
    fn rank(&self) -> (bool, Timestamp, ClusterId) {
        (!self.is_used, self.founded_at, self.id)
    }
}

/// What the board `me` does next, `elapsed` after it began to listen.
pub fn decide(
    me: NodeId,
    standing: &Standing,
    elapsed: Duration,
    neighbours: &BTreeMap<NodeId, Neighbour>,
) -> FoundingStep {
    match standing {
        Standing::Seeking => seek(me, elapsed, neighbours),
        Standing::Member { cluster, is_leader, leaderless_for } => {
            let may_decide =
                *is_leader || leaderless_for.is_some_and(|since| since >= LEADERLESS_AFTER);
            meet(cluster, may_decide, neighbours)
        }
    }
}

fn seek(me: NodeId, elapsed: Duration, neighbours: &BTreeMap<NodeId, Neighbour>) -> FoundingStep {
    if let Some((via, cluster)) = best_member(neighbours.iter()) {
        return FoundingStep::Join { via, cluster: cluster.id };
    }
    let until = found_at(me, neighbours);
    if elapsed >= until { FoundingStep::Found } else { FoundingStep::Wait { until } }
}

/// When a board that heard no member founds.
fn found_at(me: NodeId, neighbours: &BTreeMap<NodeId, Neighbour>) -> Duration {
    let lower = u32::try_from(neighbours.range(..me).count()).unwrap_or(u32::MAX);
    if lower > 0 {
        return FOUND_AFTER.saturating_add(PATIENCE.saturating_mul(lower)) + jitter(me);
    }
    match neighbours.values().map(|neighbour| neighbour.first_heard).max() {
        Some(last) => (SEEK_FOR + jitter(me)).max(last.saturating_add(QUIET_FOR)).min(FOUND_AFTER),
        None => FOUND_AFTER + jitter(me),
    }
}

fn jitter(me: NodeId) -> Duration {
    let share = u32::try_from(me.bits() % 1_000).unwrap_or(0);
    JITTER * share / 1_000
}

/// Decides for a member that may have met other clusters.
fn meet(
    mine: &ClusterFacts,
    may_decide: bool,
    neighbours: &BTreeMap<NodeId, Neighbour>,
) -> FoundingStep {
    let others = neighbours
        .iter()
        .filter(|(_, neighbour)| neighbour.cluster.is_some_and(|other| other.id != mine.id));
    if mine.is_used {
        let used = others.filter_map(|(_, neighbour)| neighbour.cluster).filter(|it| it.is_used);
        let mut rivals: Vec<ClusterId> = used.map(|cluster| cluster.id).collect();
        rivals.sort_unstable();
        rivals.dedup();
        return FoundingStep::Stay { rivals };
    }
    let survivors =
        others.filter(|(_, neighbour)| neighbour.cluster.is_some_and(|other| other.survives(mine)));
    match best_member(survivors) {
        Some((via, other)) if may_decide => FoundingStep::Dissolve { via, into: other.id },
        _ => FoundingStep::Stay { rivals: Vec::new() },
    }
}

/// The member to ask first: of the cluster that survives, one that has not refused, a manager.
fn best_member<'a>(
    neighbours: impl Iterator<Item = (&'a NodeId, &'a Neighbour)>,
) -> Option<(NodeId, ClusterFacts)> {
    neighbours
        .filter_map(|(id, neighbour)| Some((*id, neighbour, neighbour.cluster?)))
        .min_by_key(|(id, neighbour, cluster)| {
            (neighbour.refusals, cluster.rank(), !neighbour.is_manager, *id)
        })
        .map(|(id, _, cluster)| (id, cluster))
}

#[cfg(test)]
mod tests;
