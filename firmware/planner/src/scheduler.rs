//! Which board a task goes to: those that fit ([`filter`]), and of them the best ([`rank`]).
//!
//! Whether an image is there does not matter: boards fetch images from each other.

pub(crate) mod filter;
pub(crate) mod rank;

use std::collections::BTreeMap;

use bramble_cluster::{
    Command, DesiredState, NewTask, NodeId, Service, ServiceId, Slot, Task, TaskCause, TaskId,
    TaskSpec, TaskState, Timestamp, Version,
};

use crate::{
    cluster::Subject,
    draft::{Draft, Request},
    timing::{EXPLAIN_AGAIN_AFTER, FAILURE_MEMORY},
    view::{Board, Group, View, index_of, slot_name},
};

/// Where the tasks of a service are, by board.
#[derive(Debug)]
pub(crate) struct Census {
    /// Those that should run.
    pub(crate) claims: Vec<u32>,
    /// The slots of those that have not ended.
    pub(crate) alive: Vec<Vec<Slot>>,
    /// Those that failed of late, of the specification that is wanted now.
    pub(crate) failures: Vec<u32>,
}

impl Census {
    pub(crate) fn of(
        group: &Group<'_>,
        boards: &[Board<'_>],
        now: Timestamp,
        spec_version: Version,
        is_withdrawn: &dyn Fn(TaskId) -> bool,
    ) -> Self {
        let zeros = || vec![0; boards.len()];
        let alive = vec![Vec::new(); boards.len()];
        let mut census = Self { claims: zeros(), alive, failures: zeros() };
        for task in &group.tasks {
            let Some(index) = task.node.and_then(|node| index_of(boards, node)) else { continue };
            let state = task.status.state;
            if !state.is_terminal() {
                census.alive[index].push(task.slot);
                let is_claim = task.desired == DesiredState::Running && !is_withdrawn(task.id);
                census.claims[index] += u32::from(is_claim);
            } else if matches!(state, TaskState::Failed | TaskState::Rejected)
                && task.spec_version == spec_version
                && now.since(task.status.since) < FAILURE_MEMORY
            {
                census.failures[index] += 1;
            }
        }
        census
    }

    fn add(&mut self, index: usize, slot: Slot) {
        self.claims[index] += 1;
        self.alive[index].push(slot);
    }
}

/// Finds places for the tasks that wait, oldest first, and then for those that were asked for.
pub(crate) fn schedule<'a>(view: &mut View<'a>, draft: &mut Draft<'a>) {
    let mut censuses = BTreeMap::new();
    let mut waiting: Vec<(&'a Service, &'a Task)> = Vec::new();
    for group in &view.groups {
        let Some(service) = group.service else { continue };
        let tasks = group.tasks.iter().filter(|task| is_waiting(task, draft));
        waiting.extend(tasks.map(|task| (service, *task)));
    }
    let requests = draft.take_requests();
    if waiting.is_empty() && requests.is_empty() {
        return;
    }
    let wanted = waiting.iter().map(|(service, _)| service.id);
    for id in wanted.chain(requests.iter().map(|request| request.service.id)) {
        censuses.entry(id).or_insert_with(|| census_of(view, id, draft));
    }
    waiting.sort_unstable_by_key(|(_, task)| (task.created, task.service, task.slot, task.id));
    for (service, task) in waiting {
        if let Some(census) = censuses.get_mut(&service.id) {
            give(view, service, task, census, draft);
        }
    }
    for request in requests {
        if let Some(census) = censuses.get_mut(&request.service.id) {
            create(view, &request, census, draft);
        }
    }
}

fn is_waiting(task: &Task, draft: &Draft<'_>) -> bool {
    task.node.is_none()
        && task.status.state <= TaskState::Pending
        && task.desired == DesiredState::Running
        && !draft.is_withdrawn(task.id)
}

fn census_of(view: &View<'_>, id: ServiceId, draft: &Draft<'_>) -> Census {
    let service = view.state.service(id);
    let spec_version = service.map(|service| service.spec_version).unwrap_or_default();
    let is_group = |group: &&Group<'_>| group.service.is_some_and(|service| service.id == id);
    let empty = Group { service: None, tasks: Vec::new() };
    let group = view.groups.iter().find(is_group).unwrap_or(&empty);
    Census::of(group, &view.boards, view.now, spec_version, &|task| draft.is_withdrawn(task))
}

