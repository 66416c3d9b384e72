//! Tasks: one run of a service's container on one node.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{NodeId, ServiceId, TaskId, TaskSpec, Timestamp, Version};

/// One run of a service's container on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Which task this is.
    pub id: TaskId,
    /// The entry that last changed it.
    pub version: Version,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// The service it is a part of.
    pub service: ServiceId,
    /// The service's name when the task was created; the service may be gone before its tasks.
    pub service_name: String,
    /// The place it fills.
    pub slot: Slot,
    /// Where it runs, once the scheduler said so.
    pub node: Option<NodeId>,
    /// What it runs: the service's task specification when the task was created.
    pub spec: Arc<TaskSpec>,
    /// Which of the service's specifications that was.
    pub spec_version: Version,
    /// Where it should end up. Written by the orchestrator alone.
    pub desired: DesiredState,
    /// Where it is. Written by the node that runs it, and by the planner before it has one.
    pub status: TaskStatus,
    /// The entry that created it; orders the tasks of a slot.
    pub created: Version,
    /// When its container first ran; `None` until then.
    pub started_at: Option<Timestamp>,
    /// Why it was created.
    pub cause: TaskCause,
    /// How often tasks of its slot ended before it.
    pub restarts: Restarts,
}

/// Why a task was created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskCause {
    /// Its slot is new.
    #[default]
    Created,
    /// The task before it in the slot ended by itself.
    Restarted,
    /// The service's specification changed.
    Updated,
    /// The board of the task before it was lost, drained or left, or no longer meets the
    /// constraints.
    Moved,
    /// Its board had less to do than the one of the task before it.
    Balanced,
}

/// How often tasks of a slot ended by themselves, one after the other. Each task carries it on to
/// its successor, so that a new leader backs off as the old one did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarts {
    /// How many in a row ended young.
    pub in_a_row: u32,
    /// How many since the restart policy's window began.
    pub in_window: u64,
    /// When that window began.
    pub window_since: Timestamp,
}

/// The place a task fills. At most one task of a slot should run at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Slot {
    /// The n-th replica, counted from 1.
    Replica(u32),
    /// The one task of a global service on this node.
    Node(NodeId),
}

impl Slot {
    /// A number that differs between the slots of a service, for [`TaskId::derive`].
    pub const fn number(self) -> u128 {
        match self {
            Self::Replica(number) => number as u128,
            Self::Node(node) => node.bits(),
        }
    }
}

/// Where a task is on its way. It only ever moves forward in this order.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum TaskState {
    /// Created by the orchestrator.
    #[default]
    New,
    /// Waits for a node.
    Pending,
    /// Has a node, by the scheduler.
    Assigned,
    /// The node fetches its image and makes its file system.
    Preparing,
    /// The node starts its container.
    Starting,
    /// Its container runs.
    Running,
    /// Its container ended with exit code 0.
    Complete,
    /// Its container ended as it was asked to.
    Shutdown,
    /// Its container ended otherwise.
    Failed,
    /// The node could not run it.
    Rejected,
    /// Its node was removed, or lost for so long that nobody will hear of it again.
    Orphaned,
}

impl TaskState {
    /// Whether nothing more will come.
    pub fn is_terminal(self) -> bool {
        self >= Self::Complete
    }
}

/// Where a task should end up. Only ever moves down this list.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum DesiredState {
    /// It should run (or have run to its end, if it ends by itself).
    #[default]
    Running,
    /// It should stop, and stay as history.
    Shutdown,
    /// It should stop, and be forgotten.
    Remove,
}

/// Where a task is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStatus {
    /// The state.
    pub state: TaskState,
    /// Since when.
    pub since: Timestamp,
    /// What is going on, in a person's words ("started", "preparing").
    pub message: String,
    /// What went wrong, or why it waits; empty if nothing did.
    pub error: String,
    /// The container's exit code, once it ended; 128 + n if signal n ended it.
    pub exit_code: Option<i32>,
    /// Whether the kernel killed it for want of memory.
    pub is_out_of_memory: bool,
    /// The container's process on its node, while it runs.
    pub pid: Option<u32>,
}
