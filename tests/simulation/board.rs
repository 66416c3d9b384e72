//! A simulated board: its power, its cable, its containers, and the agent that asks `plan_node`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bramble_cluster::{
    Assignment, ClusterState, NodeId, Resources, ServiceId, Slot, TaskId, TaskReport, TaskSpec,
    TaskState, Timestamp,
};
use bramble_planner::{
    node::{NodeAction, Observed, ObservedTask, Phase, Reported, StopReason, is_newer},
    plan_node,
};

use super::{
    random::Random,
    temper::{Temper, Tempers},
};

/// A board, by its place in the rack.
pub(super) type Place = usize;

/// A board of the rack. Its id changes if its card is replaced.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) id: NodeId,
    pub(super) resources: Resources,
    /// How far its clock is ahead, in milliseconds.
    pub(super) skew: u64,
    pub(super) is_powered: bool,
    /// Whether its daemon runs (it needs power for that).
    pub(super) is_up: bool,
    /// Boards hear each other if they are on the same side.
    pub(super) side: u32,
    /// Counts power failures: no process survives one.
    pub(super) power_life: u64,
    /// Counts the lives of the daemon: nothing that it had begun survives it, but what the keeper
    /// does for it.
    pub(super) daemon_life: u64,
    pub(super) agent: Agent,
    /// What its keeper holds.
    pub(super) containers: BTreeMap<TaskId, Container>,
    /// The replicated state, while it votes. It survives the loss of power.
    pub(super) replica: Option<Replica>,
    /// When the agent looks next.
    pub(super) wake_at: Option<u64>,
}

/// What the agent process remembers.
#[derive(Debug, Default)]
pub(super) struct Agent {
    pub(super) assignment: Arc<Assignment>,
    pub(super) observed: Observed,
    pub(super) session: Option<Session>,
    /// When it was last confirmed by the quorum, by the time of the world.
    pub(super) confirmed_at: Option<u64>,
}

/// A session, as the board sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) term: u64,
    pub(super) number: u64,
    pub(super) opened_at: u64,
}

/// A replica of the state.
#[derive(Debug, Clone)]
pub(super) struct Replica {
    pub(super) state: ClusterState,
    /// Whether it will look for new entries anyway.
    pub(super) is_applying: bool,
}

/// A container, whatever the agent knows of it.
#[derive(Debug, Clone)]
pub(super) struct Container {
    pub(super) service: ServiceId,
    pub(super) slot: Slot,
    pub(super) spec: Arc<TaskSpec>,
    pub(super) temper: Temper,
    pub(super) process: Process,
}

/// What a container's process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Process {
    Starting { since: u64 },
    Live { since: u64 },
    Ended { exit_code: i32, at: u64 },
}

/// Something that ends later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Prepared { is_refused: bool },
    Started { is_failed: bool },
    Ended { exit_code: i32 },
    Crashed { exit_code: i32 },
    Removed,
}

/// What a round of the agent came to.
#[derive(Debug)]
pub(super) struct Round {
    /// For the leader.
    pub(super) reports: Vec<TaskReport>,
    /// What ends when.
    pub(super) effects: Vec<(u64, TaskId, Effect)>,
    /// When to look again.
    pub(super) wake_at: Option<u64>,
}

impl Board {
    pub(super) fn clock(&self, now: u64) -> Timestamp {
        Timestamp::from_millis(now + self.skew)
    }

    pub(super) fn hears(&self, other: &Self) -> bool {
        self.is_up && other.is_up && self.side == other.side
    }

    pub(super) fn is_live(&self, task: TaskId) -> bool {
        let process = self.containers.get(&task).map(|container| container.process);
        matches!(process, Some(Process::Live { .. }))
    }

    /// Takes over an assignment unless it is older than the current one.
    pub(super) fn accept(&mut self, offered: &Arc<Assignment>) -> bool {
        let is_accepted = is_newer(offered.generation, self.agent.assignment.generation);
        if is_accepted {
            self.agent.assignment = Arc::clone(offered);
            // Nothing is known of these and nobody asks for them.
            let is_named = |id: &TaskId| offered.tasks.iter().any(|task| task.id == *id);
            let tasks = &mut self.agent.observed.tasks;
            tasks.retain(|id, task| task.phase != Phase::Nothing || is_named(id));
        }
        is_accepted
    }

