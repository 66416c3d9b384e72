//! Global services: one task on every board that their constraints allow.

use std::collections::BTreeMap;

use bramble_cluster::{Availability, NodeState, Restarts, Service, Slot, Task, TaskCause};

use super::{is_claim, is_vacant, request, restart, slot, update};
use crate::{
    draft::Draft,
    scheduler::filter,
    view::{Board, Group, View},
};

/// Sees to the slots of a global service.
pub(super) fn tend<'a>(
    view: &View<'a>,
    service: &'a Service,
    group: &Group<'a>,
    draft: &mut Draft<'a>,
) {
    let slots: BTreeMap<Slot, &[&Task]> =
        group.slots().filter_map(|tasks| Some((tasks.first()?.slot, tasks))).collect();
    for (slot, tasks) in &slots {
        let Slot::Node(node) = *slot else {
            tasks.iter().for_each(|task| draft.discard(task));
            continue;
        };
        match view.board(node) {
            Some(board) if is_wanted(service, board) => {
                tend_slot(view, service, board, tasks, draft);
            }
            _ => tasks.iter().for_each(|task| draft.discard(task)),
        }
    }
    for board in view.boards.iter().filter(|board| board.is_open() && is_wanted(service, board)) {
        let slot = Slot::Node(board.node.id);
        if !slots.contains_key(&slot) {
            request(service, slot, TaskCause::Created, Restarts::default(), draft);
        }
    }
}

fn tend_slot<'a>(
    view: &View<'a>,
    service: &'a Service,
    board: &Board<'a>,
    tasks: &[&'a Task],
    draft: &mut Draft<'a>,
) {
    let Some(latest) = tasks.last() else { return };
    let claims: Vec<&Task> = tasks.iter().filter(|task| is_claim(task, draft)).copied().collect();
    if board.state != NodeState::Ready {
        // What it runs there goes on when it returns, unless it should be another by then.
        for task in claims.iter().filter(|task| update::is_dirty(view, service, task)) {
            draft.withdraw(task);
        }
        return;
    }
    match claims.split_last() {
        None if !board.is_leaving && is_vacant(view, tasks, draft) => {
            let cause = slot::cause_after(service, latest, false);
            request(service, latest.slot, cause, latest.restarts, draft);
        }
        None => {}
        Some((task, [])) if task.status.state.is_terminal() && !board.is_leaving => {
            restart::tend(service, task, draft);
        }
        Some((_, [])) => {}
        Some((newest, elders)) => slot::settle(view, service, newest, elders, draft),
    }
}

/// Whether the service has a slot on the board at all.
pub(super) fn is_wanted(service: &Service, board: &Board<'_>) -> bool {
    board.node.spec.availability != Availability::Drain
        && filter::meets(board.node, &service.spec.task.placement)
}
