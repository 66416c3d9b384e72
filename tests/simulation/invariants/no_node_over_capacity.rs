//! **No node is over its capacity.** What the tasks of a node that have not ended reserve is never
//! more than the node has, and the state's own sum says the same.

use std::collections::BTreeMap;

use bramble_cluster::{ClusterState, NodeId, Resources};

use super::{Verdict, broken};

const NAME: &str = "no_node_over_capacity";

pub(super) fn check(state: &ClusterState) -> Verdict {
    let mut sums: BTreeMap<NodeId, Resources> = BTreeMap::new();
    for task in state.tasks().values().filter(|task| !task.status.state.is_terminal()) {
        let Some(node) = task.node else { continue };
        let sum = sums.entry(node).or_default();
        sum.nano_cpus += task.spec.resources.reserved_nano_cpus;
        sum.memory_bytes += task.spec.resources.reserved_memory_bytes;
    }
    for (id, sum) in sums {
        let Some(node) = state.node(id) else {
            return broken(NAME, format!("node {id} has tasks and is gone"));
        };
        let has = node.description.resources;
        if sum.nano_cpus > has.nano_cpus || sum.memory_bytes > has.memory_bytes {
            return broken(NAME, format!("node {id} has {has:?} and gave {sum:?}"));
        }
        let counted = state.reserved_on(id);
        if counted != sum {
            return broken(NAME, format!("node {id} gave {sum:?} and counts {counted:?}"));
        }
    }
    Ok(())
}
