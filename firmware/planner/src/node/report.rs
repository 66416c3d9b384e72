//! What the leader is told of one task: where it is, if the cluster does not know that yet.

use bramble_cluster::{AssignedTask, DesiredState, TaskReport, TaskState, TaskStatus, Timestamp};

use super::{ObservedTask, Phase, Planning, REPORT_AGAIN_AFTER, StopReason};

impl Planning<'_> {
    /// Plans the report of an ordered task, or when to repeat it.
    pub(super) fn report(&mut self, order: &AssignedTask, task: &ObservedTask) {
        let Some(status) = status(order, task, self.now) else { return };
        if status.state <= order.status.state {
            return;
        }
        let reported = task.reported.filter(|reported| reported.state == status.state);
        let is_due = reported.is_none_or(|reported| {
            !reported.is_acknowledged && self.has_come(reported.at + REPORT_AGAIN_AFTER)
        });
        if is_due {
            // Unless it is acknowledged by then, it is due again.
            self.wake_at(self.now + REPORT_AGAIN_AFTER);
            self.plan.reports.push(TaskReport { id: order.id, status });
        }
    }
}

/// Where a task is by what this board knows; `None` if the board has nothing to say of it.
fn status(order: &AssignedTask, task: &ObservedTask, now: Timestamp) -> Option<TaskStatus> {
    if order.status.state.is_terminal() {
        return None;
    }
    let plain = |state, since, message: &str| TaskStatus {
        state,
        since,
        message: message.to_owned(),
        ..TaskStatus::default()
    };
    Some(match &task.phase {
        Phase::Nothing if order.desired != DesiredState::Running => {
            plain(TaskState::Shutdown, now, "stopped before it ran")
        }
        Phase::Nothing if order.status.state >= TaskState::Starting => {
            let error = "its container was lost when the board restarted".to_owned();
            TaskStatus { error, ..plain(TaskState::Shutdown, now, "lost") }
        }
        Phase::Nothing | Phase::Removing => return None,
        Phase::Preparing { since } | Phase::Prepared { since } => {
            plain(TaskState::Preparing, *since, "preparing")
        }
        Phase::Refused { error, at } => {
            TaskStatus { error: error.clone(), ..plain(TaskState::Rejected, *at, "rejected") }
        }
        Phase::Starting { since } => plain(TaskState::Starting, *since, "starting"),
        Phase::Failed { error, at } => {
            TaskStatus { error: error.clone(), ..plain(TaskState::Failed, *at, "failed") }
        }
        Phase::Running { pid, started_at } | Phase::Stopping { pid, started_at, .. } => {
            let running = plain(TaskState::Running, *started_at, "started");
            TaskStatus { pid: Some(*pid), ..running }
        }
        Phase::Ended { exit_code, is_out_of_memory, at, stopped_for } => {
            let is_ordered = order.desired != DesiredState::Running;
            let (state, message, error) =
                ending(*exit_code, *is_out_of_memory, *stopped_for, is_ordered);
            TaskStatus {
                error,
                exit_code: Some(*exit_code),
                is_out_of_memory: *is_out_of_memory,
                ..plain(state, *at, message)
            }
        }
    })
}

/// How a container's end counts. One that its board ended unasked has not failed: another takes its
/// place whatever its restart policy says.
fn ending(
    exit_code: i32,
    is_out_of_memory: bool,
    stopped_for: Option<StopReason>,
    is_ordered: bool,
) -> (TaskState, &'static str, String) {
    match stopped_for {
        Some(StopReason::CutOff) => {
            let error = "stopped: its board was cut off from the quorum";
            (TaskState::Shutdown, "stopped", error.to_owned())
        }
        Some(StopReason::Ordered) => (TaskState::Shutdown, "shutdown", String::new()),
        None if is_ordered => (TaskState::Shutdown, "shutdown", String::new()),
        None if exit_code == 0 => (TaskState::Complete, "finished", String::new()),
        None if is_out_of_memory => {
            let error = format!("task: out of memory, exit code {exit_code}");
            (TaskState::Failed, "failed", error)
        }
        None => (TaskState::Failed, "failed", format!("task: non-zero exit ({exit_code})")),
    }
}
