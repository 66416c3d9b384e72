//! What this board has in hand: how far each task is, between what the keeper says of its containers
//! and what the agent itself has begun. Pure; the planner sees it as [`Observed`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bramble_cluster::{Assignment, TaskId, TaskReport, TaskSpec, Timestamp};
use bramble_containers::{ContainerState, Containers};
use bramble_planner::node::{Observed, ObservedTask, Phase, Reported, StopReason};

/// What the board has in hand.
#[derive(Debug, Default)]
pub(crate) struct Work {
    tasks: BTreeMap<TaskId, InHand>,
}

/// What is known of a task beyond its container.
#[derive(Debug, Clone, Default)]
struct InHand {
    step: Step,
    stop: Option<Stop>,
    reported: Option<Reported>,
    spec: Option<Arc<TaskSpec>>,
    /// Whether what its container no longer needs was given back after its end.
    is_released: bool,
}

/// What the agent has begun, or what came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing; or the keeper has it.
    #[default]
    None,
    /// Its file system is being made.
    Preparing { since: Timestamp },
    /// It may start.
    Prepared { since: Timestamp },
    /// It could not be prepared.
    Refused { error: String, at: Timestamp },
    /// The keeper was asked to start it.
    Starting { since: Timestamp },
    /// The keeper did not start it.
    Failed { error: String, at: Timestamp },
    /// It is being taken away.
    Removing,
}

/// A stop that was asked for.
#[derive(Debug, Clone, Copy)]
struct Stop {
    signalled_at: Timestamp,
    killed_at: Option<Timestamp>,
    reason: StopReason,
}

impl Work {
    /// Takes over what an assignment says of the tasks. Tasks that are neither in it nor here in
    /// any form are forgotten.
    pub(crate) fn know(&mut self, assignment: &Assignment, containers: &Containers) {
        for task in &assignment.tasks {
            self.tasks.entry(task.id).or_default().spec = Some(Arc::clone(&task.spec));
        }
        let assigned: BTreeSet<TaskId> = assignment.tasks.iter().map(|task| task.id).collect();
        self.tasks.retain(|id, task| {
            assigned.contains(id) || containers.contains_key(id) || task.step != Step::None
        });
    }

    /// What the planner gets to see. Instants of the keeper's clock are read through `board_time`.
    pub(crate) fn observed(
        &self,
        containers: &Containers,
        confirmed_at: Option<Timestamp>,
        board_time: impl Fn(Timestamp) -> Timestamp,
    ) -> Observed {
        let ids: BTreeSet<TaskId> = self.tasks.keys().chain(containers.keys()).copied().collect();
        let nothing = InHand::default();
        let observe = |id: TaskId| {
            let task = self.tasks.get(&id).unwrap_or(&nothing);
            let state = containers.get(&id).map(|status| &status.state);
            let phase = phase(task, state, &board_time);
            (id, ObservedTask { phase, reported: task.reported, spec: task.spec.clone() })
        };
        Observed { tasks: ids.into_iter().map(observe).collect(), confirmed_at }
    }

    /// A step was begun or has ended.
    pub(crate) fn set(&mut self, id: TaskId, step: Step) {
        self.tasks.entry(id).or_default().step = step;
    }

    /// How far the agent itself is with a task.
    pub(crate) fn step(&self, id: TaskId) -> &Step {
        self.tasks.get(&id).map_or(&Step::None, |task| &task.step)
    }

    /// A task's container was asked to stop.
    pub(crate) fn signalled(&mut self, id: TaskId, reason: StopReason, now: Timestamp) {
        let stop = Stop { signalled_at: now, killed_at: None, reason };
        self.tasks.entry(id).or_default().stop.get_or_insert(stop);
    }

    /// A task's container was killed.
    pub(crate) fn killed(&mut self, id: TaskId, reason: StopReason, now: Timestamp) {
        self.signalled(id, reason, now);
        if let Some(stop) = self.tasks.get_mut(&id).and_then(|task| task.stop.as_mut()) {
            stop.killed_at = Some(now);
        }
    }

    /// When a task's container was last killed.
    pub(crate) fn killed_at(&self, id: TaskId) -> Option<Timestamp> {
        self.tasks.get(&id)?.stop?.killed_at
    }

    /// Nothing is left of a task.
    pub(crate) fn removed(&mut self, id: TaskId) {
        self.tasks.remove(&id);
    }

    /// A report is on its way, and the outbox will see that it arrives.
    pub(crate) fn reported(&mut self, report: &TaskReport, now: Timestamp) {
        let reported = Reported { state: report.status.state, at: now, is_acknowledged: true };
        self.tasks.entry(report.id).or_default().reported = Some(reported);
    }

    /// A session began: what was reported in an earlier one is judged by the new assignment.
    pub(crate) fn forget_reports(&mut self) {
        self.tasks.values_mut().for_each(|task| task.reported = None);
    }

    /// The tasks whose containers have ended since this was last asked: what they no longer need
    /// can be given back. Their logs stay.
    pub(crate) fn newly_ended(&mut self, containers: &Containers) -> Vec<TaskId> {
        let mut ended = Vec::new();
        for (id, status) in containers.iter() {
            let has_ended = matches!(
                status.state,
                ContainerState::Exited(_) | ContainerState::NotStarted { .. }
            );
            let task = self.tasks.entry(*id).or_default();
            if has_ended && !task.is_released && task.step != Step::Removing {
                task.is_released = true;
                ended.push(*id);
            }
        }
        ended
    }
}

/// How far a task is. What is being removed is that, whatever the keeper still says; otherwise the
/// keeper's word on a container comes before the agent's memory of having asked for it.
fn phase(
    task: &InHand,
    container: Option<&ContainerState>,
    board_time: impl Fn(Timestamp) -> Timestamp,
) -> Phase {
    if task.step == Step::Removing {
        return Phase::Removing;
    }
    match (container, &task.step) {
        (Some(ContainerState::Starting), Step::Starting { since }) => {
            Phase::Starting { since: *since }
        }
        (Some(ContainerState::Starting), _) => Phase::Starting { since: Timestamp::default() },
        (Some(ContainerState::Running { pid, since }), _) => {
            let (pid, started_at) = (*pid, board_time(*since));
            match task.stop {
                Some(Stop { signalled_at, killed_at, reason }) => {
                    Phase::Stopping { pid, started_at, signalled_at, killed_at, reason }
                }
                None => Phase::Running { pid, started_at },
            }
        }
        (Some(ContainerState::Exited(exit)), _) => Phase::Ended {
            exit_code: exit.code,
            is_out_of_memory: exit.is_out_of_memory,
            at: board_time(exit.at),
            stopped_for: task.stop.map(|stop| stop.reason),
        },
        (Some(ContainerState::NotStarted { reason, at }), _) => {
            Phase::Failed { error: reason.clone(), at: board_time(*at) }
        }
        (None, step) => match step.clone() {
            Step::None => Phase::Nothing,
            Step::Preparing { since } => Phase::Preparing { since },
            Step::Prepared { since } => Phase::Prepared { since },
            Step::Refused { error, at } => Phase::Refused { error, at },
            Step::Starting { since } => Phase::Starting { since },
            Step::Failed { error, at } => Phase::Failed { error, at },
            Step::Removing => Phase::Removing,
        },
    }
}

#[cfg(test)]
mod tests;
