//! Properties of whole runs: a simulated board does what it is told, while orders change, time
//! passes, containers end and the quorum comes and goes.

use std::collections::BTreeMap;

use bramble_cluster::{AssignedTask, Assignment, DesiredState, Generation, OnPartition, TaskId};
use bramble_cluster::{TaskState, Timestamp, Version};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};

use super::super::{NodeAction, Observed, Phase, Reported, plan_node};
use super::{NOW, id, millis, order, spec};
use crate::timing::{CUT_OFF_AFTER, DOWN_AFTER};

/// What happens to the board, one after the other.
#[derive(Debug, Clone)]
enum Event {
    /// The leader wants a task to run.
    Want(u128),
    /// The leader wants a task to stop.
    Unwant(u128),
    /// The leader forgets a task.
    Forget(u128),
    /// A container ends by itself.
    Exit(u128, i32),
    /// Time passes, and the quorum is heard or not.
    Pass { milliseconds: u64, is_confirmed: bool },
    /// The reports so far arrive.
    Acknowledge,
    /// The agent is killed; containers live on.
    Crash,
    /// The power fails.
    PowerLoss,
}

fn event() -> impl Strategy<Value = Event> {
    let task = 0..4u128;
    prop_oneof![
        3 => task.clone().prop_map(Event::Want),
        2 => task.clone().prop_map(Event::Unwant),
        1 => task.clone().prop_map(Event::Forget),
        1 => (task, 0..3).prop_map(|(task, code)| Event::Exit(task, code)),
        8 => (1..2_000u64, any::<bool>())
            .prop_map(|(milliseconds, is_confirmed)| Event::Pass { milliseconds, is_confirmed }),
        3 => Just(Event::Acknowledge),
        1 => Just(Event::Crash),
        1 => Just(Event::PowerLoss),
    ]
}

struct Board {
    now: Timestamp,
    /// Even tasks must not run twice.
    orders: BTreeMap<TaskId, AssignedTask>,
    wanted: BTreeMap<u128, u128>,
    drawn: u128,
    observed: Observed,
    starts: BTreeMap<TaskId, u32>,
}

impl Board {
    fn new() -> Self {
        Self {
            now: NOW,
            orders: BTreeMap::new(),
            wanted: BTreeMap::new(),
            drawn: 0,
            observed: Observed { confirmed_at: Some(NOW), ..Observed::default() },
            starts: BTreeMap::new(),
        }
    }

    fn assignment(&self) -> Assignment {
        Assignment {
            generation: Generation { term: 1, version: Version(1) },
            tasks: self.orders.values().cloned().collect(),
        }
    }

