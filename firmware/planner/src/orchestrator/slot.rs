//! One slot: who fills it now, and who comes next.

use bramble_cluster::{
    Availability, OnPartition, Service, ServiceMode, Task, TaskCause, TaskState, UpdateOrder,
    UpdateState,
};

use super::{is_claim, is_vacant, request, restart, update};
use crate::{
    cluster::Subject,
    draft::{Draft, Request},
    scheduler::filter,
    timing::{PATIENCE, ROOM_PATIENCE},
    view::View,
};

/// Why a task can not stay on its board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Departure {
    Drained,
    Leaving,
    Displaced,
}

/// Sees to one slot that should be filled. `tasks` are all of its tasks, oldest first.
pub(super) fn tend<'a>(
    view: &View<'a>,
    service: &'a Service,
    tasks: &[&'a Task],
    draft: &mut Draft<'a>,
) {
    let Some(latest) = tasks.last() else { return };
    let claims: Vec<&Task> = tasks.iter().filter(|task| is_claim(task, draft)).copied().collect();
    let is_alive_but_lost = |task: &Task, draft: &mut Draft<'_>| {
        !task.status.state.is_terminal() && view.is_lost(task, draft)
    };
    let (lost, here): (Vec<&Task>, Vec<&Task>) =
        claims.into_iter().partition(|task| is_alive_but_lost(task, draft));
    for task in &lost {
        draft.withdraw(task);
    }
    match here.split_last() {
        None if is_vacant(view, tasks, draft) => {
            let cause = cause_after(service, latest, !lost.is_empty());
            request(service, latest.slot, cause, latest.restarts, draft);
        }
        None => {}
        Some((task, [])) if task.status.state.is_terminal() => {
            restart::tend(service, task, draft);
        }
        Some((task, [])) => tend_one(view, service, task, draft),
        Some((newest, elders)) => settle(view, service, newest, elders, draft),
    }
}

/// Why a slot is filled anew when its board is lost or should be left, or when nobody claims it.
///
/// A slot that was vacated while a roll-out goes on counts as a part of it, and a task of a roll-out
/// that never ran is followed by another one of it: the slot is busy until something runs there.
pub(super) fn cause_after(service: &Service, latest: &Task, is_taken: bool) -> TaskCause {
    let is_unfinished = latest.cause == TaskCause::Updated
        && latest.spec_version == service.spec_version
        && latest.started_at.is_none();
    if is_unfinished || (!is_taken && update::is_going_on(service)) {
        TaskCause::Updated
    } else {
        TaskCause::Moved
    }
}

/// Sees to the only claim of a slot, which has not ended.
fn tend_one<'a>(view: &View<'a>, service: &'a Service, task: &'a Task, draft: &mut Draft<'a>) {
    let Some(departure) = departure(view, service, task) else { return };
    if let (Departure::Displaced, Some(board)) = (departure, view.board_of(task)) {
        let text = format!("{} no longer meets its constraints", board.name());
        draft.reason(Subject::Task(task.id), text);
    }
    if is_start_first(service) {
        draft.request(Request {
            service,
            slot: task.slot,
            cause: cause_after(service, task, true),
            restarts: task.restarts,
            // A board that leaves takes its tasks along; there is no point in ending them before.
            is_optional: departure == Departure::Leaving,
        });
    } else {
        draft.withdraw(task);
    }
}

/// Decides between a successor and those that it should replace.
pub(super) fn settle<'a>(
    view: &View<'a>,
    service: &'a Service,
    newest: &'a Task,
    elders: &[&'a Task],
    draft: &mut Draft<'a>,
) {
    let is_fit = |task: &&&Task| {
        !task.status.state.is_terminal() && departure(view, service, task).is_none()
    };
    let has_fit_elder = elders.iter().any(|task| is_fit(&task));
    let state = newest.status.state;
    if state == TaskState::Running {
        elders.iter().for_each(|elder| draft.withdraw(elder));
        return;
    }
    if state.is_terminal() {
        let is_update = elders.iter().any(|elder| update::is_dirty(view, service, elder));
        if has_fit_elder && !is_update {
            draft.withdraw(newest);
            return;
        }
        for elder in elders.iter().filter(|elder| !is_fit(elder) || !restart::is_retried(newest)) {
            draft.withdraw(elder);
        }
        restart::tend(service, newest, draft);
        return;
    }
    if has_fit_elder && departure(view, service, newest).is_some() {
        draft.withdraw(newest);
        return;
    }
    for elder in elders {
        let is_over = if is_fit(&elder) {
            // One that the service no longer wants is for the roll-out to replace first.
            newest.node.is_none()
                && !update::is_dirty(view, service, newest)
                && is_in_the_way(view, newest, elder)
                && draft.is_due(newest.created_at + ROOM_PATIENCE)
        } else {
            elder.status.state.is_terminal()
                || newest.node.is_none()
                || draft.is_due(newest.created_at + PATIENCE)
        };
        if is_over {
            draft.withdraw(elder);
        }
    }
}

/// Whether a successor waits for the very room that its predecessor has. Start-first gives way to
/// stop-first then, or a roll-out on full boards would never end.
fn is_in_the_way(view: &View<'_>, newest: &Task, elder: &Task) -> bool {
    view.board_of(elder)
        .is_some_and(|board| filter::fits_in_place_of(board, &newest.spec, &elder.spec))
}

/// Why a task can not stay where it is, if so.
fn departure(view: &View<'_>, service: &Service, task: &Task) -> Option<Departure> {
    if service.spec.mode == ServiceMode::Global {
        // Where global tasks belong is decided for each board as a whole.
        return None;
    }
    let board = view.board_of(task)?;
    if board.node.spec.availability == Availability::Drain {
        return Some(Departure::Drained);
    }
    if board.is_leaving {
        return Some(Departure::Leaving);
    }
    let wanted = &service.spec.task.placement;
    let is_fit = filter::meets(board.node, &task.spec.placement)
        && (is_rolling(service) || filter::meets(board.node, wanted));
    (!is_fit).then_some(Departure::Displaced)
}

/// While a roll-out goes on, it decides when tasks follow changed constraints.
fn is_rolling(service: &Service) -> bool {
    service.update_status.as_ref().is_some_and(|status| {
        !matches!(status.state, UpdateState::Completed | UpdateState::RollbackCompleted)
    })
}

/// Whether two tasks of a slot may run for a moment when one replaces the other unforced. Unless
/// the update order asks for it, not if there is only one, nor if it must not run twice.
pub(super) fn is_start_first(service: &Service) -> bool {
    let is_single = matches!(service.spec.mode, ServiceMode::Replicated { replicas: ..=1 });
    let is_bound = service.spec.task.on_partition == OnPartition::Stop;
    (!is_single && !is_bound) || service.spec.update.order == UpdateOrder::StartFirst
}
