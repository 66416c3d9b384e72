//! **A task starts once.** Until its board loses power no container of a task comes alive a second
//! time, whatever became of the first and of the reports about it: those may still be on their way.

use std::collections::BTreeSet;

use bramble_cluster::TaskId;

use super::{Verdict, broken};
use crate::simulation::board::{Board, Place};

const NAME: &str = "task_starts_once";

/// What has started, and in which life of its board.
#[derive(Debug, Default)]
pub(super) struct Starts(BTreeSet<(Place, u64, TaskId)>);

impl Starts {
    /// `task` just came alive at `place`.
    pub(super) fn check(&mut self, boards: &[Board], place: Place, task: TaskId) -> Verdict {
        if self.0.insert((place, boards[place].power_life, task)) {
            return Ok(());
        }
        broken(NAME, format!("{task} comes alive a second time on board {place}"))
    }
}