/// Gives a waiting task to a board, or says why none is good.
fn give<'a>(
    view: &mut View<'a>,
    service: &'a Service,
    task: &'a Task,
    census: &mut Census,
    draft: &mut Draft<'a>,
) {
    let place = find(&view.boards, service, &task.spec, task.slot, census);
    if let Some(index) = place {
        let node = take(view, service, &task.spec, (index, task.slot), census);
        draft.command(Command::AssignTask { id: task.id, version: task.version, node });
        return;
    }
    let error = filter::explain(&view.boards, service, &task.spec, task.slot, &census.alive);
    let is_news = task.status.error != error;
    let is_first = task.status.error.is_empty();
    if is_news && (is_first || draft.is_due(task.updated_at + EXPLAIN_AGAIN_AFTER)) {
        let name = slot_name(view, &task.service_name, task.slot);
        draft.reason(Subject::Task(task.id), format!("{name}: {error}"));
        draft.command(Command::ExplainTask { id: task.id, version: task.version, error });
    }
}

/// Creates a task that was asked for, on the best board or waiting for one.
fn create<'a>(
    view: &mut View<'a>,
    request: &Request<'a>,
    census: &mut Census,
    draft: &mut Draft<'a>,
) {
    let service = request.service;
    let spec = &service.spec.task;
    let place = find(&view.boards, service, spec, request.slot, census);
    if (place.is_none() && request.is_optional) || !draft.may_create(service.id) {
        return;
    }
    let id = TaskId::derive(service.id, request.slot.number(), view.state.version().0);
    let node = place.map(|index| take(view, service, spec, (index, request.slot), census));
    draft.command(Command::CreateTask(Box::new(NewTask {
        id,
        service: service.id,
        service_version: service.version,
        slot: request.slot,
        node,
        cause: request.cause,
        restarts: request.restarts,
        planned_at: view.state.version(),
    })));
    let name = slot_name(view, &service.spec.name, request.slot);
    if let Some(index) = place {
        let what = match request.cause {
            TaskCause::Created => "starts",
            TaskCause::Restarted => "starts again",
            TaskCause::Updated => "starts anew",
            TaskCause::Moved | TaskCause::Balanced => "moves to",
        };
        let on = if what == "moves to" { "" } else { "on " };
        let text = format!("{name} {what} {on}{}", view.boards[index].name());
        draft.reason(Subject::Task(id), text);
        return;
    }
    let error = filter::explain(&view.boards, service, spec, request.slot, &census.alive);
    draft.reason(Subject::Task(id), format!("{name}: {error}"));
    // The version that it gets is not known yet, and nobody else knows of it.
    draft.command(Command::ExplainTask { id, version: Version(0), error });
}

/// Books a task on a board.
fn take(
    view: &mut View<'_>,
    service: &Service,
    spec: &TaskSpec,
    (index, slot): (usize, Slot),
    census: &mut Census,
) -> NodeId {
    view.boards[index].take(service, &spec.resources);
    census.add(index, slot);
    view.boards[index].node.id
}

/// The best board for a task.
fn find(
    boards: &[Board<'_>],
    service: &Service,
    spec: &TaskSpec,
    slot: Slot,
    census: &Census,
) -> Option<usize> {
    if let Slot::Node(node) = slot {
        let index = index_of(boards, node)?;
        return is_fit(&boards[index], service, spec, slot, &census.alive[index]).then_some(index);
    }
    let spread = rank::spread(boards, &spec.placement, &census.claims);
    (0..boards.len())
        .filter(|index| is_fit(&boards[*index], service, spec, slot, &census.alive[*index]))
        .min_by_key(|index| spread.key(*index, boards, census))
}

/// Whether a board can take a task.
pub(crate) fn is_fit(
    board: &Board<'_>,
    service: &Service,
    spec: &TaskSpec,
    slot: Slot,
    alive: &[Slot],
) -> bool {
    filter::refusal(board, service, spec, slot, alive).is_none()
}

#[cfg(test)]
mod tests;
