//! What is forgotten: ended tasks beyond those kept to look at.

use bramble_cluster::{DesiredState, Task, TaskCause, UpdateState, limits};

use crate::{
    draft::Draft,
    timing::REBALANCE_COOL_DOWN,
    view::{Group, View},
};

/// Forgets the ended tasks that nobody needs: of each slot the oldest beyond the cluster's limit,
/// and all that were to be removed.
pub(crate) fn prune(view: &View<'_>, draft: &mut Draft<'_>) {
    let limit = view
        .state
        .cluster()
        .map_or(limits::TASK_HISTORY_DEFAULT, |cluster| cluster.spec.task_history_limit);
    for group in &view.groups {
        // A roll-out counts failures by the tasks that failed: keep one a slot.
        let limit = if is_rolling(group) { limit.max(1) } else { limit };
        for tasks in group.slots() {
            prune_slot(view, tasks, limit, draft);
        }
    }
}

fn prune_slot(view: &View<'_>, tasks: &[&Task], limit: u32, draft: &mut Draft<'_>) {
    let has_claim = tasks.iter().any(|task| task.desired == DesiredState::Running);
    let mut kept = 0;
    for (age, task) in tasks.iter().rev().enumerate() {
        let is_over = task.node.is_none() || task.status.state.is_terminal();
        if !is_over || task.desired == DesiredState::Running {
            continue;
        }
        let is_wanted = task.desired == DesiredState::Shutdown && task.node.is_some();
        // The last task of a slot without a claim is what says that the slot exists.
        let is_last = age == 0 && !has_claim;
        // The balance cools down from when this one was created.
        let is_cooling =
            task.cause == TaskCause::Balanced && view.now < task.created_at + REBALANCE_COOL_DOWN;
        if is_wanted && (kept < limit || is_last || is_cooling) {
            kept += 1;
        } else {
            draft.forget(task);
        }
    }
}

fn is_rolling(group: &Group<'_>) -> bool {
    let status = group.service.and_then(|service| service.update_status.as_ref());
    status.is_some_and(|status| {
        matches!(status.state, UpdateState::Updating | UpdateState::RollbackStarted)
    })
}

#[cfg(test)]
mod tests;
