//! What a board knows of its own tasks.

use std::{collections::BTreeMap, sync::Arc};

use bramble_cluster::{TaskId, TaskSpec, TaskState, Timestamp};

/// What a board knows of its own tasks and of its leader.
///
/// All instants are read from one clock of this board that never jumps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// The tasks of which there is anything here, by id.
    pub tasks: BTreeMap<TaskId, ObservedTask>,
    /// When the last heartbeat was *sent* that a leader has answered, less the age that the leader
    /// gave its quorum in the answer. `None` if there was none since the agent started, which
    /// counts as cut off; an agent that keeps the instant on tmpfs survives its own crash better.
    ///
    /// It vouches for the assignment: an answer counts only once every assignment has come that the
    /// leader made before it (in a session, messages keep their order, and the leader sends the
    /// assignment first).
    pub confirmed_at: Option<Timestamp>,
}

/// What a board knows of one task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedTask {
    /// How far its container is.
    pub phase: Phase,
    /// What was last reported of it in this session. A new session starts without.
    pub reported: Option<Reported>,
    /// What it runs, as last assigned: its stop signal, grace period and partition rule hold even
    /// when the assignment no longer names it. `None` if that is not known any more.
    pub spec: Option<Arc<TaskSpec>>,
}

/// How far a task's container is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Phase {
    /// There is nothing of it here.
    #[default]
    Nothing,
    /// Its image is being fetched, its file system being made.
    Preparing {
        /// Since when.
        since: Timestamp,
    },
    /// It may start.
    Prepared {
        /// Since when.
        since: Timestamp,
    },
    /// It could not be prepared.
    Refused {
        /// Why, in a person's words.
        error: String,
        /// When.
        at: Timestamp,
    },
    /// Its container is being created and started.
    Starting {
        /// Since when.
        since: Timestamp,
    },
    /// It was prepared, but its container could not be started.
    Failed {
        /// Why, in a person's words.
        error: String,
        /// When.
        at: Timestamp,
    },
    /// Its container runs.
    Running {
        /// The container's first process.
        pid: u32,
        /// Since when.
        started_at: Timestamp,
    },
    /// Its container was asked to stop and has not ended yet.
    Stopping {
        /// The container's first process.
        pid: u32,
        /// Since when it runs.
        started_at: Timestamp,
        /// When it was asked to.
        signalled_at: Timestamp,
        /// When it was last killed, if it was.
        killed_at: Option<Timestamp>,
        /// Why.
        reason: StopReason,
    },
    /// Its container ended.
    Ended {
        /// The exit code; 128 + n if signal n ended it.
        exit_code: i32,
        /// Whether the kernel killed it for want of memory.
        is_out_of_memory: bool,
        /// When.
        at: Timestamp,
        /// Why it was asked to stop, if it was.
        stopped_for: Option<StopReason>,
    },
    /// What is left of it is being taken away.
    Removing,
}

/// Why a container was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The leader wants it stopped, or no longer knows it.
    Ordered,
    /// The board is cut off from the quorum, and the task must not run twice.
    CutOff,
}

/// A report that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reported {
    /// The state it told of.
    pub state: TaskState,
    /// When it was last sent.
    pub at: Timestamp,
    /// Whether the leader said that it is in the log.
    pub is_acknowledged: bool,
}

impl Phase {
    /// Whether its container has or may soon have a process.
    pub const fn is_live(&self) -> bool {
        matches!(self, Self::Starting { .. } | Self::Running { .. } | Self::Stopping { .. })
    }
}
