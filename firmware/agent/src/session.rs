//! The node's end of its session with the leader.
//!
//! One session is kept for ever: found, held, and found again when it breaks or goes silent. It
//! carries orders one way (the whole assignment, fenced by its generation) and reports the other
//! (until a quorum has them). Nothing waits for it: without a leader the board goes on as ordered.

mod open;
mod search;

use std::{convert::Infallible, io, pin::Pin, sync::Arc};

use bramble_cluster::{Image, NodeDescription, NodeId, Peer, Vitals};
use bramble_peering::session::Hello;
use futures_util::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};

use self::{
    open::{Ended, Open},
    search::{Found, find},
};
use crate::{orders::Orders, outbox::Outbox};

/// A byte stream to another board.
pub trait Stream: AsyncRead + AsyncWrite + Send {}

impl<S: AsyncRead + AsyncWrite + Send> Stream for S {}

/// A byte stream to another board, of whatever kind.
pub type BoxedStream = Pin<Box<dyn Stream>>;

/// Opens a session's connection to a board.
pub type Dial = Arc<dyn Fn(Peer) -> BoxFuture<'static, io::Result<BoxedStream>> + Send + Sync>;

/// Says what this board is now.
pub type Describe = Arc<dyn Fn() -> NodeDescription + Send + Sync>;

/// Whom to ask for the leader.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Managers {
    /// The leader, as last heard.
    pub leader: Option<NodeId>,
    /// The managers, as last heard.
    pub peers: Vec<Peer>,
}

impl Managers {
    /// Takes over who manages and who leads, as far as that is known; whether that was news.
    pub(crate) fn learn(&mut self, leader: Option<NodeId>, peers: Vec<Peer>) -> bool {
        let before = self.clone();
        if !peers.is_empty() {
            self.peers = peers;
        }
        self.leader = leader.or(self.leader);
        *self != before
    }
}

/// All images of this board, as of their store's change of this number.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listing {
    pub(crate) number: u64,
    pub(crate) images: Arc<Vec<Image>>,
}

/// The node's end of its session, with all that goes in and comes out.
pub(crate) struct Session {
    pub(crate) dial: Dial,
    /// Drawn at this start of the daemon.
    pub(crate) instance: u128,
    pub(crate) managers: watch::Sender<Managers>,
    pub(crate) outbox: Outbox,
    pub(crate) orders: Orders,
    pub(crate) describe: Describe,
    /// What was last said.
    pub(crate) described: NodeDescription,
    pub(crate) images: watch::Receiver<Listing>,
    /// The number of the last listing that a quorum has.
    pub(crate) listed: watch::Sender<u64>,
    pub(crate) vitals: watch::Receiver<Vitals>,
    pub(crate) is_leaving: watch::Receiver<bool>,
}

type Search = BoxFuture<'static, Found>;

impl Session {
    /// Keeps a session with whoever leads, for ever.
    pub(crate) async fn run(mut self) -> Infallible {
        let mut found = self.search().await;
        loop {
            let leader = found.welcome.leader;
            tracing::info!(%leader, term = found.welcome.term, "session opened");
            let ended = Open::new(&mut self, found).run().await;
            self.orders.session_ended();
            found = match ended {
                Ended::Replaced(found) => *found,
                Ended::Silent(search) => {
                    tracing::warn!(%leader, "the leader went silent, its session is closed");
                    search.await
                }
                Ended::Closed(reason) => {
                    tracing::info!(%leader, reason, "session ended");
                    self.search().await
                }
            };
        }
    }

    fn search(&mut self) -> Search {
        self.described = (self.describe)();
        let hello = Hello { instance: self.instance, description: self.described.clone() };
        Box::pin(find(Arc::clone(&self.dial), hello, self.managers.clone()))
    }
}

#[cfg(test)]
mod tests;
