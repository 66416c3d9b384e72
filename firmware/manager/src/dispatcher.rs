//! The dispatcher: the leader's end of every node's session.
//!
//! It runs on every board. Where the leader is, it opens sessions, hands each node its whole
//! assignment whenever that changed, and takes reports; elsewhere it shows the way to the leader.
//! It decides nothing: who is down, and what runs where, is planned.

mod batch;
mod session;

use std::{convert::Infallible, fmt, sync::Arc};

use bramble_cluster::{ClusterState, NodeId, Peer};
use bramble_peering::PeerStream;
use tokio::{io::DuplexStream, sync::mpsc, task::JoinSet};

pub(crate) use self::batch::{Batch, Taken};
use crate::{contacts::Contacts, seat::Seat};

/// Sessions, and questions for the leader, at the same time. One of each of the most nodes that a
/// cluster can have, and as many again that are being replaced.
const SESSIONS: usize = 512;

/// Changes that wait to be proposed together.
const BATCHES: usize = 1_024;

/// What a board that is no manager knows of the leader and the managers.
pub(crate) type Directions = Arc<dyn Fn() -> (Option<Peer>, Vec<Peer>) + Send + Sync>;

/// A connection that a node opened for its session.
pub(crate) struct Caller<S> {
    /// Which node; its certificate has shown that.
    pub(crate) node: NodeId,
    /// The connection.
    pub(crate) stream: S,
}

/// The leader's end of every node's session.
pub(crate) struct Dispatcher {
    desk: Desk,
    batches: mpsc::Receiver<Batch>,
}

/// What every session needs.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) seat: Seat,
    pub(crate) contacts: Contacts,
    pub(crate) batches: mpsc::Sender<Batch>,
    pub(crate) directions: Directions,
}

impl fmt::Debug for Desk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Desk").field("seat", &self.seat).finish_non_exhaustive()
    }
}

impl Dispatcher {
    pub(crate) fn new(seat: Seat, contacts: Contacts, directions: Directions) -> Self {
        let (sender, batches) = mpsc::channel(BATCHES);
        Self { desk: Desk { seat, contacts, batches: sender, directions }, batches }
    }

    /// Serves sessions: those of other boards, and the one of this board's own agent, which needs
    /// no network.
    pub(crate) async fn run(
        self,
        mut remote: mpsc::Receiver<PeerStream>,
        mut local: mpsc::Receiver<Caller<DuplexStream>>,
    ) -> Infallible {
        let Self { desk, batches } = self;
        let mut sessions: JoinSet<()> = JoinSet::new();
        let proposing = batch::run(desk.seat.clone(), batches);
        sessions.spawn(async { match proposing.await {} });
        loop {
            let has_room = sessions.len() <= SESSIONS;
            tokio::select! {
                Some(stream) = remote.recv(), if has_room => {
                    let caller = Caller { node: stream.peer(), stream };
                    sessions.spawn(session::serve(desk.clone(), caller));
                }
                Some(caller) = local.recv(), if has_room => {
                    sessions.spawn(session::serve(desk.clone(), caller));
                }
                Some(ended) = sessions.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a session panicked");
                    }
                }
            }
        }
    }
}

impl Desk {
    /// Whom to ask for the leader: from the state where there is one, or else as this board heard.
    pub(crate) fn directions(&self) -> (Option<Peer>, Vec<Peer>) {
        let state = self.seat.state();
        let leadership = self.seat.leadership();
        let managers = managers(&state, &leadership.voters);
        if managers.is_empty() {
            return (self.directions)();
        }
        (leadership.leader.and_then(|leader| peer(&state, leader)), managers)
    }
}

/// The managers and their addresses.
fn managers(state: &ClusterState, voters: &std::collections::BTreeSet<NodeId>) -> Vec<Peer> {
    voters.iter().filter_map(|voter| peer(state, *voter)).collect()
}

fn peer(state: &ClusterState, id: NodeId) -> Option<Peer> {
    let node = state.node(id)?;
    Some(Peer { id, addresses: node.description.addresses.clone() })
}

#[cfg(test)]
mod tests;
