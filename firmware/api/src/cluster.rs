//! What the API needs of the cluster: its state, its leader, and a way to change and reach it.

use std::{collections::BTreeMap, fmt, io, sync::Arc};

use bramble_cluster::{
    Applied, Cluster as ClusterObject, ClusterState, Command, NodeId, Outcome, Vitals, chain,
};
use bramble_manager::{Leadership, Manager, consensus::ProposeError};
use futures_util::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};

use crate::{error::ApiError, rejection, standing::Standings, types::swarm::JoinTokens};

/// A stream to another board.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Duplex for T {}

/// Opens a conversation with another board's API.
pub type Dial =
    Arc<dyn Fn(NodeId) -> BoxFuture<'static, io::Result<Box<dyn Duplex>>> + Send + Sync>;

/// What the boards' sensors say, by node; empty where this board cannot know.
pub type ReadVitals = Arc<dyn Fn() -> BTreeMap<NodeId, Vitals> + Send + Sync>;

/// Writes the join tokens that hold now.
pub type WriteTokens = Arc<dyn Fn(&ClusterObject) -> JoinTokens + Send + Sync>;

/// Proposes changes, from whichever board.
pub type Propose = Arc<
    dyn Fn(Vec<Command>) -> BoxFuture<'static, Result<Vec<Outcome>, ProposeError>> + Send + Sync,
>;

/// The cluster, as the API uses it. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    /// This board's node.
    pub node: NodeId,
    /// The state as this board knows it.
    pub states: watch::Receiver<Arc<ClusterState>>,
    /// Who leads, as this board's log says.
    pub leadership: watch::Receiver<Leadership>,
    /// Who leads, by the log or by what this board was told.
    pub leader: Arc<dyn Fn() -> Option<NodeId> + Send + Sync>,
    /// Proposes changes.
    pub propose: Propose,
    /// Opens a conversation with another board's API.
    pub dial: Dial,
    /// What the boards' sensors say.
    pub vitals: ReadVitals,
    /// Writes the join tokens.
    pub tokens: WriteTokens,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Cluster").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Cluster {
    /// The cluster as this board's manager, dormant or not, sees it.
    pub fn new(manager: &Manager, dial: Dial, vitals: ReadVitals, tokens: WriteTokens) -> Self {
        let (leading, proposing) = (manager.clone(), manager.clone());
        Self {
            node: manager.node_id(),
            states: manager.state(),
            leadership: manager.leadership(),
            leader: Arc::new(move || leading.leader()),
            propose: Arc::new(move |commands| {
                let manager = proposing.clone();
                Box::pin(async move { manager.propose(commands).await })
            }),
            dial,
            vitals,
            tokens,
        }
    }

    /// The state as this board knows it.
    pub(crate) fn state(&self) -> Arc<ClusterState> {
        Arc::clone(&self.states.borrow())
    }

    /// What managers are in the consensus.
    pub(crate) fn standings(&self) -> Standings {
        let leadership = self.leadership.borrow();
        Standings { leader: leadership.leader, reachable: Some(leadership.reachable.clone()) }
    }

    /// Proposes one change and waits until it has taken effect.
    pub(crate) async fn change(&self, command: Command) -> Result<Applied, ApiError> {
        let outcomes = (self.propose)(vec![command]).await;
        let outcomes = outcomes.map_err(|error| ApiError::Unavailable(chain(&error)))?;
        match outcomes.into_iter().next() {
            Some(Ok(applied)) => Ok(applied),
            Some(Err(rejection)) => Err(rejection::to_error(&rejection)),
            None => Err(ApiError::Internal("the leader answered nothing".to_owned())),
        }
    }
}
