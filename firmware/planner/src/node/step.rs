//! The next step of one task: at most one action.

use std::time::Duration;

use bramble_cluster::{
    AssignedTask, DesiredState, OnPartition, TaskId, TaskSpec, TaskState, Timestamp,
};

use super::{
    GRACE_PERIOD_DEFAULT, KILL_AGAIN_AFTER, NodeAction, ObservedTask, Phase, Planning, StopReason,
};
use crate::timing::{CUT_OFF_AFTER, CUT_OFF_KILL_AFTER};

/// Where a task should get to, as far as this board is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Goal {
    /// It runs, or has run.
    Run,
    /// What has started runs on; nothing else starts yet.
    Wait,
    /// It does not run; what is left of it stays, for its log.
    End,
    /// Nothing is left of it.
    Go,
}

impl Planning<'_> {
    /// Plans the next step of a task that was ordered, or that nobody orders any more.
    pub(super) fn step(&mut self, id: TaskId, order: Option<&AssignedTask>, task: &ObservedTask) {
        let spec = order.map(|order| &*order.spec).or(task.spec.as_deref());
        let goal = self.goal(order, task);
        match &task.phase {
            Phase::Nothing if goal == Goal::Run => self.act(NodeAction::Prepare(id)),
            Phase::Prepared { .. } if goal == Goal::Run => self.act(NodeAction::Start(id)),
            Phase::Preparing { .. } | Phase::Prepared { .. } if goal >= Goal::End => {
                self.act(NodeAction::Remove(id));
            }
            Phase::Refused { .. } | Phase::Failed { .. } | Phase::Ended { .. }
                if goal == Goal::Go =>
            {
                self.act(NodeAction::Remove(id));
            }
            Phase::Running { .. } if goal >= Goal::End => {
                self.act(signal(id, spec, StopReason::Ordered));
            }
            _ => self.stop_if_cut_off(id, spec, &task.phase),
        }
    }

    fn goal(&self, order: Option<&AssignedTask>, task: &ObservedTask) -> Goal {
        let Some(order) = order else {
            // It may come from a leader of the past, to a daemon that does not remember a newer one.
            return if self.is_cut_off() { Goal::Wait } else { Goal::Go };
        };
        // What the cluster counts as ended has perhaps been replaced already; what it saw start and is
        // gone from here was lost, and a task runs only once.
        let has_ended = order.status.state.is_terminal();
        let is_lost = order.status.state >= TaskState::Starting && task.phase == Phase::Nothing;
        if order.desired != DesiredState::Running || has_ended || is_lost {
            Goal::End
        } else if order.is_withheld || self.is_cut_off() {
            Goal::Wait
        } else {
            Goal::Run
        }
    }

    /// Plans what needs no word of the leader: a stop that was begun is ended, and tasks that must
    /// not run twice stop when the board is cut off.
    pub(super) fn stop_if_cut_off(&mut self, id: TaskId, spec: Option<&TaskSpec>, phase: &Phase) {
        let is_bound = spec.is_some_and(|spec| spec.on_partition == OnPartition::Stop);
        match phase {
            Phase::Running { .. } if is_bound && self.has_come(self.cut_off_at()) => {
                self.act(signal(id, spec, StopReason::CutOff));
            }
            Phase::Starting { since } if is_bound && self.has_come(self.kill_at(*since)) => {
                self.act(NodeAction::Kill { id, reason: StopReason::CutOff });
            }
            Phase::Stopping { signalled_at, killed_at, reason, .. } => {
                let mut deadline = match killed_at {
                    Some(killed_at) => *killed_at + KILL_AGAIN_AFTER,
                    None => *signalled_at + grace_period(spec),
                };
                if is_bound && killed_at.is_none() {
                    deadline = deadline.min(self.kill_at(*signalled_at));
                }
                if self.has_come(deadline) {
                    self.act(NodeAction::Kill { id, reason: *reason });
                }
            }
            _ => {}
        }
    }

    fn is_cut_off(&self) -> bool {
        self.now >= self.cut_off_at()
    }

    /// When the board counts itself as cut off, if it is not confirmed again before.
    fn cut_off_at(&self) -> Timestamp {
        self.observed.confirmed_at.map_or(self.now, |confirmed_at| confirmed_at + CUT_OFF_AFTER)
    }

    /// When a task that must not run twice is killed, if the board is not confirmed again before.
    fn kill_at(&self, begun_at: Timestamp) -> Timestamp {
        const PATIENCE: Duration =
            CUT_OFF_KILL_AFTER.checked_sub(CUT_OFF_AFTER).expect("the kill comes after the signal");
        match self.observed.confirmed_at {
            Some(confirmed_at) => confirmed_at + CUT_OFF_KILL_AFTER,
            None => begun_at + PATIENCE,
        }
    }
}

fn signal(id: TaskId, spec: Option<&TaskSpec>, reason: StopReason) -> NodeAction {
    let signal = spec.map(|spec| spec.container.stop_signal.clone()).unwrap_or_default();
    NodeAction::Signal { id, signal, reason }
}

fn grace_period(spec: Option<&TaskSpec>) -> Duration {
    spec.and_then(|spec| spec.container.stop_grace_period).unwrap_or(GRACE_PERIOD_DEFAULT)
}