    /// A new daemon finds again what the keeper holds. Whether the crash left its record of the
    /// leader's last word readable is a matter of chance.
    pub(super) fn start_daemon(&mut self, has_record: bool) {
        self.is_up = true;
        let old = std::mem::take(&mut self.agent);
        if has_record {
            self.agent.confirmed_at = old.confirmed_at;
            self.agent.assignment = old.assignment;
        }
        let skew = self.skew;
        let clock = |at: u64| Timestamp::from_millis(at + skew);
        for (id, container) in &self.containers {
            let phase = match container.process {
                Process::Starting { since } => Phase::Starting { since: clock(since) },
                Process::Live { since } => Phase::Running { pid: 1, started_at: clock(since) },
                Process::Ended { exit_code, at } => Phase::Ended {
                    exit_code,
                    is_out_of_memory: false,
                    at: clock(at),
                    stopped_for: None,
                },
            };
            let spec = Some(Arc::clone(&container.spec));
            self.agent.observed.tasks.insert(*id, ObservedTask { phase, reported: None, spec });
        }
    }

    /// One round of the agent: look, plan, do.
    pub(super) fn round(&mut self, now: u64, random: &mut Random, tempers: Tempers<'_>) -> Round {
        let clock = self.clock(now);
        let skew = Duration::from_millis(self.skew);
        self.agent.observed.confirmed_at =
            self.agent.confirmed_at.map(|at| Timestamp::from_millis(at) + skew);
        let plan = plan_node(&self.agent.assignment, &self.agent.observed, clock);
        let mut effects = Vec::new();
        for action in &plan.actions {
            self.act(action, now, random, tempers, &mut effects);
        }
        for report in &plan.reports {
            let task = self.agent.observed.tasks.entry(report.id).or_default();
            let state = report.status.state;
            task.reported = Some(Reported { state, at: clock, is_acknowledged: false });
        }
        let wake_at = plan.wake_at.map(|at| at.as_millis() - self.skew);
        let wake_at = if plan.actions.is_empty() { wake_at } else { Some(now + 1) };
        Round { reports: plan.reports, effects, wake_at }
    }

    fn act(
        &mut self,
        action: &NodeAction,
        now: u64,
        random: &mut Random,
        tempers: Tempers<'_>,
        effects: &mut Vec<(u64, TaskId, Effect)>,
    ) {
        let clock = self.clock(now);
        let id = action.id();
        let task = self.agent.observed.tasks.entry(id).or_default();
        let temper = self.containers.get(&id).map(|container| container.temper).unwrap_or_default();
        match action {
            NodeAction::Prepare(_) => {
                let order = self.agent.assignment.tasks.iter().find(|task| task.id == id);
                let order = order.expect("only what is assigned is prepared");
                task.spec = Some(Arc::clone(&order.spec));
                task.phase = Phase::Preparing { since: clock };
                let temper = tempers.of(order.service);
                let is_refused = random.percent(temper.refusals_percent);
                let delay = random.wait(temper.preparing);
                effects.push((now + delay, id, Effect::Prepared { is_refused }));
            }
            NodeAction::Start(_) => {
                task.phase = Phase::Starting { since: clock };
                let order = self.agent.assignment.tasks.iter().find(|task| task.id == id);
                let order = order.expect("only what is assigned is started");
                let temper = tempers.of(order.service);
                let container = Container {
                    service: order.service,
                    slot: order.slot,
                    spec: Arc::clone(&order.spec),
                    temper,
                    process: Process::Starting { since: now },
                };
                self.containers.insert(id, container);
                let is_failed = random.percent(temper.refusals_percent);
                effects.push((now + random.between(5, 120), id, Effect::Started { is_failed }));
            }
            NodeAction::Signal { reason, .. } => {
                task.phase = stopping(&task.phase, clock, None, *reason);
                if !temper.is_stubborn {
                    let exit_code = random.pick(&[0, 143]);
                    let delay = random.wait(temper.stopping);
                    effects.push((now + delay, id, Effect::Ended { exit_code }));
                }
            }
            NodeAction::Kill { reason, .. } => {
                task.phase = stopping(&task.phase, clock, Some(clock), *reason);
                effects.push((now + random.between(1, 80), id, Effect::Ended { exit_code: 137 }));
            }
            NodeAction::Remove(_) => {
                task.phase = Phase::Removing;
                effects.push((now + random.between(1, 200), id, Effect::Removed));
            }
        }
    }

