//! **A roll-out respects its limit.** At no time does it have more than `parallelism` slots in
//! transition. A slot is in transition
//! - from when a roll-out asks its running task to stop and nothing else runs in it, or from when it
//!   creates a new task beside a running one,
//! - until the new task runs or has ended, or is given up so that the old one goes on alone, or the
//!   slot is filled anew because a board was lost, or it is scaled away, or its board is not there
//!   (each slot of a global service belongs to one).
//!
//! A plan that was under way when a person asked for another roll-out, or changed a board that the
//! plan judged, counts for nothing.
//! Tasks that stop for other reasons (scaling, draining, leaving, changed labels) do not count.

use std::collections::{BTreeMap, BTreeSet};

use bramble_cluster::{
    Availability, ClusterState, DesiredState, NodeState, Service, ServiceId, Slot, Task, TaskCause,
    TaskId, TaskState, UpdateConfig, UpdateState, Version,
};

use super::{Change, Committed, Past, Verdict, broken, meets};

const NAME: &str = "rollout_respects_its_limit";

/// The slots in transition of each roll-out.
#[derive(Debug, Default)]
pub(super) struct Rollouts(BTreeMap<ServiceId, (Version, BTreeSet<Slot>)>);

impl Rollouts {
    pub(super) fn check(
        &mut self,
        state: &ClusterState,
        entry: &Committed,
        pasts: &BTreeMap<TaskId, Past>,
        changes: &[Change<'_>],
    ) -> Verdict {
        if self.0.len() > state.services().len() {
            self.0.retain(|id, _| state.service(*id).is_some());
        }
        for service in state.services().values() {
            let Some(config) = rolling(service) else {
                self.0.remove(&service.id);
                continue;
            };
            let (version, moving) = self.0.entry(service.id).or_default();
            if *version != service.spec_version {
                *version = service.spec_version;
                moving.clear();
            }
            moving.retain(|slot| !is_settled(state, service, *slot));
            let ours = changes.iter().filter(|change| change.task.service == service.id);
            moving.extend(
                ours.filter(|change| begins(state, service, pasts, change))
                    .filter(|change| {
                        change.task.node.is_none_or(|node| !entry.leaving.contains(&node))
                    })
                    .filter(|_| entry.is_whole)
                    .filter(|_| entry.planned_at.is_none_or(|at| at >= service.spec_version))
                    .map(|change| change.task.slot)
                    .filter(|slot| !is_settled(state, service, *slot)),
            );
            let limit = usize::try_from(config.parallelism).unwrap_or(usize::MAX);
            if limit > 0 && moving.len() > limit {
                let name = &service.spec.name;
                let text = format!("{name} changes slots {moving:?} at once, {limit} is the limit");
                return broken(NAME, text);
            }
        }
        Ok(())
    }
}

fn rolling(service: &Service) -> Option<&UpdateConfig> {
    match service.update_status.as_ref()?.state {
        UpdateState::Updating => Some(&service.spec.update),
        UpdateState::RollbackStarted => Some(&service.spec.rollback),
        _ => None,
    }
}

fn claims<'a>(
    state: &'a ClusterState,
    service: &Service,
    slot: Slot,
) -> impl Iterator<Item = &'a Task> {
    let tasks = state.tasks_of(service.id).map(AsRef::as_ref);
    tasks.filter(move |task| task.slot == slot && task.desired == DesiredState::Running)
}

/// Whether a slot is no longer in transition.
fn is_settled(state: &ClusterState, service: &Service, slot: Slot) -> bool {
    if let Slot::Node(id) = slot
        && state.node(id).is_none_or(|node| node.status.state != NodeState::Ready)
    {
        return true;
    }
    let is_kept = |task: &Task| task.slot == slot && task.desired != DesiredState::Remove;
    if !state.tasks_of(service.id).any(|task| is_kept(task)) {
        return true;
    }
    let claims: Vec<&Task> = claims(state, service, slot).collect();
    let is_at_rest = |task: &&Task| task.status.state >= TaskState::Running;
    let has_moved_on = |task: &&Task| {
        let is_new = task.spec_version == service.spec_version;
        (is_new && (is_at_rest(task) || task.cause == TaskCause::Moved)) || !is_served(state, task)
    };
    let is_given_up = !claims.is_empty() && claims.iter().all(is_at_rest);
    is_given_up || claims.iter().any(has_moved_on)
}

/// Whether a roll-out puts the slot of this change into transition.
fn begins(
    state: &ClusterState,
    service: &Service,
    pasts: &BTreeMap<TaskId, Past>,
    change: &Change<'_>,
) -> bool {
    let task = change.task;
    let ran = |id: &TaskId| pasts.get(id).is_some_and(|past| past.state == TaskState::Running);
    match change.past {
        // A new task beside a running one.
        None => {
            task.cause == TaskCause::Updated
                && task.spec_version == service.spec_version
                && claims(state, service, task.slot)
                    .any(|other| other.id != task.id && ran(&other.id))
        }
        // A running task is asked to stop, and nothing else is meant to run in its place.
        Some(past) => {
            past.desired == DesiredState::Running
                && task.desired == DesiredState::Shutdown
                && past.state == TaskState::Running
                && task.spec_version != service.spec_version
                && is_served(state, task)
                && claims(state, service, task.slot).all(|other| other.cause == TaskCause::Updated)
                && !claims(state, service, task.slot).any(|other| ran(&other.id))
        }
    }
}

/// Whether the task's board is there and may keep it.
fn is_served(state: &ClusterState, task: &Task) -> bool {
    let Some(id) = task.node else { return true };
    state.node(id).is_some_and(|node| {
        node.status.state == NodeState::Ready
            && node.spec.availability != Availability::Drain
            && meets(node, &task.spec.placement)
    })
}
