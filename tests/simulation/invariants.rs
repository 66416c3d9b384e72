//! What must hold in the simulated world, one file each. The first breach ends the run.

pub(super) mod converged_plan_is_empty;
pub(super) mod drained_node_becomes_empty;
pub(super) mod healed_cluster_converges;
pub(super) mod no_node_over_capacity;
pub(super) mod replicas_agree;
pub(super) mod rollout_respects_its_limit;
pub(super) mod stale_generation_ignored;
pub(super) mod task_never_runs_on_two_nodes;
pub(super) mod task_starts_once;
pub(super) mod task_state_never_goes_back;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bramble_cluster::{
    ClusterState, ConstraintOperator, DesiredState, Generation, Node, NodeId, Placement, Task,
    TaskId, TaskState, Version,
};

use self::{
    rollout_respects_its_limit::Rollouts, stale_generation_ignored::Generations,
    task_never_runs_on_two_nodes::Exclusive, task_starts_once::Starts,
};
use super::board::{Board, Place};

/// An invariant is broken.
#[derive(Debug, Clone)]
pub struct Breach {
    /// Which: the name of its file.
    pub invariant: &'static str,
    /// How.
    pub text: String,
}

/// Whether all is well.
pub(super) type Verdict = Result<(), Breach>;

pub(super) fn broken(invariant: &'static str, text: String) -> Verdict {
    Err(Breach { invariant, text })
}

/// A second opinion on the scheduler's constraints.
pub(super) fn meets(node: &Node, placement: &Placement) -> bool {
    placement.constraints.iter().all(|constraint| {
        assert_eq!(constraint.attribute, "node.labels.room", "people ask for nothing else");
        let is_equal = node.spec.labels.get("room").is_some_and(|room| *room == constraint.value);
        is_equal == (constraint.operator == ConstraintOperator::Equal)
    })
}

/// What of a task was true before an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Past {
    pub(super) version: Version,
    pub(super) state: TaskState,
    pub(super) desired: DesiredState,
    pub(super) node: Option<NodeId>,
}

/// What is known of an entry besides its commands.
#[derive(Debug, Default)]
pub(super) struct Committed {
    /// The boards that have said goodbye to the leader.
    pub(super) leaving: BTreeSet<NodeId>,
    /// The version that it was planned against, if it was planned.
    pub(super) planned_at: Option<Version>,
    /// Whether none of it was rejected.
    pub(super) is_whole: bool,
}

/// A task that an entry has created or changed, and what was true of it before.
#[derive(Debug)]
pub(super) struct Change<'a> {
    pub(super) task: &'a Arc<Task>,
    pub(super) past: Option<Past>,
}

/// Watches over the world.
#[derive(Debug, Default)]
pub(super) struct Judges {
    pasts: BTreeMap<TaskId, Past>,
    forgotten: BTreeMap<TaskId, Past>,
    rollouts: Rollouts,
    exclusive: Exclusive,
    generations: Generations,
    starts: Starts,
    /// Checks made so far.
    pub(super) checks: u64,
}

impl Judges {
    /// An entry was committed; this is what it made of the state.
    pub(super) fn committed(&mut self, state: &ClusterState, entry: &Committed) -> Verdict {
        self.checks += 1;
        let mut changes = Vec::new();
        for task in state.tasks().values() {
            let past = self.pasts.get(&task.id).copied();
            if past.is_none_or(|past| past.version != task.version) {
                changes.push(Change { task, past });
            }
        }
        for change in &changes {
            let forgotten = self.forgotten.get(&change.task.id);
            task_state_never_goes_back::check(change, forgotten)?;
        }
        self.exclusive.note(state, &changes);
        self.rollouts.check(state, entry, &self.pasts, &changes)?;
        if !changes.is_empty() {
            no_node_over_capacity::check(state)?;
        }
        for change in changes {
            let task = change.task;
            let (version, desired) = (task.version, task.desired);
            let past = Past { version, state: task.status.state, desired, node: task.node };
            self.pasts.insert(task.id, past);
        }
        if self.pasts.len() > state.tasks().len() {
            let forgotten = self.pasts.extract_if(.., |id, _| !state.tasks().contains_key(id));
            self.forgotten.extend(forgotten);
        }
        Ok(())
    }

    /// A replica has caught up with the leader's.
    pub(super) fn followed(&mut self, replica: &ClusterState, leader: &ClusterState) -> Verdict {
        self.checks += 1;
        replicas_agree::check(replica, leader)
    }

    /// A container came alive.
    pub(super) fn started(&mut self, boards: &[Board], place: Place, task: TaskId) -> Verdict {
        self.checks += 1;
        self.starts.check(boards, place, task)?;
        self.exclusive.check(boards, place, task)
    }

    /// A board took over an assignment.
    pub(super) fn accepted(
        &mut self,
        place: Place,
        life: (u64, u64),
        generation: Generation,
    ) -> Verdict {
        self.checks += 1;
        self.generations.check(place, life, generation)
    }
}
