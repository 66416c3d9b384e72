//! Commands about nodes.

use std::sync::Arc;

use super::{Stamp, bounded};
use crate::{
    Applied, ClusterState, Kind, Node, NodeAdmission, NodeDescription, NodeId, NodeSpec, NodeState,
    NodeStatus, Outcome, Rejection, Role, TaskState, Version, limits, rejection::check_version,
    validate,
};

impl ClusterState {
    pub(super) fn admit_node(&mut self, admission: &NodeAdmission, stamp: Stamp) -> Outcome {
        let id = admission.id;
        if self.removed_nodes.contains_key(&id) {
            return Err(Rejection::NodeRemoved { id });
        }
        if let Some(known) = self.node(id) {
            if known.key != admission.key {
                return Err(Rejection::Impostor {
                    id,
                    hostname: known.description.hostname.clone(),
                });
            }
            return self.describe_node(id, &admission.description, stamp);
        }
        if self.nodes.len() >= limits::NODES {
            return Err(Rejection::over("nodes", limits::NODES));
        }
        validate::node_spec(&admission.spec)?;
        validate::node_description(&admission.description)?;
        let node = Node {
            id,
            version: stamp.version,
            created_at: stamp.at,
            updated_at: stamp.at,
            spec: admission.spec.clone(),
            description: admission.description.clone(),
            role: Role::Worker,
            status: NodeStatus { since: stamp.at, ..NodeStatus::default() },
            key: admission.key,
        };
        self.nodes.insert(id, Arc::new(node));
        Ok(Applied::Done)
    }

    pub(super) fn update_node(
        &mut self,
        id: NodeId,
        version: Version,
        spec: &NodeSpec,
        stamp: Stamp,
    ) -> Outcome {
        let current = self.node(id).ok_or_else(|| self.no_node(id))?;
        check_version(Kind::Node, id, version, current.version)?;
        validate::node_spec(spec)?;
        self.change_node(id, stamp, |node| {
            let is_changed = node.spec != *spec;
            node.spec.clone_from(spec);
            is_changed
        })
    }

    pub(super) fn describe_node(
        &mut self,
        id: NodeId,
        description: &NodeDescription,
        stamp: Stamp,
    ) -> Outcome {
        let current = self.node(id).ok_or_else(|| self.no_node(id))?;
        if current.description == *description {
            return Ok(Applied::Unchanged);
        }
        validate::node_description(description)?;
        self.change_node(id, stamp, |node| {
            node.description.clone_from(description);
            true
        })
    }

    pub(super) fn set_node_state(
        &mut self,
        id: NodeId,
        version: Version,
        (state, message): (NodeState, &str),
        stamp: Stamp,
    ) -> Outcome {
        let current = self.node(id).ok_or_else(|| self.no_node(id))?;
        check_version(Kind::Node, id, version, current.version)?;
        self.change_node(id, stamp, |node| {
            if node.status.state == state {
                return false;
            }
            node.status = NodeStatus { state, since: stamp.at, message: bounded(message) };
            true
        })
    }

    pub(super) fn set_node_role(&mut self, id: NodeId, role: Role, stamp: Stamp) -> Outcome {
        self.change_node(id, stamp, |node| {
            let is_changed = node.role != role;
            node.role = role;
            is_changed
        })
    }

    pub(super) fn remove_node(&mut self, id: NodeId, is_forced: bool, stamp: Stamp) -> Outcome {
        let node = self.node(id).ok_or_else(|| self.no_node(id))?;
        if !is_forced && node.status.state != NodeState::Down {
            let hostname = node.description.hostname.clone();
            return Err(Rejection::NodeNotDown { id, hostname });
        }
        self.check_quorum_without(node)?;
        self.nodes.remove(&id);
        self.removed_nodes.insert(id, stamp.at);
        if self.removed_nodes.len() > limits::REMOVED_NODES {
            let oldest = self.removed_nodes.iter().min_by_key(|(id, at)| (**at, **id));
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                self.removed_nodes.remove(&oldest);
            }
        }
        self.drop_holder(id);
        let tasks: Vec<_> = self.tasks_on(id).cloned().collect();
        for task in tasks.iter().filter(|task| !task.status.state.is_terminal()) {
            self.change_task(task.id, stamp, |task| {
                task.status.state = TaskState::Orphaned;
                task.status.since = stamp.at;
                "its board was removed from the cluster".clone_into(&mut task.status.error);
            });
        }
        Ok(Applied::Done)
    }

    /// Refuses to remove a manager if the managers that are there could not decide without it. A
    /// manager that is down counts for nothing, so it may always go.
    fn check_quorum_without(&self, node: &Node) -> Result<(), Rejection> {
        if node.role != Role::Manager || node.status.state == NodeState::Down {
            return Ok(());
        }
        let is_manager = |other: &&Arc<Node>| other.role == Role::Manager;
        let is_there = |other: &&Arc<Node>| other.status.state != NodeState::Down;
        let managers = self.nodes.values().filter(is_manager).count();
        let remaining = self.nodes.values().filter(is_manager).filter(is_there).count() - 1;
        if remaining > managers / 2 {
            return Ok(());
        }
        Err(Rejection::WouldLoseQuorum {
            hostname: node.description.hostname.clone(),
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            managers: u32::try_from(managers).unwrap_or(u32::MAX),
        })
    }

    /// Makes a change to a node and stamps it, if `change` says that it changed something.
    fn change_node(
        &mut self,
        id: NodeId,
        stamp: Stamp,
        change: impl FnOnce(&mut Node) -> bool,
    ) -> Outcome {
        let Some(shared) = self.nodes.get_mut(&id) else { return Err(self.no_node(id)) };
        let mut node = Node::clone(shared);
        if !change(&mut node) {
            return Ok(Applied::Unchanged);
        }
        node.version = stamp.version;
        node.updated_at = stamp.at;
        *shared = Arc::new(node);
        Ok(Applied::Done)
    }

    /// Why there is no such node.
    pub(super) fn no_node(&self, id: NodeId) -> Rejection {
        if self.removed_nodes.contains_key(&id) {
            return Rejection::NodeRemoved { id };
        }
        Rejection::not_found(Kind::Node, id)
    }
}

#[cfg(test)]
mod tests;
