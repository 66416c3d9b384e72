//! What the keeper knows of containers and execs.

use std::fmt;

use bramble_cluster::{TaskId, Timestamp};
use serde::{Deserialize, Serialize};

/// A container that was started, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// Which.
    pub id: TaskId,
    /// Where it is.
    pub state: ContainerState,
}

/// Where a container is. It only ever moves forward in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// A helper is at work, or waits for its turn.
    Starting,
    /// It runs.
    Running {
        /// Its first process, as the board numbers it.
        pid: u32,
        /// Since when.
        since: Timestamp,
    },
    /// It ended.
    Exited(ContainerExit),
    /// It could not be started.
    NotStarted {
        /// Why, in a person's words.
        reason: String,
        /// When.
        at: Timestamp,
    },
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerExit {
    /// The exit code of its first process; 128 + n if signal n ended it.
    pub code: i32,
    /// Whether the kernel killed a process of it for want of memory.
    pub is_out_of_memory: bool,
    /// Since when it ran.
    pub started_at: Timestamp,
    /// When it ended.
    pub at: Timestamp,
}

/// Names an exec. Drawn by the daemon.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ExecId(u64);

impl ExecId {
    /// An id of 64 bits that the caller drew at random.
    pub const fn from_random(bits: u64) -> Self {
        Self(bits)
    }
}

impl fmt::Display for ExecId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

impl fmt::Debug for ExecId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ExecId({self})")
    }
}

/// Something changed on the board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeeperEvent {
    /// This is where a container is now. Sent for every container when a daemon connects, and for
    /// each change after that.
    Container(ContainerStatus),
    /// A container was removed.
    Removed {
        /// Which.
        id: TaskId,
    },
    /// An exec ended.
    ExecExited {
        /// Which.
        exec: ExecId,
        /// Its exit code; 128 + n if signal n ended it.
        code: i32,
    },
}