    /// What was begun has ended.
    pub(super) fn finish(&mut self, id: TaskId, effect: Effect, now: u64) {
        let clock = self.clock(now);
        match effect {
            Effect::Prepared { is_refused } => {
                let task = self.agent.observed.tasks.entry(id).or_default();
                if matches!(task.phase, Phase::Preparing { .. }) {
                    task.phase = match is_refused {
                        true => Phase::Refused { error: "no such image".into(), at: clock },
                        false => Phase::Prepared { since: clock },
                    };
                }
            }
            Effect::Started { is_failed } => self.finish_start(id, is_failed, now),
            Effect::Ended { exit_code } | Effect::Crashed { exit_code } => {
                self.end(id, exit_code, now);
            }
            Effect::Removed => {
                self.containers.remove(&id);
                self.agent.observed.tasks.remove(&id);
            }
        }
    }

    fn finish_start(&mut self, id: TaskId, is_failed: bool, now: u64) {
        let clock = self.clock(now);
        let Some(container) = self.containers.get_mut(&id) else { return };
        if !matches!(container.process, Process::Starting { .. }) {
            return;
        }
        if is_failed {
            self.containers.remove(&id);
        } else {
            container.process = Process::Live { since: now };
        }
        let Some(task) = self.agent.observed.tasks.get_mut(&id) else { return };
        if matches!(task.phase, Phase::Starting { .. }) {
            task.phase = match is_failed {
                true => Phase::Failed { error: "no such file".into(), at: clock },
                false => Phase::Running { pid: 1, started_at: clock },
            };
        }
    }

    /// A process ends; the keeper knows, and the agent too if there is one.
    fn end(&mut self, id: TaskId, exit_code: i32, now: u64) {
        let at = self.clock(now);
        let Some(container) = self.containers.get_mut(&id) else { return };
        if !matches!(container.process, Process::Starting { .. } | Process::Live { .. }) {
            return;
        }
        container.process = Process::Ended { exit_code, at: now };
        let Some(task) = self.agent.observed.tasks.get_mut(&id) else { return };
        let stopped_for = match task.phase {
            Phase::Stopping { reason, .. } => Some(reason),
            _ => None,
        };
        task.phase = Phase::Ended { exit_code, is_out_of_memory: false, at, stopped_for };
    }

    /// The leader has taken reports.
    pub(super) fn acknowledge(&mut self, taken: &[(TaskId, TaskState)]) {
        for (id, state) in taken {
            let task = self.agent.observed.tasks.get_mut(id);
            let reported = task.and_then(|task| task.reported.as_mut());
            if let Some(reported) = reported.filter(|reported| reported.state == *state) {
                reported.is_acknowledged = true;
            }
        }
    }
}

fn stopping(
    phase: &Phase,
    clock: Timestamp,
    killed_at: Option<Timestamp>,
    reason: StopReason,
) -> Phase {
    match *phase {
        Phase::Running { pid, started_at } => {
            Phase::Stopping { pid, started_at, signalled_at: clock, killed_at, reason }
        }
        Phase::Stopping { pid, started_at, signalled_at, reason, .. } => {
            Phase::Stopping { pid, started_at, signalled_at, killed_at, reason }
        }
        // A start is given up, or not: the effect tells.
        ref other => other.clone(),
    }
}
