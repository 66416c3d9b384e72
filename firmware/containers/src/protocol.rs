//! What the daemon and the keeper say to each other, and the helper to the keeper.
//!
//! One packet of a `SOCK_SEQPACKET` socket is one message, postcard. An exec's standard streams
//! travel with its packet as file descriptors. Variants and fields are only ever appended: a
//! daemon may be younger than its keeper.

use bramble_cluster::{TaskId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{ContainerState, ExecId, KeeperEvent};

/// The version that [`Request::Hello`] names.
pub(crate) const VERSION: u16 = 1;
/// Bytes in one message at most.
pub(crate) const MESSAGE_BYTES: usize = 32 * 1024;
/// Bytes of a reason in a message; longer ones are cut.
pub(crate) const REASON_BYTES: usize = 4 * 1024;
/// File descriptors with one message: standard input, output and error.
pub(crate) const MESSAGE_FILES: usize = 3;

/// A request and its number, which the answer repeats.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) number: u64,
    pub(crate) request: Request,
}

/// What a daemon asks for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Comes first; the keeper tells of all containers, then answers.
    Hello { version: u16 },
    /// Starts a created container; answered when it runs.
    Start { id: TaskId },
    /// Asks a container to end, and kills it after its grace period. Answered at once.
    Stop { id: TaskId, grace_milliseconds: Option<u64> },
    /// Sends a signal to a container's first process.
    Signal { id: TaskId, signal: i32 },
    /// Starts a process in a container. Its description is a file in the bundle; three streams
    /// travel with this.
    Exec { id: TaskId, exec: ExecId, has_terminal: bool },
    /// Sends a signal to an exec.
    SignalExec { exec: ExecId, signal: i32 },
    /// Forgets a container and its files; kills it if it runs. Answered when all is gone.
    Remove { id: TaskId },
    /// The daemon makes progress.
    Alive,
}

/// What the keeper says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// To the request of this number.
    Answer { number: u64, result: Result<Answer, Refusal> },
    /// To every daemon that is connected.
    Event(KeeperEvent),
}

/// What was asked for is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// Nothing more to say.
    Done,
    /// To a hello: where things are.
    Hello { version: u16, run_dir: String, data_dir: String, cgroup: String },
    /// The process runs.
    Started { pid: u32 },
}

/// Why the keeper did not do what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// There is no such container.
    #[error("no container {id}")]
    NotFound {
        /// Which.
        id: TaskId,
    },
    /// There is no such exec.
    #[error("no exec {exec}")]
    ExecNotFound {
        /// Which.
        exec: ExecId,
    },
    /// It was started before.
    #[error("container {id} was started before")]
    Exists {
        /// Which.
        id: TaskId,
    },
    /// It does not run.
    #[error("container {id} does not run")]
    NotRunning {
        /// Which.
        id: TaskId,
    },
    /// It could not be started.
    #[error("{reason}")]
    NotStarted {
        /// Why, in a person's words.
        reason: String,
    },
    /// A limit of the keeper is reached.
    #[error("the keeper has {limit} {what} already")]
    OverLimit {
        /// Of what.
        what: String,
        /// The limit.
        limit: u64,
    },
    /// The keeper is ending and starts nothing.
    #[error("this board is shutting down")]
    Ending,
    /// The request makes no sense to this keeper.
    #[error("the keeper does not understand: {reason}")]
    Malformed {
        /// Why.
        reason: String,
    },
}

/// What a helper reports to the keeper, in this order.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum HelperReport {
    /// The process exists and waits. A terminal's master side travels with this.
    Created { pid: i32 },
    /// It was told to go on.
    Started,
    /// It could not be started.
    Failed { reason: String },
}

/// What the keeper must know of a container besides its OCI specification. A file in the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Order {
    V1(OrderV1),
}

/// The first version of [`Order`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OrderV1 {
    pub(crate) stop_signal: i32,
    pub(crate) grace_milliseconds: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) segments: u32,
    pub(crate) has_terminal: bool,
    pub(crate) has_open_stdin: bool,
}

/// What became of a container. A file in the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StatusFile {
    V1 { state: ContainerState, started_at: Timestamp },
}

/// Cuts a reason to what fits into a message.
pub(crate) fn cut_reason(mut reason: String) -> String {
    if reason.len() > REASON_BYTES {
        let end = (0..=REASON_BYTES).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
        reason.truncate(end);
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_format_is_frozen() {
        let id = TaskId::from_random(5);
        let start = Call { number: 1, request: Request::Start { id } };
        assert_eq!(postcard::to_stdvec(&start).unwrap(), [1, 1, 5]);
        let stop = Request::Stop { id, grace_milliseconds: Some(300) };
        assert_eq!(postcard::to_stdvec(&stop).unwrap(), [2, 5, 1, 0xac, 2]);
        let state = ContainerState::Running { pid: 7, since: Timestamp::from_millis(9) };
        let file = StatusFile::V1 { state, started_at: Timestamp::from_millis(9) };
        assert_eq!(postcard::to_stdvec(&file).unwrap(), [0, 1, 7, 9, 9]);
        let event = Message::Event(KeeperEvent::Removed { id });
        assert_eq!(postcard::to_stdvec(&event).unwrap(), [1, 1, 5]);
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let cut = cut_reason("é".repeat(REASON_BYTES));
        assert!(cut.len() <= REASON_BYTES && cut.len() > REASON_BYTES - 2);
    }
}
