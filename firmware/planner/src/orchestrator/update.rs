//! Roll-outs: how a changed specification reaches the running tasks, and how it is taken back.
//!
//! A slot is *dirty* while its newest task runs something else than the service wants. At most
//! `parallelism` slots are *busy* at a time: from when their old task is told to go until the new
//! one runs, and for the delay after that. A slot whose new task failed is no longer busy: its
//! restart policy goes on with it, and the failure counts against the roll-out. A slot whose task has
//! no board yet is never busy: nobody notices when that task is replaced.

use bramble_cluster::{
    Command, FailureAction, NodeState, Restarts, Service, Slot, Task, TaskCause, TaskSpec,
    TaskState, UpdateConfig, UpdateOrder, UpdateState, UpdateStatus,
};

use super::{is_claim, is_vacant, replicated::is_kept, request};
use crate::{
    cluster::Subject,
    draft::Draft,
    scheduler::filter,
    view::{Group, View},
};

/// How far a roll-out is.
#[derive(Debug, Default)]
struct Progress<'t, 'a> {
    slots: u64,
    busy: u32,
    /// Slots that are not busy and may yet fail or are yet to settle.
    unsettled: u32,
    failed: u64,
    last_failed: Option<&'a Task>,
    dirty: Vec<(&'t [&'a Task], &'a Task)>,
}

/// Takes the roll-out of a service one step on, if one is going on.
pub(super) fn advance<'a>(
    view: &View<'a>,
    service: &'a Service,
    group: &Group<'a>,
    draft: &mut Draft<'a>,
) {
    let Some((status, config)) = going_on(service) else { return };
    let mut progress = Progress::default();
    for tasks in group.slots().filter(|tasks| is_kept(tasks)) {
        look_at(view, service, (status, config), tasks, &mut progress, draft);
    }
    if let Some(failed) = progress.last_failed
        && is_over_ratio(&progress, config)
        && config.failure_action != FailureAction::Continue
    {
        return stop(service, status, config, failed, draft);
    }
    if progress.dirty.is_empty() && progress.busy == 0 && progress.unsettled == 0 {
        return complete(service, status, draft);
    }
    let lanes = if config.parallelism == 0 { u32::MAX } else { config.parallelism };
    let free = usize::try_from(lanes.saturating_sub(progress.busy)).unwrap_or(usize::MAX);
    // Where nothing runs yet, nothing is in transition either.
    let (waiting, mut placed): (Vec<_>, Vec<_>) =
        progress.dirty.into_iter().partition(|(tasks, task)| {
            let is_beside = |other: &&&Task| other.id != task.id && is_claim(other, draft);
            task.node.is_none() && !tasks.iter().any(|other| is_beside(&other))
        });
    for (tasks, _) in waiting {
        begin(view, service, config, tasks, draft);
    }
    // What does not run goes first.
    placed.sort_by_key(|(_, task)| task.status.state == TaskState::Running);
    for (index, (tasks, newest)) in placed.into_iter().enumerate() {
        if index < free {
            begin(view, service, config, tasks, draft);
        } else if newest.node.is_none() {
            // It waits beside a running task to become what nobody wants any more.
            draft.withdraw(newest);
        }
    }
}

/// Whether a roll-out goes on.
pub(super) fn is_going_on(service: &Service) -> bool {
    going_on(service).is_some()
}

fn going_on(service: &Service) -> Option<(&UpdateStatus, &UpdateConfig)> {
    let status = service.update_status.as_ref()?;
    match status.state {
        UpdateState::Updating => Some((status, &service.spec.update)),
        UpdateState::RollbackStarted => Some((status, &service.spec.rollback)),
        _ => None,
    }
}

/// Whether a task runs something else than its service wants. Where it may run only matters if it
/// is not there.
pub(super) fn is_dirty(view: &View<'_>, service: &Service, task: &Task) -> bool {
    if task.spec_version == service.spec_version {
        return false;
    }
    let wanted = &service.spec.task;
    if !runs_the_same(&task.spec, wanted) {
        return true;
    }
    task.spec.placement != wanted.placement
        && view.board_of(task).is_none_or(|board| !filter::meets(board.node, &wanted.placement))
}

fn runs_the_same(one: &TaskSpec, other: &TaskSpec) -> bool {
    one.container == other.container
        && one.resources == other.resources
        && one.restart == other.restart
        && one.networks == other.networks
        && one.log_driver == other.log_driver
        && one.on_partition == other.on_partition
        && one.force_update == other.force_update
}

