//! **A task never runs on two nodes.** Of containers that are alive at the same instant:
//! - no two are of the same task;
//! - no two are of the same slot of a service that says `on_partition: stop` and updates stop-first:
//!   what must not run twice has stopped before the leader starts another, whoever is cut off;
//!   only a task created while the service updated start-first may run beside another.
//!
//! Slots of other services may be filled twice: on purpose for a moment (start-first), and by boards
//! that are cut off for as long as they are.

use std::collections::BTreeSet;

use bramble_cluster::{ClusterState, OnPartition, TaskId, UpdateOrder};

use super::{Change, Verdict, broken};
use crate::simulation::board::{Board, Place, Process};

const NAME: &str = "task_never_runs_on_two_nodes";

/// The tasks that were created to be alone in their slot.
#[derive(Debug, Default)]
pub(super) struct Exclusive(BTreeSet<TaskId>);

impl Exclusive {
    pub(super) fn note(&mut self, state: &ClusterState, changes: &[Change<'_>]) {
        for change in changes.iter().filter(|change| change.past.is_none()) {
            let Some(service) = state.service(change.task.service) else { continue };
            if service.spec.update.order == UpdateOrder::StopFirst
                && change.task.spec.on_partition == OnPartition::Stop
            {
                self.0.insert(change.task.id);
            }
        }
    }

    /// `task` just came alive at `place`.
    pub(super) fn check(&self, boards: &[Board], place: Place, task: TaskId) -> Verdict {
        let started = &boards[place].containers[&task];
        for (other_place, board) in boards.iter().enumerate() {
            for (id, container) in &board.containers {
                let is_live = matches!(container.process, Process::Live { .. });
                if !is_live || (other_place, *id) == (place, task) {
                    continue;
                }
                if *id == task {
                    let text = format!("{task} is alive on boards {place} and {other_place}");
                    return broken(NAME, text);
                }
                let is_bound = container.spec.on_partition == OnPartition::Stop
                    && started.spec.on_partition == OnPartition::Stop;
                let is_same_slot =
                    (container.service, container.slot) == (started.service, started.slot);
                if !is_bound || !is_same_slot || place == other_place {
                    continue;
                }
                if self.0.contains(&task) {
                    return broken(
                        NAME,
                        format!(
                            "{task} starts on board {place} while {id} of the same slot is alive on \
                         board {other_place}, and must not run twice"
                        ),
                    );
                }
            }
        }
        Ok(())
    }
}
