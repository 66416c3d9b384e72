//! What follows a task that ended by itself.

use std::time::Duration;

use bramble_cluster::{
    RestartCondition, RestartPolicy, Restarts, Service, Task, TaskCause, TaskState, Timestamp,
};

use super::request;
use crate::{
    draft::Draft,
    timing::{GOOD_RUN, RESTART_FIRST, RESTART_MAX},
};

/// Replaces a task that ended, when its restart policy says so. It keeps its claim until then; if
/// there is nothing to follow, it keeps it for good: the slot is done.
pub(super) fn tend<'a>(service: &'a Service, task: &'a Task, draft: &mut Draft<'a>) {
    let Some((at, restarts)) = after(task) else { return };
    if draft.is_due(at) {
        draft.withdraw(task);
        request(service, task.slot, TaskCause::Restarted, restarts, draft);
    }
}

/// Whether another task will follow one that ended.
pub(super) fn is_retried(task: &Task) -> bool {
    after(task).is_some()
}

/// When another task follows one that ended, and what it takes over; `None` if none does.
fn after(task: &Task) -> Option<(Timestamp, Restarts)> {
    let policy = &task.spec.restart;
    let ended = task.status.since;
    match task.status.state {
        // Its board went, not the task.
        TaskState::Orphaned => return Some((ended, task.restarts)),
        // Its board stopped it unasked, as one does that is cut off or shuts down.
        TaskState::Shutdown => {}
        TaskState::Complete if policy.condition != RestartCondition::Any => return None,
        _ if policy.condition == RestartCondition::None => return None,
        _ => {}
    }
    let mut restarts = count(task, policy)?;
    let run = task.started_at.map_or(Duration::ZERO, |started| ended.since(started));
    if run >= GOOD_RUN {
        restarts.in_a_row = 0;
    }
    let delay = policy.delay.unwrap_or_else(|| back_off(restarts.in_a_row));
    restarts.in_a_row = restarts.in_a_row.saturating_add(1);
    Some((ended + delay, restarts))
}

/// Counts one more restart within the policy's window; `None` if there were enough.
///
/// The window is counted from its first restart on, and a new one begins after it.
fn count(task: &Task, policy: &RestartPolicy) -> Option<Restarts> {
    let mut restarts = task.restarts;
    let ended = task.status.since;
    let is_over = policy
        .window
        .is_some_and(|window| !window.is_zero() && ended.since(restarts.window_since) > window);
    if restarts.in_window == 0 || is_over {
        restarts.in_window = 0;
        restarts.window_since = ended;
    }
    if policy.max_attempts != 0 && restarts.in_window >= policy.max_attempts {
        return None;
    }
    restarts.in_window += 1;
    Some(restarts)
}

/// How long to wait after so many tasks in a row died young.
fn back_off(in_a_row: u32) -> Duration {
    RESTART_FIRST.saturating_mul(1u32.checked_shl(in_a_row).unwrap_or(u32::MAX)).min(RESTART_MAX)
}

#[cfg(test)]
mod tests;
