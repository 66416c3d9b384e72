//! Which members are connected, which instance of each, and who is refused.
//!
//! Each start of a board's firmware draws an **instance**. A restarted board comes with a new one and
//! never with an old one again; so an instance that comes back after another took its place shows
//! that two boards have the same identity.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bramble_cluster::NodeId;
use serde::{Deserialize, Serialize};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A connection that the former self of a restarted board began may still arrive for this long.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// Names one run of one board's firmware.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Instance(pub u128);

impl fmt::Debug for Instance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Instance({:032x})", self.0)
    }
}

/// Why a member is turned away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The node was removed from the cluster.
    #[error("this board was removed from the cluster")]
    Removed,
    /// Another board has the same identity.
    #[error(
        "another board, at {address}, has the same identity: remove the identity of one of them"
    )]
    SameIdentity {
        /// Where the other one is.
        address: SocketAddr,
    },
    /// This conversation is not served here at present.
    #[error("the board does not serve this conversation at present")]
    NotServed,
    /// There is no room for one more.
    #[error("the board is busy")]
    Busy,
}

/// Which members are connected. Cheap to clone; all clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Presence(Arc<Mutex<Lists>>);

#[derive(Debug, Default)]
struct Lists {
    refused: BTreeSet<NodeId>,
    members: BTreeMap<NodeId, Member>,
}

#[derive(Debug, Default)]
struct Member {
    /// Ends all connections of the node.
    end: CancellationToken,
    current: Option<(Instance, SocketAddr)>,
    replaced: Option<(Instance, Instant)>,
    barred: Option<Instance>,
}

/// A connection's place in the list.
#[derive(Debug, Clone)]
pub(crate) struct Presentation(CancellationToken);

impl Presentation {
    /// Comes true when the connection must end.
    pub(crate) fn ended(&self) -> WaitForCancellationFutureOwned {
        self.0.clone().cancelled_owned()
    }
}

impl Presence {
    /// Lists a connection to `node`, which says which instance of it this is, and where.
    pub(crate) fn present(
        &self,
        node: NodeId,
        instance: Instance,
        address: SocketAddr,
        now: Instant,
    ) -> Result<Presentation, Refusal> {
        let mut lists = self.lock();
        if lists.refused.contains(&node) {
            return Err(Refusal::Removed);
        }
        let member = lists.members.entry(node).or_default();
        match member.current {
            Some((current, _)) if current == instance => {}
            Some((_, at)) if member.barred == Some(instance) => {
                return Err(Refusal::SameIdentity { address: at });
            }
            Some((current, at)) if member.was_replaced(instance) => {
                if member.replaced.is_some_and(|(_, since)| now < since + SETTLED_AFTER) {
                    return Err(Refusal::Busy);
                }
                tracing::error!(%node, here = %address, there = %at, "two boards have the same identity");
                // Who was here first stays.
                member.barred = Some(current);
                member.replace(now);
            }
            Some(_) => member.replace(now),
            None => {}
        }
        member.current = Some((instance, address));
        Ok(Presentation(member.end.clone()))
    }

    /// Refuses these nodes from now on, and ends the connections they have.
    pub(crate) fn refuse(&self, nodes: BTreeSet<NodeId>) {
        let mut lists = self.lock();
        for node in &nodes {
            if let Some(member) = lists.members.remove(node) {
                member.end.cancel();
            }
        }
        lists.refused = nodes;
    }

    /// Whether the node is refused.
    pub(crate) fn is_refused(&self, node: NodeId) -> bool {
        self.lock().refused.contains(&node)
    }

    /// Ends all connections: this board is no longer a member.
    pub(crate) fn clear(&self) {
        let members = std::mem::take(&mut self.lock().members);
        for member in members.values() {
            member.end.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lists> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    fn was_replaced(&self, instance: Instance) -> bool {
        self.replaced.is_some_and(|(replaced, _)| replaced == instance)
    }

    fn replace(&mut self, now: Instant) {
        self.replaced = self.current.map(|(current, _)| (current, now));
        std::mem::take(&mut self.end).cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId::from_random(1);

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn a_restarted_board_replaces_its_former_self() {
        let (presence, now) = (Presence::default(), Instant::now());
        let before = presence.present(NODE, Instance(1), address(1), now).expect("welcome");
        let also = presence.present(NODE, Instance(1), address(2), now).expect("welcome");
        let after = presence.present(NODE, Instance(2), address(1), now).expect("welcome");
        assert!(before.0.is_cancelled() && also.0.is_cancelled());
        // What the former self had begun arrives late: that alone betrays nothing.
        let late = presence.present(NODE, Instance(1), address(1), now + SETTLED_AFTER / 2);
        assert_eq!(late.err(), Some(Refusal::Busy));
        assert!(!after.0.is_cancelled());
    }

    #[test]
    fn an_instance_that_comes_back_betrays_a_copied_identity() {
        let (presence, start) = (Presence::default(), Instant::now());
        presence.present(NODE, Instance(1), address(1), start).expect("welcome");
        let copy = presence.present(NODE, Instance(2), address(2), start).expect("welcome");
        // The original is there after all: it stays, and the copy is turned away from now on.
        let now = start + SETTLED_AFTER;
        let original = presence.present(NODE, Instance(1), address(1), now).expect("welcome");
        assert!(copy.0.is_cancelled());
        for later in 0..5 {
            let now = now + SETTLED_AFTER * later;
            let refused = presence.present(NODE, Instance(2), address(2), now);
            assert_eq!(refused.err(), Some(Refusal::SameIdentity { address: address(1) }));
        }
        assert!(!original.0.is_cancelled());
        // The original is switched off and the copy started again: nothing is wrong any more.
        presence.present(NODE, Instance(3), address(2), now).expect("welcome");
    }

    #[test]
    fn a_removed_node_loses_its_connections_and_gets_no_new_ones() {
        let (presence, now) = (Presence::default(), Instant::now());
        let held = presence.present(NODE, Instance(1), address(1), now).expect("welcome");
        presence.refuse(BTreeSet::from([NODE]));
        assert!(held.0.is_cancelled());
        let refused = presence.present(NODE, Instance(1), address(1), now);
        assert_eq!(refused.err(), Some(Refusal::Removed));
        assert!(presence.is_refused(NODE));
    }
}
