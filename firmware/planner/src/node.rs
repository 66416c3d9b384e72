//! What a board does next with its tasks: [`plan_node`], and which orders it takes: [`is_newer`].
//!
//! The agent looks ([`Observed`]), asks [`plan_node`], does what the [`NodePlan`] says and tells the
//! leader its reports. It calls again whenever something changed or at [`NodePlan::wake_at`].
//!
//! Before the first call the agent must have found again what its predecessor left (containers that
//! run or have ended): what is not in [`Observed`] counts as gone. A report that was sent is noted
//! in [`ObservedTask::reported`], or it is planned again at once.
//!
//! # Rules
//! - **Level-triggered.** The plan follows from the assignment, what is observed and the time; what
//!   the agent has begun it must show in [`Observed`] (as [`Phase::Preparing`], [`Phase::Starting`],
//!   [`Phase::Stopping`], [`Phase::Removing`]) before it asks again, or it is told the same again.
//! - **One step per task and call.** At most one action and one report for each.
//! - **A task runs once.** What was started is never started again: a container that was lost with
//!   the board's power has ended, and the orchestrator replaces the task in its slot.
//! - **States only move forward.** Nothing is reported that the cluster already knows or is past.
//! - **What the assignment does not name goes**: stopped, then removed, once the quorum has vouched
//!   for the assignment. Until a first one has come (generation 0), nothing is touched: the board
//!   does not know what it should run.
//! - **What ended stays** until its task leaves the assignment, so that its log can be read.
//! - **What is withheld** does not start; if it has, it runs on, and its reports are told.
//! - **A board cut off from the quorum** starts nothing new, and stops its `on_partition: stop`
//!   tasks: asked to at [`timing::CUT_OFF_AFTER`], killed at [`timing::CUT_OFF_KILL_AFTER`], before the
//!   leader may start them elsewhere ([`timing::DOWN_AFTER`]).
//!
//! [`timing::CUT_OFF_AFTER`]: crate::timing::CUT_OFF_AFTER
//! [`timing::CUT_OFF_KILL_AFTER`]: crate::timing::CUT_OFF_KILL_AFTER
//! [`timing::DOWN_AFTER`]: crate::timing::DOWN_AFTER

mod observed;
mod report;
mod step;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bramble_cluster::{Assignment, Generation, TaskId, TaskReport, Timestamp};

pub use self::observed::{Observed, ObservedTask, Phase, Reported, StopReason};

/// How long a container has between its stop signal and its kill unless its specification says
/// otherwise.
pub const GRACE_PERIOD_DEFAULT: Duration = Duration::from_secs(10);

/// A container that has not ended this long after its kill is killed again.
pub const KILL_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A report that was not acknowledged for this long is sent again.
pub const REPORT_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What a board does next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodePlan {
    /// What to do, at most one action for each task, in the order of their ids.
    pub actions: Vec<NodeAction>,
    /// What to tell the leader, at most one report for each task, in the order of their ids.
    pub reports: Vec<TaskReport>,
    /// When to ask again if nothing else happens before.
    pub wake_at: Option<Timestamp>,
}

/// One thing to do with one task's container. The agent begins it and does not wait for its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeAction {
    /// Fetch the image and make the container's file system. Then [`Phase::Preparing`], and in the
    /// end [`Phase::Prepared`] or [`Phase::Refused`].
    Prepare(TaskId),
    /// Create the container and start its process. Then [`Phase::Starting`], and in the end
    /// [`Phase::Running`] or [`Phase::Failed`].
    Start(TaskId),
    /// Ask the container to stop. Then [`Phase::Stopping`].
    Signal {
        /// Whose.
        id: TaskId,
        /// The signal by the specification, `SIGTERM` or a number; empty takes the image's, and
        /// SIGTERM if that names none.
        signal: String,
        /// Why.
        reason: StopReason,
    },
    /// End the container at once. Then [`Phase::Stopping`] with `killed_at`. Of a container that is
    /// only starting: it must not start; the phase stays until that is decided.
    Kill {
        /// Whose.
        id: TaskId,
        /// Why, for [`Phase::Stopping`] if it was not asked to stop before.
        reason: StopReason,
    },
    /// Give up a preparation in flight, or take away everything that is left: container, file
    /// system, log. Then [`Phase::Removing`], and in the end [`Phase::Nothing`].
    Remove(TaskId),
}

impl NodeAction {
    /// Which task it is about.
    pub const fn id(&self) -> TaskId {
        match self {
            Self::Prepare(id) | Self::Start(id) | Self::Remove(id) => *id,
            Self::Signal { id, .. } | Self::Kill { id, .. } => *id,
        }
    }
}

/// Whether an assignment that was `offered` may take the place of the `current` one.
///
/// Older ones come from deposed leaders or overtook each other on the way; they are refused. An
/// equal one says the same again, perhaps with newer addresses of the images' holders.
pub fn is_newer(offered: Generation, current: Generation) -> bool {
    offered >= current
}

/// What a board does next. See the module's rules.
pub fn plan_node(assignment: &Assignment, observed: &Observed, now: Timestamp) -> NodePlan {
    let mut planning = Planning { observed, now, plan: NodePlan::default() };
    let is_assigned = assignment.generation != Generation::default();
    let orders: BTreeMap<_, _> = assignment.tasks.iter().map(|task| (task.id, task)).collect();
    let nothing = ObservedTask::default();

    for id in orders.keys().chain(observed.tasks.keys()).copied().collect::<BTreeSet<_>>() {
        let task = observed.tasks.get(&id).unwrap_or(&nothing);
        let order = orders.get(&id).copied();
        if is_assigned {
            planning.step(id, order, task);
        } else {
            planning.stop_if_cut_off(id, task.spec.as_deref(), &task.phase);
        }
        if let Some(order) = order {
            planning.report(order, task);
        }
    }
    planning.plan
}

/// A plan in the making.
struct Planning<'a> {
    observed: &'a Observed,
    now: Timestamp,
    plan: NodePlan,
}

impl Planning<'_> {
    fn act(&mut self, action: NodeAction) {
        self.plan.actions.push(action);
    }

    /// Whether `instant` has come; if not, the agent is woken then.
    fn has_come(&mut self, instant: Timestamp) -> bool {
        let has_come = self.now >= instant;
        if !has_come {
            self.wake_at(instant);
        }
        has_come
    }

    fn wake_at(&mut self, instant: Timestamp) {
        self.plan.wake_at = Some(self.plan.wake_at.map_or(instant, |other| other.min(instant)));
    }
}

#[cfg(test)]
mod tests;
