//! What this node knows of its own place in the consensus; shared by the tasks that need it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bramble_cluster::NodeId;
use tokio::sync::mpsc;

use crate::consensus::wire::Dismissal;

/// Events that may wait to be looked at. They repeat themselves, so more are of no use.
pub(crate) const EVENTS: usize = 16;

/// Something a peer said that concerns the consensus as a whole.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    /// This node is not a voter any more.
    Dismissed(Dismissal),
    /// A voter has lost its log.
    LogLost(NodeId),
}

/// Who votes, when a quorum last answered, and whom this node follows.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    known: Arc<Mutex<Known>>,
    events: mpsc::Sender<Event>,
}

#[derive(Debug, Default)]
struct Known {
    voters: BTreeSet<NodeId>,
    last_quorum: Option<Instant>,
    followed: Option<Followed>,
}

/// The leader that this node last accepted something from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Followed {
    /// Who.
    pub(crate) leader: NodeId,
    /// When that was.
    pub(crate) heard: Instant,
    /// When a quorum had last answered it by then; `None` if it had not yet in its term.
    pub(crate) last_quorum: Option<Instant>,
}

impl Standing {
    /// Nothing is known yet. Events go to the receiver.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Event>) {
        let (events, receiver) = mpsc::channel(EVENTS);
        (Self { known: Arc::default(), events }, receiver)
    }

    /// Takes over what openraft says.
    pub(crate) fn update(&self, voters: BTreeSet<NodeId>, last_quorum: Option<Instant>) {
        let mut known = self.lock();
        known.voters = voters;
        known.last_quorum = last_quorum;
    }

    /// Whether a node votes.
    pub(crate) fn is_voter(&self, node: NodeId) -> bool {
        self.lock().voters.contains(&node)
    }

    /// How long ago a quorum last answered this node as leader.
    pub(crate) fn quorum_age(&self) -> Option<Duration> {
        self.lock().last_quorum.map(|at| at.elapsed())
    }

    /// Something from a leader was accepted.
    pub(crate) fn follow(&self, leader: NodeId, quorum_age: Option<Duration>) {
        let heard = Instant::now();
        let last_quorum = quorum_age.and_then(|age| heard.checked_sub(age));
        self.lock().followed = Some(Followed { leader, heard, last_quorum });
    }

    /// The leader that was last followed.
    pub(crate) fn followed(&self) -> Option<Followed> {
        self.lock().followed
    }

    /// Begins anew, as a node that never followed anybody.
    pub(crate) fn forget(&self) {
        *self.lock() = Known::default();
    }

    /// Reports an event; one too many is dropped, because it will be reported again.
    pub(crate) fn report(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            tracing::debug!(?event, "dropped");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
