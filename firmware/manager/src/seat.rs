//! The narrow view that the leader's loops have of the consensus: what is true, who leads, and a
//! way to change things. The consensus fills the seat; tests fill it with a state of their own.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use bramble_cluster::{ClusterState, Command, NodeId, Outcome, Timestamp};
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::{
    Leadership,
    consensus::{Consensus, ProposeError, VotersError},
};

/// Proposes commands on this node alone; fails at once where this node does not lead.
pub(crate) type Propose = Arc<
    dyn Fn(Vec<Command>) -> BoxFuture<'static, Result<Vec<Outcome>, ProposeError>> + Send + Sync,
>;

/// Makes these nodes the voters; returns when that is so, or has failed.
pub(crate) type ChangeVoters =
    Arc<dyn Fn(BTreeSet<NodeId>) -> BoxFuture<'static, Result<(), VotersError>> + Send + Sync>;

/// What the leader's loops see of the consensus.
#[derive(Clone)]
pub(crate) struct Seat {
    /// This node.
    pub(crate) me: NodeId,
    /// What is true. Published before a proposal is answered.
    pub(crate) state: watch::Receiver<Arc<ClusterState>>,
    /// Who leads.
    pub(crate) leadership: watch::Receiver<Leadership>,
    /// A way to change what is true.
    pub(crate) propose: Propose,
    /// A way to change who votes.
    pub(crate) change_voters: ChangeVoters,
    /// How long ago a quorum last followed this leader; `None` if it never did.
    pub(crate) quorum_age: Arc<dyn Fn() -> Option<Duration> + Send + Sync>,
    /// The cluster clock: never behind the last entry.
    pub(crate) now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl fmt::Debug for Seat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Seat").field("me", &self.me).finish_non_exhaustive()
    }
}

impl Seat {
    /// The seat at this node's consensus.
    pub(crate) fn of(consensus: &Consensus) -> Self {
        let (proposing, changing) = (consensus.clone(), consensus.clone());
        let (dating, asking) = (consensus.clone(), consensus.clone());
        Self {
            me: consensus.node(),
            state: consensus.state(),
            leadership: consensus.leadership(),
            propose: Arc::new(move |commands| {
                let consensus = proposing.clone();
                Box::pin(async move {
                    consensus.propose_here(commands).await.map_err(ProposeError::from)
                })
            }),
            change_voters: Arc::new(move |voters| {
                let consensus = changing.clone();
                Box::pin(async move { consensus.change_voters(voters).await })
            }),
            quorum_age: Arc::new(move || asking.quorum_age()),
            now: Arc::new(move || dating.now()),
        }
    }

    /// The cluster clock.
    pub(crate) fn now(&self) -> Timestamp {
        (self.now)()
    }

    /// What is true now.
    pub(crate) fn state(&self) -> Arc<ClusterState> {
        Arc::clone(&self.state.borrow())
    }

    /// Who leads now.
    pub(crate) fn leadership(&self) -> Leadership {
        self.leadership.borrow().clone()
    }

    /// How long ago a quorum followed, if this node leads and that is not too long ago to count.
    pub(crate) fn live_quorum_age(&self) -> Option<Duration> {
        let is_here = self.leadership.borrow().is_leader_here;
        is_here.then(|| (self.quorum_age)()).flatten().filter(|age| *age < QUORUM_LIVES)
    }
}

/// A leader that no quorum has followed for this long may have been deposed without knowing: it
/// neither answers heartbeats nor opens sessions.
const QUORUM_LIVES: Duration = Duration::from_millis(500);

#[cfg(test)]
pub(crate) mod bench;
