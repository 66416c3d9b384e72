//! Commands: everything that can change the cluster's state.

use serde::{Deserialize, Serialize};

use crate::{
    Cluster, ClusterSpec, DesiredState, Digest, Image, JoinSecrets, Node, NodeDescription, NodeId,
    NodeSpec, NodeState, Restarts, Role, ServiceId, ServiceSpec, Slot, TaskCause, TaskId,
    TaskReport, Timestamp, UpdateStatus, Version,
};

/// What the log holds: commands that were proposed together, and when.
///
/// They apply one by one, each with an outcome of its own; a rejected one does not undo the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When the leader proposed them, by the cluster clock.
    pub at: Timestamp,
    /// The changes, in order.
    pub commands: Vec<Command>,
}

/// One change. Variants are only ever appended (they are on disk and on the wire).
///
/// A `version` names the version of the object that the change was made for; [`Version`] 0 means
/// "whichever". A change made for an older version is rejected as stale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The first command of every cluster: its identity and its founder.
    Found {
        /// The cluster; versions and times are set by `apply`.
        cluster: Box<Cluster>,
        /// The founder.
        node: Box<NodeAdmission>,
    },
    /// Lets a board in, or refreshes what it said of itself if it is a member already.
    AdmitNode(Box<NodeAdmission>),
    /// Changes what people want of a node.
    UpdateNode {
        /// Which.
        id: NodeId,
        /// Made for.
        version: Version,
        /// What is wanted now.
        spec: NodeSpec,
    },
    /// Removes a node for ever; its certificate is refused from now on.
    RemoveNode {
        /// Which.
        id: NodeId,
        /// Even if it is not down.
        is_forced: bool,
    },
    /// Takes over what a node says of itself (hardware, addresses).
    DescribeNode {
        /// Which.
        id: NodeId,
        /// What it says.
        description: NodeDescription,
    },
    /// The leader's verdict on a node.
    SetNodeState {
        /// Which.
        id: NodeId,
        /// Made for.
        version: Version,
        /// The verdict.
        state: NodeState,
        /// Why.
        message: String,
    },
    /// A node became or ceased to be a voter.
    SetNodeRole {
        /// Which.
        id: NodeId,
        /// What it is now.
        role: Role,
    },
    /// Creates a service.
    CreateService {
        /// Drawn by the proposer.
        id: ServiceId,
        /// What is wanted.
        spec: Box<ServiceSpec>,
    },
    /// Changes what is wanted of a service, and keeps what was wanted before.
    UpdateService {
        /// Which.
        id: ServiceId,
        /// Made for.
        version: Version,
        /// What is wanted now.
        spec: Box<ServiceSpec>,
    },
    /// Goes back to what was wanted before. Asked for by a person, or by a failed roll-out.
    RollbackService {
        /// Which.
        id: ServiceId,
        /// Made for.
        version: Version,
        /// Why.
        message: String,
    },
    /// Removes a service; its tasks stop and are forgotten.
    RemoveService {
        /// Which.
        id: ServiceId,
    },
    /// How a roll-out goes.
    SetUpdateStatus {
        /// Of which service.
        id: ServiceId,
        /// Made for.
        version: Version,
        /// How.
        status: UpdateStatus,
    },
    /// Creates a task in a slot.
    CreateTask(Box<NewTask>),
    /// Gives a task to a node.
    AssignTask {
        /// Which.
        id: TaskId,
        /// Made for.
        version: Version,
        /// To whom.
        node: NodeId,
    },
    /// Says why a task waits.
    ExplainTask {
        /// Which.
        id: TaskId,
        /// Made for.
        version: Version,
        /// Why, in one line.
        error: String,
    },
    /// Says where a task should end up.
    SetDesiredState {
        /// Which.
        id: TaskId,
        /// Where.
        desired: DesiredState,
    },
    /// Forgets a task.
    RemoveTask {
        /// Which.
        id: TaskId,
    },
    /// What a node says of its tasks.
    ReportTasks {
        /// Who says it.
        node: NodeId,
        /// What.
        reports: Vec<TaskReport>,
    },
    /// The leader gives up on tasks whose node is gone for good.
    OrphanTask {
        /// Which.
        id: TaskId,
        /// Why.
        message: String,
    },
    /// All images that a node holds; replaces what it said before.
    ReportImages {
        /// Who says it.
        node: NodeId,
        /// What it holds; their `holders` are ignored.
        images: Vec<Image>,
    },
    /// Changes what people want of the cluster.
    UpdateCluster {
        /// Made for.
        version: Version,
        /// What is wanted now.
        spec: ClusterSpec,
    },
    /// Replaces the join tokens' secrets.
    RotateJoinSecrets {
        /// The new ones, drawn by the proposer.
        secrets: JoinSecrets,
    },
}

/// A board that is let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAdmission {
    /// Which.
    pub id: NodeId,
    /// What people want of it from the start.
    pub spec: NodeSpec,
    /// What it says of itself.
    pub description: NodeDescription,
    /// The SHA-256 of its public key. An id belongs to one key for ever: an admission of a known id
    /// with another key is an impostor's and is rejected.
    pub key: Digest,
}

/// A task as the orchestrator creates it. What it runs is the specification that the service has at
/// `service_version`, so that a thousand replicas do not write it a thousand times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTask {
    /// From [`TaskId::derive`].
    pub id: TaskId,
    /// Of which service.
    pub service: ServiceId,
    /// The service's version that this was planned against.
    pub service_version: Version,
    /// Which place it fills.
    pub slot: Slot,
    /// Where it goes, if the scheduler found a place for it.
    pub node: Option<NodeId>,
    /// Why it is created.
    pub cause: TaskCause,
    /// What it takes over from the task before it in the slot.
    pub restarts: Restarts,
    /// The version of the whole state that this was planned against; 0 is whichever. The slot must
    /// have got no other task since: a plan that was agreed on late fills none a second time.
    pub planned_at: Version,
}

impl From<Node> for NodeAdmission {
    fn from(node: Node) -> Self {
        Self { id: node.id, spec: node.spec, description: node.description, key: node.key }
    }
}
