//! What passes between the leader and a node: the assignment down, reports up.

use std::{net::SocketAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{DesiredState, Digest, NodeId, ServiceId, Slot, TaskId, TaskSpec, TaskStatus, Version};

/// Everything one node should run. Always whole, never an increment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Which assignment this is; a node refuses older ones than it has.
    pub generation: Generation,
    /// The tasks, by id. A task that is not here should not run and leaves no trace.
    pub tasks: Vec<AssignedTask>,
}

/// Orders the assignments of a node: by the leader's term, then as it made them.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Generation {
    /// The leader's term in the consensus.
    pub term: u64,
    /// The number of the entry that the assignment was made from.
    pub version: Version,
}

/// A task, as its node needs to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedTask {
    /// Which.
    pub id: TaskId,
    /// Of which service.
    pub service: ServiceId,
    /// The service's name.
    pub service_name: String,
    /// Which place it fills.
    pub slot: Slot,
    /// What it runs.
    pub spec: Arc<TaskSpec>,
    /// Where it should end up.
    pub desired: DesiredState,
    /// Where the cluster believes it is; a node repeats a report that did not arrive.
    pub status: TaskStatus,
    /// Who else holds its image.
    pub image_holders: Vec<Peer>,
    /// The image's manifest, if the specification names one.
    pub image: Option<Digest>,
    /// Whether its node must not start it yet. One that the node has started already is none the
    /// worse for it.
    pub is_withheld: bool,
}

/// A board and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Peer {
    /// Which node.
    pub id: NodeId,
    /// Where it listens, most useful first.
    pub addresses: Vec<SocketAddr>,
}

/// What a node says of one of its tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskReport {
    /// Which.
    pub id: TaskId,
    /// Where it is.
    pub status: TaskStatus,
}
