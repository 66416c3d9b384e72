//! What happened between two states of the cluster, in words worth telling.

use bramble_cluster::{ClusterState, DesiredState, NodeId, NodeState, Slot, Task, TaskState};
use serde_json::{Value, json};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A board is lost.
    BoardDown {
        /// Its host name.
        board: String,
        /// Why the leader thinks so.
        reason: String,
    },
    /// A board is there, for the first time or again.
    BoardReady {
        /// Its host name.
        board: String,
    },
    /// Another board leads.
    LeaderChanged {
        /// The new leader's host name.
        board: String,
    },
    /// A task took over from one on another board.
    TaskMoved {
        /// Of which service.
        service: String,
        /// Which replica; none for global services.
        slot: Option<u32>,
        /// From which board.
        from: String,
        /// To which board.
        to: String,
    },
    /// A task ended otherwise than it should.
    TaskFailed {
        /// Of which service.
        service: String,
        /// On which board.
        board: String,
        /// Why.
        error: String,
    },
}

impl Event {
    /// The payload of `bramble/cluster/<id>/event`.
    pub fn payload(&self) -> Value {
        match self {
            Self::BoardDown { board, reason } => {
                json!({"event": "board_down", "board": board, "reason": reason})
            }
            Self::BoardReady { board } => json!({"event": "board_ready", "board": board}),
            Self::LeaderChanged { board } => json!({"event": "leader_changed", "board": board}),
            Self::TaskMoved { service, slot, from, to } => {
                json!({"event": "task_moved", "service": service, "slot": slot, "from": from, "to": to})
            }
            Self::TaskFailed { service, board, error } => {
                json!({"event": "task_failed", "service": service, "board": board, "error": error})
            }
        }
    }
}

/// What happened on the way from `before` to `after`, boards first.
pub fn events_between(before: &ClusterState, after: &ClusterState) -> Vec<Event> {
    let mut events = board_events(before, after);
    for (id, task) in after.tasks() {
        let earlier = before.tasks().get(id);
        let reached = |state| {
            task.status.state == state && earlier.is_none_or(|task| task.status.state != state)
        };
        if reached(TaskState::Failed) || reached(TaskState::Rejected) {
            events.push(Event::TaskFailed {
                service: task.service_name.clone(),
                board: board_name(after, task.node),
                error: task.status.error.clone(),
            });
        }
        if reached(TaskState::Running)
            && let Some(predecessor) = predecessor(after, task)
            && predecessor.node != task.node
        {
            events.push(Event::TaskMoved {
                service: task.service_name.clone(),
                slot: match task.slot {
                    Slot::Replica(number) => Some(number),
                    Slot::Node(_) => None,
                },
                from: board_name(after, predecessor.node),
                to: board_name(after, task.node),
            });
        }
    }
    events
}

fn board_events(before: &ClusterState, after: &ClusterState) -> Vec<Event> {
    let mut events = Vec::new();
    for (id, node) in after.nodes() {
        let earlier = before.nodes().get(id).map(|node| node.status.state);
        let board = node.description.hostname.clone();
        match node.status.state {
            state if earlier == Some(state) => {}
            NodeState::Down => {
                events.push(Event::BoardDown { board, reason: node.status.message.clone() });
            }
            NodeState::Ready => events.push(Event::BoardReady { board }),
            NodeState::Unknown => {}
        }
    }
    events
}

/// The task that filled the slot before `task`: the youngest other one that should not run any more.
fn predecessor<'state>(state: &'state ClusterState, task: &Task) -> Option<&'state Task> {
    let is_earlier = |other: &&Task| {
        other.service == task.service
            && other.slot == task.slot
            && other.id != task.id
            && other.desired > DesiredState::Running
            && other.node.is_some()
    };
    let tasks = state.tasks().values().map(AsRef::as_ref);
    tasks.filter(is_earlier).max_by_key(|task| task.created_at)
}

pub(crate) fn board_name(state: &ClusterState, node: Option<NodeId>) -> String {
    match node.map(|id| (id, state.nodes().get(&id))) {
        Some((_, Some(node))) => node.description.hostname.clone(),
        Some((id, None)) => id.to_string(),
        None => String::new(),
    }
}
