//! Which tasks there should be: for each slot of each service at most one, and another when it ends.
//!
//! A task whose desired state is Running *claims* its slot. A slot has two claims only while a
//! successor starts before its predecessor stops (start-first): the newest claim wins as soon as it
//! runs. Everything follows from the tasks themselves, so that a new leader goes on where the old
//! one stopped.
//!
//! Where Swarm leaves a choice:
//! - A slot is filled again only when what ran in it has ended, or its board is lost.
//! - Tasks leave a drained or leaving board start-first, unless the service updates stop-first and
//!   has one replica or says `on_partition: stop`: then no two of a slot may run at a time.
//! - The tasks of a lost board are replaced whatever the restart policy says: they did not end.
//! - A global service's tasks stay where they are when their board is lost: nobody replaces them
//!   elsewhere, and a board that was only cut off goes on with what it runs.

mod global;
mod rebalance;
mod replicated;
mod restart;
mod slot;
mod update;

use bramble_cluster::{Command, NodeState, Restarts, Service, ServiceMode, Slot, Task, TaskCause};

use crate::{
    cluster::Subject,
    draft::{Draft, Request},
    timing::ORPHAN_AFTER,
    view::View,
};

/// Decides which tasks end and which are created; the scheduler finds places for the latter.
pub(crate) fn orchestrate<'a>(view: &View<'a>, draft: &mut Draft<'a>) {
    for group in &view.groups {
        let Some(service) = group.service else {
            group.tasks.iter().for_each(|task| draft.discard(task));
            continue;
        };
        match service.spec.mode {
            ServiceMode::Replicated { replicas } => {
                replicated::tend(view, service, group, replicas, draft);
            }
            ServiceMode::Global => global::tend(view, service, group, draft),
        }
        update::advance(view, service, group, draft);
    }
    orphan_lost(view, draft);
    if draft.is_empty() {
        rebalance::improve(view, draft);
    }
}

/// Gives up on the tasks of boards that are down for so long that nobody will hear of them again.
fn orphan_lost(view: &View<'_>, draft: &mut Draft<'_>) {
    for board in &view.boards {
        let status = &board.node.status;
        // A board found down just now is judged again with the next plan.
        if board.state != NodeState::Down
            || status.state != NodeState::Down
            || !draft.is_due(status.since + ORPHAN_AFTER)
        {
            continue;
        }
        let lost = view.state.tasks_on(board.node.id);
        for task in lost.filter(|task| !task.status.state.is_terminal()) {
            let message = format!("{} is down since a day", board.name());
            draft.reason(Subject::Task(task.id), format!("given up: {message}"));
            draft.command(Command::OrphanTask { id: task.id, message });
        }
    }
}

/// Asks for a task in a slot.
fn request<'a>(
    service: &'a Service,
    slot: Slot,
    cause: TaskCause,
    restarts: Restarts,
    draft: &mut Draft<'a>,
) {
    draft.request(Request { service, slot, cause, restarts, is_optional: false });
}

/// Whether a task claims its slot, after what this plan did so far.
fn is_claim(task: &Task, draft: &Draft<'_>) -> bool {
    task.desired == bramble_cluster::DesiredState::Running && !draft.is_withdrawn(task.id)
}

/// Whether nothing runs in the slot any more, so that it may be filled.
fn is_vacant(view: &View<'_>, tasks: &[&Task], draft: &mut Draft<'_>) -> bool {
    tasks.iter().all(|task| {
        task.node.is_none() || task.status.state.is_terminal() || view.is_lost(task, draft)
    })
}

#[cfg(test)]
mod tests;
