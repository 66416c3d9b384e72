//! Gentle balance: a board that came back or is new gets its share, one task at a time.
//!
//! Only when nothing else is to be done, start-first, and with a cool-down. A move has to make the
//! spread strictly better by the scheduler's own order (preferences, then tasks of the service, then
//! tasks in all), so moving ends. A service of one replica that updates stop-first is never moved:
//! no balance is worth a gap.

use bramble_cluster::{
    DesiredState, NodeState, Service, ServiceMode, Slot, Task, TaskCause, TaskState, UpdateState,
};

use super::slot::is_start_first;
use crate::{
    cluster::Subject,
    draft::{Draft, Request},
    scheduler::{self, Census, rank},
    timing::{REBALANCE_AFTER, REBALANCE_COOL_DOWN},
    view::{Group, View, slot_name},
};

/// Moves one task to where there is less to do, if that is due.
pub(super) fn improve<'a>(view: &View<'a>, draft: &mut Draft<'a>) {
    if !is_calm(view, draft) {
        return;
    }
    let rested: Vec<bool> = view.boards.iter().map(|board| is_rested(board, draft)).collect();
    if !rested.contains(&true) {
        return;
    }
    let mut best: Option<Move<'a>> = None;
    for group in &view.groups {
        let Some(service) = group.service.filter(|service| is_movable(service)) else { continue };
        let Some(found) = best_move(view, service, group, &rested) else { continue };
        if best.as_ref().is_none_or(|best| found.gain > best.gain) {
            best = Some(found);
        }
    }
    if let Some(found) = best {
        let from = view.boards[found.from].name();
        let to = view.boards[found.to].name();
        let name = slot_name(view, &found.service.spec.name, found.task.slot);
        draft.reason(
            Subject::Task(found.task.id),
            format!("{name} moves from {from} to {to}, which has less to do"),
        );
        draft.request(Request {
            service: found.service,
            slot: found.task.slot,
            cause: TaskCause::Balanced,
            restarts: found.task.restarts,
            is_optional: true,
        });
    }
}

struct Move<'a> {
    service: &'a Service,
    task: &'a Task,
    from: usize,
    to: usize,
    gain: rank::Gain,
}

/// Whether the last move is over and cooled down, and no slot is between two tasks.
fn is_calm(view: &View<'_>, draft: &mut Draft<'_>) -> bool {
    let tasks = view.groups.iter().flat_map(|group| &group.tasks);
    let balanced = tasks.filter(|task| task.cause == TaskCause::Balanced);
    let last = balanced.map(|task| task.created_at).max();
    if last.is_some_and(|last| !draft.is_due(last + REBALANCE_COOL_DOWN)) {
        return false;
    }
    let mut slots = view.groups.iter().flat_map(Group::slots);
    !slots.any(|tasks| {
        let mut claims = tasks.iter().rev().filter(|task| task.desired == DesiredState::Running);
        let newest = claims.next();
        claims.next().is_some() && newest.is_some_and(|task| task.cause == TaskCause::Balanced)
    })
}

/// Whether a board has been there for long enough to be relied on.
fn is_rested(board: &crate::view::Board<'_>, draft: &mut Draft<'_>) -> bool {
    board.is_open()
        && board.node.status.state == NodeState::Ready
        && draft.is_due(board.node.status.since + REBALANCE_AFTER)
}

fn is_movable(service: &Service) -> bool {
    let is_rolling = service.update_status.as_ref().is_some_and(|status| {
        matches!(status.state, UpdateState::Updating | UpdateState::RollbackStarted)
    });
    matches!(service.spec.mode, ServiceMode::Replicated { .. })
        && is_start_first(service)
        && !is_rolling
}

/// The best move of one task of a service, if any makes things better.
fn best_move<'a>(
    view: &View<'a>,
    service: &'a Service,
    group: &Group<'a>,
    rested: &[bool],
) -> Option<Move<'a>> {
    let census = Census::of(group, &view.boards, view.now, service.spec_version, &|_| false);
    let spread = rank::spread(&view.boards, &service.spec.task.placement, &census.claims);
    // Where the scheduler would put one more; it decides again when the task is created.
    let slot = Slot::Replica(0);
    let wanted = &service.spec.task;
    let is_fit = |index: usize| {
        scheduler::is_fit(&view.boards[index], service, wanted, slot, &census.alive[index])
    };
    let to = (0..view.boards.len())
        .filter(|index| is_fit(*index))
        .min_by_key(|index| spread.key(*index, &view.boards, &census))?;
    if !rested[to] || census.failures[to] > 0 {
        return None;
    }
    let mut best: Option<Move<'a>> = None;
    for task in group.slots().filter_map(settled) {
        let Some(from) = task.node.and_then(|node| crate::view::index_of(&view.boards, node))
        else {
            continue;
        };
        let Some(gain) = spread.gain(from, to, &view.boards, &census) else { continue };
        if best.as_ref().is_none_or(|best| gain >= best.gain) {
            best = Some(Move { service, task, from, to, gain });
        }
    }
    best
}

/// The task of a slot, if it runs and is the only one.
fn settled<'a>(tasks: &[&'a Task]) -> Option<&'a Task> {
    let mut claims = tasks.iter().filter(|task| task.desired == DesiredState::Running);
    let task = claims.next().filter(|task| task.status.state == TaskState::Running)?;
    claims.next().is_none().then_some(*task)
}

#[cfg(test)]
mod tests;