fn look_at<'t, 'a>(
    view: &View<'a>,
    service: &Service,
    (status, config): (&UpdateStatus, &UpdateConfig),
    tasks: &'t [&'a Task],
    progress: &mut Progress<'t, 'a>,
    draft: &mut Draft<'a>,
) {
    let slot_board = match tasks.first().map(|task| task.slot) {
        Some(Slot::Node(node)) => view.board(node),
        _ => None,
    };
    if slot_board.is_some_and(|board| board.state != NodeState::Ready) {
        // The slot of a board that is not there follows when it is back.
        return;
    }
    progress.slots += 1;
    let is_of_roll_out = |task: &Task| {
        task.cause == TaskCause::Updated
            && task.spec_version == service.spec_version
            && task.created_at >= status.started_at
    };
    let failed = tasks.iter().find(|task| is_of_roll_out(task) && has_failed(task, config));
    if let Some(task) = failed {
        progress.failed += 1;
        progress.last_failed = Some(task);
    }
    let mut claims = tasks.iter().rev().filter(|task| is_claim(task, draft)).copied();
    let (newest, elder) = (claims.next(), claims.next());
    let Some(newest) = newest else {
        progress.busy += 1;
        return;
    };
    if draft.is_requested(service.id, newest.slot) {
        progress.busy += 1;
    } else if is_dirty(view, service, newest) {
        progress.dirty.push((tasks, newest));
    } else if newest.cause == TaskCause::Updated && newest.status.state < TaskState::Running {
        // Whichever roll-out made it: it may be of one that was taken back and is wanted again.
        progress.busy += 1;
    } else if is_of_roll_out(newest) && newest.status.state == TaskState::Running {
        let started = newest.started_at.unwrap_or(newest.status.since);
        if !draft.is_due(started + config.delay) {
            progress.busy += 1;
        } else if !draft.is_due(started + config.monitor) {
            progress.unsettled += 1;
        }
    } else if elder.is_some() {
        // The new task failed and is tried again while the old one still runs.
        progress.unsettled += 1;
    }
}

/// Whether a task counts as a failure of the roll-out that created it: it could not run, or ended
/// within the monitored time.
fn has_failed(task: &Task, config: &UpdateConfig) -> bool {
    let has_ended_badly = match task.status.state {
        TaskState::Failed | TaskState::Rejected => true,
        // Something that should keep running has ended.
        TaskState::Complete => {
            task.spec.restart.condition == bramble_cluster::RestartCondition::Any
        }
        _ => false,
    };
    let ended = task.status.since;
    has_ended_badly && task.started_at.is_none_or(|started| ended.since(started) <= config.monitor)
}

fn is_over_ratio(progress: &Progress<'_, '_>, config: &UpdateConfig) -> bool {
    let allowed = u64::from(config.max_failure_millionths).saturating_mul(progress.slots);
    progress.failed.saturating_mul(1_000_000) > allowed
}

/// Replaces the task of a slot by one of the wanted specification.
fn begin<'a>(
    view: &View<'a>,
    service: &'a Service,
    config: &UpdateConfig,
    tasks: &[&'a Task],
    draft: &mut Draft<'a>,
) {
    let claims: Vec<&Task> = tasks.iter().filter(|task| is_claim(task, draft)).copied().collect();
    let Some(newest) = claims.last() else { return };
    let is_alive = |task: &&Task| task.node.is_some() && !task.status.state.is_terminal();
    let is_wanted = |task: &&Task| is_alive(task) && !is_dirty(view, service, task);
    if claims.iter().any(&is_wanted) {
        // An update was taken back before its successor ran: what runs is what is wanted again.
        claims.iter().filter(|task| !is_wanted(task)).for_each(|task| draft.withdraw(task));
        return;
    }
    let kept = match config.order {
        UpdateOrder::StopFirst => None,
        UpdateOrder::StartFirst => {
            let is_running = |task: &&&Task| task.status.state == TaskState::Running;
            claims
                .iter()
                .rev()
                .find(is_running)
                .or_else(|| claims.iter().rev().find(|task| is_alive(task)))
        }
    };
    for task in claims.iter().filter(|task| kept.is_none_or(|kept| kept.id != task.id)) {
        draft.withdraw(task);
    }
    let is_waiting = newest.node.is_none() && claims.len() == 1;
    let cause = if is_waiting { TaskCause::Created } else { TaskCause::Updated };
    if kept.is_some() || is_vacant(view, tasks, draft) {
        request(service, newest.slot, cause, Restarts::default(), draft);
    }
}

fn stop(
    service: &Service,
    status: &UpdateStatus,
    config: &UpdateConfig,
    failed: &Task,
    draft: &mut Draft<'_>,
) {
    let is_forward = status.state == UpdateState::Updating;
    let is_taken_back = is_forward
        && config.failure_action == FailureAction::Rollback
        && service.previous_spec.is_some();
    let what = match (is_forward, is_taken_back) {
        (true, true) => "update rolled back",
        (true, false) => "update paused",
        (false, _) => "rollback paused",
    };
    let message = format!("{what} due to failure or early termination of task {}", failed.id);
    draft.reason(Subject::Service(service.id), format!("{}: {message}", service.spec.name));
    let (id, version) = (service.id, service.version);
    draft.last_command(if is_taken_back {
        Command::RollbackService { id, version, message }
    } else {
        let state = if is_forward { UpdateState::Paused } else { UpdateState::RollbackPaused };
        let status = UpdateStatus { state, message, ..status.clone() };
        Command::SetUpdateStatus { id, version, status }
    });
}

fn complete(service: &Service, status: &UpdateStatus, draft: &mut Draft<'_>) {
    let (state, message) = if status.state == UpdateState::Updating {
        (UpdateState::Completed, "update completed")
    } else {
        (UpdateState::RollbackCompleted, "rollback completed")
    };
    draft.reason(Subject::Service(service.id), format!("{}: {message}", service.spec.name));
    draft.last_command(Command::SetUpdateStatus {
        id: service.id,
        version: service.version,
        status: UpdateStatus {
            state,
            started_at: status.started_at,
            completed_at: Some(draft.now),
            message: message.to_owned(),
        },
    });
}

#[cfg(test)]
mod tests;
