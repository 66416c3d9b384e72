//! What one node should run, as the leader tells it.

use std::{collections::BTreeMap, sync::Arc};

use bramble_cluster::{
    AssignedTask, Assignment, ClusterState, Digest, Generation, ImageReference, NodeId, NodeState,
    OnPartition, Peer, Task, TaskState,
};

/// Everything that a node should run, from the state and the leader's term.
///
/// Ended tasks stay in it while the cluster keeps them as history, so that their logs can be read.
/// Orphaned tasks do not: a node that comes back has to stop and clear them.
///
/// A node that is down in the log must not start tasks that must not run twice: the leader may be about
/// to replace them elsewhere. It may once the log says that it is ready. They are named all the same:
/// a node takes away what is not, and the start of one may be what the leader has not heard of yet.
pub fn assignment(state: &ClusterState, node: NodeId, term: u64) -> Assignment {
    let mut images = Images { state, node, known: BTreeMap::new() };
    let tasks = state
        .tasks_on(node)
        .filter(|task| task.status.state != TaskState::Orphaned)
        .map(|task| assigned(task, &mut images))
        .collect();
    Assignment { generation: Generation { term, version: state.version() }, tasks }
}

fn is_withheld(state: &ClusterState, task: &Task) -> bool {
    let node = task.node.and_then(|node| state.node(node));
    node.is_some_and(|node| node.status.state == NodeState::Down)
        && task.spec.on_partition == OnPartition::Stop
        && task.status.state < TaskState::Starting
}

fn assigned<'a>(task: &'a Task, images: &mut Images<'a>) -> AssignedTask {
    let is_withheld = is_withheld(images.state, task);
    let (image, holders) = images.find(&task.spec.container.image);
    // Holders only matter to a node that has yet to fetch the image.
    let is_fetching = task.status.state < TaskState::Starting;
    AssignedTask {
        id: task.id,
        service: task.service,
        service_name: task.service_name.clone(),
        slot: task.slot,
        spec: Arc::clone(&task.spec),
        desired: task.desired,
        status: task.status.clone(),
        image_holders: if is_fetching { holders.clone() } else { Vec::new() },
        image: *image,
        is_withheld,
    }
}

/// What an image is, and who holds it.
type Found = (Option<Digest>, Vec<Peer>);

/// The images of an assignment, each looked up once: most tasks of a node share a few.
struct Images<'a> {
    state: &'a ClusterState,
    node: NodeId,
    known: BTreeMap<(&'a str, Option<Digest>), Found>,
}

impl<'a> Images<'a> {
    fn find(&mut self, reference: &'a ImageReference) -> &Found {
        let (state, node) = (self.state, self.node);
        self.known
            .entry((&reference.name, reference.digest))
            .or_insert_with(|| look_up(state, node, reference))
    }
}

fn look_up(state: &ClusterState, node: NodeId, reference: &ImageReference) -> Found {
    let image = state.image(reference);
    let peers = image
        .into_iter()
        .flat_map(|image| &image.holders)
        .filter(|holder| **holder != node)
        .filter_map(|holder| state.node(*holder))
        .filter(|holder| holder.status.state == NodeState::Ready)
        .map(|holder| Peer { id: holder.id, addresses: holder.description.addresses.clone() })
        .collect();
    (reference.digest.or_else(|| image.map(|image| image.digest)), peers)
}

#[cfg(test)]
mod tests;
