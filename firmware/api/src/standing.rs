//! What managers are in the consensus just now; the replicated state does not know it.

use std::collections::BTreeSet;

use bramble_cluster::{Node, NodeId, Role};

use crate::types::node::Standing;

/// Who leads, and which managers answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Standings {
    /// Who leads, as far as this board knows.
    pub(crate) leader: Option<NodeId>,
    /// The managers that answer; `None` on a board that cannot tell.
    pub(crate) reachable: Option<BTreeSet<NodeId>>,
}

impl Standings {
    /// What a node is in the consensus; `None` for a worker.
    pub(crate) fn of(&self, node: &Node) -> Option<Standing> {
        let is_leader = self.leader == Some(node.id);
        (node.role == Role::Manager || is_leader).then(|| Standing {
            is_leader,
            is_reachable: self.reachable.as_ref().map(|managers| managers.contains(&node.id)),
        })
    }
}
