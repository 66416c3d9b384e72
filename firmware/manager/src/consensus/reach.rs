//! Who was heard of lately. Kept in memory; feeds "1 of 3 managers reachable".

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bramble_cluster::NodeId;

/// A manager that a leader did not hear of for this long counts as unreachable: it misses
/// heartbeats.
pub(crate) const LEADERS_PATIENCE: Duration = Duration::from_millis(600);
/// The same for others, who hear of each other only when they ask for votes.
pub(crate) const OTHERS_PATIENCE: Duration = Duration::from_millis(1_200);

/// When each peer was last heard of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reach {
    heard: Arc<Mutex<BTreeMap<NodeId, Instant>>>,
}

impl Reach {
    /// Something came from a node.
    pub(crate) fn heard_from(&self, node: NodeId) {
        self.lock().insert(node, Instant::now());
    }

    /// Those of `nodes` that were heard of within a time.
    pub(crate) fn among(&self, nodes: &BTreeSet<NodeId>, within: Duration) -> BTreeSet<NodeId> {
        let heard = self.lock();
        nodes
            .iter()
            .filter(|node| heard.get(node).is_some_and(|at| at.elapsed() < within))
            .copied()
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Instant>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