    fn task(&self, place: u128) -> Option<TaskId> {
        self.wanted.get(&place).map(|number| id(*number))
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Want(place) => {
                self.drawn += 1;
                let rule =
                    if place.is_multiple_of(2) { OnPartition::Stop } else { OnPartition::Keep };
                let mut task = order(self.drawn, DesiredState::Running, TaskState::Assigned);
                task.spec = spec(rule);
                self.wanted.insert(place, self.drawn);
                self.orders.insert(task.id, task);
            }
            Event::Unwant(place) => {
                if let Some(order) = self.task(place).and_then(|id| self.orders.get_mut(&id)) {
                    order.desired = DesiredState::Shutdown;
                }
            }
            Event::Forget(place) => {
                self.task(place).and_then(|id| self.orders.remove(&id));
            }
            Event::Exit(place, exit_code) => {
                if let Some(id) = self.task(place) {
                    self.end(id, exit_code);
                }
            }
            Event::Pass { milliseconds, is_confirmed } => {
                let until = self.now + millis(milliseconds);
                while self.now < until {
                    self.now = until.min(self.now + millis(50));
                    if is_confirmed {
                        self.observed.confirmed_at = Some(self.now);
                    }
                    self.settle();
                    self.check();
                }
            }
            Event::Acknowledge => self.acknowledge(),
            Event::Crash => {
                self.observed.confirmed_at = None;
                for task in self.observed.tasks.values_mut() {
                    task.reported = None;
                    if let Phase::Stopping { pid, started_at, .. } = task.phase {
                        task.phase = Phase::Running { pid, started_at };
                    }
                }
            }
            Event::PowerLoss => {
                self.observed = Observed::default();
            }
        }
    }

    fn end(&mut self, id: TaskId, exit_code: i32) {
        let at = self.now;
        let Some(task) = self.observed.tasks.get_mut(&id) else { return };
        let stopped_for = match task.phase {
            Phase::Running { .. } => None,
            Phase::Stopping { reason, .. } => Some(reason),
            _ => return,
        };
        task.phase = Phase::Ended { exit_code, is_out_of_memory: false, at, stopped_for };
    }

    fn acknowledge(&mut self) {
        for (id, task) in &mut self.observed.tasks {
            let (Some(reported), Some(order)) = (&mut task.reported, self.orders.get_mut(id))
            else {
                continue;
            };
            reported.is_acknowledged = true;
            order.status.state = order.status.state.max(reported.state);
        }
    }

    /// Does what the plan says, until there is nothing to do just now.
    fn settle(&mut self) {
        for _ in 0..10 {
            let plan = plan_node(&self.assignment(), &self.observed, self.now);
            let mut ids: Vec<TaskId> = plan.actions.iter().map(NodeAction::id).collect();
            ids.dedup();
            assert_eq!(ids.len(), plan.actions.len(), "more than one step of a task");
            for report in &plan.reports {
                let believed = self.orders[&report.id].status.state;
                assert!(report.status.state > believed, "a report that is not forward");
                let task = self.observed.tasks.entry(report.id).or_default();
                let (state, at) = (report.status.state, self.now);
                task.reported = Some(Reported { state, at, is_acknowledged: false });
            }
            if plan.actions.is_empty() {
                assert!(plan.wake_at.is_none_or(|at| at > self.now), "woken for nothing");
                return;
            }
            for action in plan.actions {
                self.act(action);
            }
        }
        panic!("the board does not come to rest: {:?}", self.observed);
    }

    fn act(&mut self, action: NodeAction) {
        let now = self.now;
        let task = self.observed.tasks.entry(action.id()).or_default();
        match action {
            NodeAction::Prepare(id) => {
                task.spec = Some(self.orders[&id].spec.clone());
                task.phase = Phase::Prepared { since: now };
            }
            NodeAction::Start(id) => {
                let starts = self.starts.entry(id).or_default();
                *starts += 1;
                task.phase = Phase::Running { pid: 1, started_at: now };
            }
            NodeAction::Signal { reason, .. } => {
                let Phase::Running { pid, started_at } = task.phase else {
                    panic!("a signal for {:?}", task.phase)
                };
                let (signalled_at, killed_at) = (now, None);
                task.phase = Phase::Stopping { pid, started_at, signalled_at, killed_at, reason };
            }
            NodeAction::Kill { id, .. } => self.end(id, 137),
            NodeAction::Remove(id) => {
                assert!(!task.phase.is_live(), "a live container is taken away");
                self.observed.tasks.remove(&id);
            }
        }
    }

    fn check(&self) {
        for (id, task) in &self.observed.tasks {
            if !task.phase.is_live() {
                continue;
            }
            let order = self.orders.get(id);
            let is_bound =
                task.spec.as_ref().is_some_and(|spec| spec.on_partition == OnPartition::Stop);
            if let (true, Some(confirmed_at)) = (is_bound, self.observed.confirmed_at) {
                assert!(self.now < confirmed_at + DOWN_AFTER, "runs when it may run elsewhere");
            }
            let is_wanted = order.is_some_and(|order| order.desired == DesiredState::Running);
            let is_stopping = matches!(task.phase, Phase::Stopping { .. });
            let confirmed_at = self.observed.confirmed_at;
            let is_cut_off = confirmed_at.is_none_or(|at| self.now >= at + CUT_OFF_AFTER);
            let is_unsure = order.is_none() && is_cut_off;
            assert!(is_wanted || is_stopping || is_unsure, "{:?} runs unwanted", task.phase);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_board_does_what_it_is_told(events in proptest::collection::vec(event(), 1..60)) {
        let mut board = Board::new();
        for event in &events {
            board.happen(event);
        }
        // A container is started once in a life of the board; a power failure hides from it what
        // the leader was not told either.
        let failures = events.iter().filter(|event| matches!(event, Event::PowerLoss)).count();
        for starts in board.starts.values() {
            assert!(*starts as usize <= 1 + failures, "started {starts} times");
        }

        // With the quorum back, everything comes to rest, and the cluster knows where it is.
        for _ in 0..10 {
            board.happen(&Event::Pass { milliseconds: 2_000, is_confirmed: true });
            board.acknowledge();
        }
        let plan = plan_node(&board.assignment(), &board.observed, board.now);
        assert!(plan.actions.is_empty() && plan.reports.is_empty(), "{plan:?}");
        for (id, order) in &board.orders {
            let phase = board.observed.tasks.get(id).map(|task| &task.phase);
            let runs = phase.is_some_and(Phase::is_live);
            let is_over = order.status.state.is_terminal();
            assert!(runs != is_over, "{order:?} is {phase:?}");
            assert!(order.desired == DesiredState::Running || is_over);
        }
        for (id, task) in &board.observed.tasks {
            assert!(board.orders.contains_key(id) || task.phase == Phase::Nothing, "{task:?}");
        }
    }
}
