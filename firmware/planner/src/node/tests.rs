use std::sync::Arc;

use bramble_cluster::{
    AssignedTask, ContainerSpec, DesiredState, OnPartition, ServiceId, Slot, TaskSpec, TaskState,
    TaskStatus, Version,
};

use super::*;
use crate::timing::{CUT_OFF_AFTER, CUT_OFF_KILL_AFTER};

mod board;

const NOW: Timestamp = Timestamp::from_millis(100_000);

fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn id(number: u128) -> TaskId {
    TaskId::from_random(number)
}

fn spec(on_partition: OnPartition) -> Arc<TaskSpec> {
    let container = ContainerSpec {
        stop_signal: "SIGUSR1".into(),
        stop_grace_period: Some(Duration::from_secs(5)),
        ..ContainerSpec::default()
    };
    Arc::new(TaskSpec { container, on_partition, ..TaskSpec::default() })
}

fn order(number: u128, desired: DesiredState, state: TaskState) -> AssignedTask {
    AssignedTask {
        id: id(number),
        service: ServiceId::from_random(1),
        service_name: "web".into(),
        slot: Slot::Replica(1),
        spec: spec(OnPartition::Keep),
        desired,
        status: TaskStatus { state, ..TaskStatus::default() },
        image_holders: Vec::new(),
        image: None,
        is_withheld: false,
    }
}

fn assignment(tasks: Vec<AssignedTask>) -> Assignment {
    Assignment { generation: Generation { term: 1, version: Version(1) }, tasks }
}

/// A board in touch with its leader that knows this much of task 1.
fn observed(phase: Phase) -> Observed {
    let task = ObservedTask { phase, reported: None, spec: Some(spec(OnPartition::Keep)) };
    Observed { tasks: BTreeMap::from([(id(1), task)]), confirmed_at: Some(NOW) }
}

fn bound(mut observed: Observed, confirmed_at: Option<Timestamp>) -> Observed {
    for task in observed.tasks.values_mut() {
        task.spec = Some(spec(OnPartition::Stop));
    }
    Observed { confirmed_at, ..observed }
}

fn bound_order(state: TaskState) -> AssignedTask {
    let spec = spec(OnPartition::Stop);
    AssignedTask { spec, ..order(1, DesiredState::Running, state) }
}

fn running() -> Phase {
    Phase::Running { pid: 42, started_at: NOW }
}

fn stopping(killed_at: Option<Timestamp>) -> Phase {
    let reason = StopReason::Ordered;
    Phase::Stopping { pid: 42, started_at: NOW, signalled_at: NOW, killed_at, reason }
}

fn ended(exit_code: i32, stopped_for: Option<StopReason>) -> Phase {
    Phase::Ended { exit_code, is_out_of_memory: false, at: NOW, stopped_for }
}

fn signal(reason: StopReason) -> NodeAction {
    NodeAction::Signal { id: id(1), signal: "SIGUSR1".into(), reason }
}

fn kill(reason: StopReason) -> NodeAction {
    NodeAction::Kill { id: id(1), reason }
}

fn actions(order: Option<AssignedTask>, phase: Phase) -> Vec<NodeAction> {
    plan_node(&assignment(order.into_iter().collect()), &observed(phase), NOW).actions
}

fn all_phases() -> Vec<Phase> {
    let error = "no such image".to_owned();
    vec![
        Phase::Nothing,
        Phase::Preparing { since: NOW },
        Phase::Prepared { since: NOW },
        Phase::Refused { error: error.clone(), at: NOW },
        Phase::Starting { since: NOW },
        Phase::Failed { error, at: NOW },
        running(),
        stopping(None),
        ended(1, None),
        Phase::Removing,
    ]
}

#[test]
fn a_wanted_task_is_prepared_then_started_and_then_left_alone() {
    let plan = |phase| actions(Some(order(1, DesiredState::Running, TaskState::Assigned)), phase);
    assert_eq!(plan(Phase::Nothing), [NodeAction::Prepare(id(1))]);
    assert_eq!(plan(Phase::Prepared { since: NOW }), [NodeAction::Start(id(1))]);
    for phase in all_phases() {
        if !matches!(phase, Phase::Nothing | Phase::Prepared { .. }) {
            assert_eq!(plan(phase.clone()), [], "{phase:?}");
        }
    }
}

#[test]
fn an_unwanted_task_stops_and_what_is_left_stays() {
    for desired in [DesiredState::Shutdown, DesiredState::Remove] {
        let plan = |phase| actions(Some(order(1, desired, TaskState::Running)), phase);
        assert_eq!(plan(Phase::Preparing { since: NOW }), [NodeAction::Remove(id(1))]);
        assert_eq!(plan(Phase::Prepared { since: NOW }), [NodeAction::Remove(id(1))]);
        assert_eq!(plan(running()), [signal(StopReason::Ordered)]);
        for phase in [Phase::Nothing, ended(0, None), Phase::Removing, stopping(None)] {
            assert_eq!(plan(phase.clone()), [], "{phase:?}");
        }
    }
}

#[test]
fn a_task_that_the_assignment_does_not_name_stops_and_goes() {
    let plan = |phase| actions(None, phase);
    assert_eq!(plan(running()), [signal(StopReason::Ordered)]);
    for phase in all_phases() {
        if phase.is_live() || matches!(phase, Phase::Nothing | Phase::Removing) {
            continue;
        }
        assert_eq!(plan(phase.clone()), [NodeAction::Remove(id(1))], "{phase:?}");
    }
}

#[test]
fn nothing_is_touched_before_the_first_assignment() {
    for phase in all_phases() {
        let plan = plan_node(&Assignment::default(), &observed(phase.clone()), NOW);
        assert_eq!(plan.actions, [], "{phase:?}");
        assert_eq!(plan.reports, [], "{phase:?}");
    }
}

#[test]
fn a_container_is_killed_when_its_grace_period_is_over_and_again_if_that_did_not_help() {
    let assignment = assignment(vec![order(1, DesiredState::Shutdown, TaskState::Running)]);
    let plan = |killed_at, now| plan_node(&assignment, &observed(stopping(killed_at)), now);

    let grace = NOW + Duration::from_secs(5);
    assert_eq!(plan(None, NOW).wake_at, Some(grace));
    assert_eq!(plan(None, grace - millis(1)).actions, []);
    assert_eq!(plan(None, grace).actions, [kill(StopReason::Ordered)]);

    let again = grace + KILL_AGAIN_AFTER;
    assert_eq!(plan(Some(grace), grace).actions, []);
    assert_eq!(plan(Some(grace), grace).wake_at, Some(again));
    assert_eq!(plan(Some(grace), again).actions, [kill(StopReason::Ordered)]);
}

#[test]
fn a_container_with_no_specification_left_has_the_default_grace_period() {
    let mut observed = observed(stopping(None));
    observed.tasks.get_mut(&id(1)).expect("task 1").spec = None;
    let plan = plan_node(&assignment(vec![]), &observed, NOW);
    assert_eq!(plan.wake_at, Some(NOW + GRACE_PERIOD_DEFAULT));
}

#[test]
fn a_task_that_the_cluster_counts_as_ended_must_not_run() {
    for state in [TaskState::Complete, TaskState::Failed, TaskState::Orphaned] {
        let order = order(1, DesiredState::Running, state);
        assert_eq!(actions(Some(order.clone()), running()), [signal(StopReason::Ordered)]);
        assert_eq!(actions(Some(order.clone()), Phase::Nothing), []);
        for phase in all_phases() {
            let plan = plan_node(&assignment(vec![order.clone()]), &observed(phase), NOW);
            assert_eq!(plan.reports, []);
        }
    }
}

#[test]
fn a_container_lost_with_the_power_does_not_run_again() {
    for state in [TaskState::Starting, TaskState::Running] {
        let assignment = assignment(vec![order(1, DesiredState::Running, state)]);
        let plan = plan_node(&assignment, &observed(Phase::Nothing), NOW);
        assert_eq!(plan.actions, []);
        assert_eq!(plan.reports[0].status.state, TaskState::Shutdown);
        assert!(plan.reports[0].status.error.contains("lost"));
    }
}

#[test]
fn an_interrupted_preparation_begins_again() {
    let order = order(1, DesiredState::Running, TaskState::Preparing);
    assert_eq!(actions(Some(order), Phase::Nothing), [NodeAction::Prepare(id(1))]);
}

#[test]
fn endings_are_told_apart() {
    let report = |phase, desired| {
        let assignment = assignment(vec![order(1, desired, TaskState::Running)]);
        let mut plan = plan_node(&assignment, &observed(phase), NOW);
        plan.reports.pop().expect("an ending is reported").status
    };
    let running = DesiredState::Running;
    assert_eq!(report(ended(0, None), running).state, TaskState::Complete);
    let failed = report(ended(3, None), running);
    assert_eq!((failed.state, failed.exit_code), (TaskState::Failed, Some(3)));
    assert_eq!(failed.error, "task: non-zero exit (3)");
    assert_eq!(report(ended(143, None), DesiredState::Shutdown).state, TaskState::Shutdown);
    assert_eq!(report(ended(0, Some(StopReason::Ordered)), running).state, TaskState::Shutdown);
    let cut = report(ended(0, Some(StopReason::CutOff)), running);
    assert_eq!(cut.state, TaskState::Shutdown);
    assert!(cut.error.contains("cut off"), "{}", cut.error);
    let error = "no such image".to_owned();
    assert_eq!(report(Phase::Failed { error, at: NOW }, running).state, TaskState::Failed);

    let memory =
        Phase::Ended { exit_code: 137, is_out_of_memory: true, at: NOW, stopped_for: None };
    let memory = report(memory, running);
    assert!(memory.is_out_of_memory && memory.error.contains("out of memory"), "{memory:?}");
    assert_eq!(report(Phase::Nothing, DesiredState::Shutdown).state, TaskState::Shutdown);
}

#[test]
fn a_task_that_cannot_be_prepared_is_rejected() {
    let assignment = assignment(vec![order(1, DesiredState::Running, TaskState::Preparing)]);
    let refused = Phase::Refused { error: "no such image".into(), at: NOW };
    let report = plan_node(&assignment, &observed(refused), NOW).reports.remove(0);
    assert_eq!(
        (report.status.state, &*report.status.error),
        (TaskState::Rejected, "no such image")
    );
}

#[test]
fn what_the_cluster_knows_or_is_past_is_not_reported() {
    for state in [TaskState::Running, TaskState::Complete] {
        let assignment = assignment(vec![order(1, DesiredState::Running, state)]);
        for phase in [Phase::Preparing { since: NOW }, Phase::Starting { since: NOW }, running()] {
            assert_eq!(plan_node(&assignment, &observed(phase), NOW).reports, []);
        }
    }
}

#[test]
fn a_report_is_repeated_until_it_is_acknowledged() {
    let assignment = assignment(vec![order(1, DesiredState::Running, TaskState::Starting)]);
    let plan = |is_acknowledged, now| {
        let mut observed = observed(running());
        observed.confirmed_at = Some(now);
        let reported = Reported { state: TaskState::Running, at: NOW, is_acknowledged };
        observed.tasks.get_mut(&id(1)).expect("task 1").reported = Some(reported);
        plan_node(&assignment, &observed, now)
    };
    let again = NOW + REPORT_AGAIN_AFTER;
    assert_eq!((plan(false, NOW).reports.len(), plan(false, NOW).wake_at), (0, Some(again)));
    assert_eq!(plan(false, again).reports.len(), 1);
    assert_eq!((plan(true, again).reports.len(), plan(true, again).wake_at), (0, None));
}

#[test]
fn the_agent_is_woken_to_repeat_a_report_that_was_lost() {
    let assignment = assignment(vec![order(1, DesiredState::Running, TaskState::Starting)]);
    let plan = plan_node(&assignment, &observed(running()), NOW);
    assert_eq!((plan.reports.len(), plan.wake_at), (1, Some(NOW + REPORT_AGAIN_AFTER)));
}

#[test]
fn a_board_cut_off_from_the_quorum_starts_nothing_new() {
    let assignment = assignment(vec![order(1, DesiredState::Running, TaskState::Assigned)]);
    for phase in [Phase::Nothing, Phase::Prepared { since: NOW }] {
        let plan = |now| plan_node(&assignment, &observed(phase.clone()), now).actions.len();
        assert_eq!(plan(NOW + CUT_OFF_AFTER - millis(1)), 1);
        assert_eq!(plan(NOW + CUT_OFF_AFTER), 0);
    }
}

#[test]
fn a_board_cut_off_from_the_quorum_keeps_what_may_run_twice() {
    let assignment = assignment(vec![order(1, DesiredState::Running, TaskState::Running)]);
    let plan = plan_node(&assignment, &observed(running()), NOW + Duration::from_secs(3_600));
    assert_eq!(plan, NodePlan::default());
}

#[test]
fn a_board_cut_off_from_the_quorum_stops_what_must_not_run_twice() {
    let assignment = assignment(vec![bound_order(TaskState::Running)]);
    let plan = |phase, now| plan_node(&assignment, &bound(observed(phase), Some(NOW)), now);
    let cut_off = NOW + CUT_OFF_AFTER;
    assert_eq!(plan(running(), NOW).wake_at, Some(cut_off));
    assert_eq!(plan(running(), cut_off - millis(1)).actions, []);
    assert_eq!(plan(running(), cut_off).actions, [signal(StopReason::CutOff)]);

    let signalled = Phase::Stopping {
        pid: 42,
        started_at: NOW,
        signalled_at: cut_off,
        killed_at: None,
        reason: StopReason::CutOff,
    };
    let killed = NOW + CUT_OFF_KILL_AFTER;
    assert_eq!(plan(signalled.clone(), cut_off).wake_at, Some(killed));
    assert_eq!(plan(signalled, killed).actions, [kill(StopReason::CutOff)]);
    assert_eq!(plan(Phase::Starting { since: NOW }, killed).actions, [kill(StopReason::CutOff)]);
}

/// A daemon without memory that took such an assignment from a leader of the past removed a task, and
/// started it again on the word of the new one.
#[test]
fn a_board_that_is_cut_off_keeps_what_its_assignment_does_not_name() {
    let plan = |phase, confirmed_at| {
        let observed = Observed { confirmed_at, ..observed(phase) };
        plan_node(&assignment(Vec::new()), &observed, NOW + CUT_OFF_AFTER).actions
    };
    for confirmed_at in [None, Some(NOW)] {
        for phase in all_phases() {
            assert_eq!(plan(phase.clone(), confirmed_at), [], "{phase:?}");
        }
    }
    let confirmed_at = Some(NOW + millis(1));
    assert_eq!(plan(running(), confirmed_at), [signal(StopReason::Ordered)]);
    assert_eq!(plan(ended(0, None), confirmed_at), [NodeAction::Remove(id(1))]);
}

#[test]
fn what_is_withheld_does_not_start_and_runs_on_if_it_has_started() {
    let withheld = AssignedTask { is_withheld: true, ..bound_order(TaskState::Preparing) };
    for phase in all_phases() {
        assert_eq!(actions(Some(withheld.clone()), phase.clone()), [], "{phase:?}");
    }
    let reports =
        |phase| plan_node(&assignment(vec![withheld.clone()]), &observed(phase), NOW).reports;
    assert_eq!(reports(running())[0].status.state, TaskState::Running);
    assert_eq!(reports(ended(0, Some(StopReason::CutOff)))[0].status.state, TaskState::Shutdown);
    assert_eq!(reports(Phase::Nothing), [], "it may start yet");
    let unwanted = AssignedTask { desired: DesiredState::Shutdown, ..withheld.clone() };
    assert_eq!(actions(Some(unwanted), running()), [signal(StopReason::Ordered)]);
}

#[test]
fn a_stop_with_a_long_grace_period_is_cut_short_when_the_board_is_cut_off() {
    let order = AssignedTask { desired: DesiredState::Shutdown, ..bound_order(TaskState::Running) };
    let killed = NOW + CUT_OFF_KILL_AFTER;
    let observed = bound(observed(stopping(None)), Some(NOW));
    let plan = plan_node(&assignment(vec![order]), &observed, killed);
    assert_eq!(plan.actions, [kill(StopReason::Ordered)]);
}

#[test]
fn what_must_not_run_twice_stops_when_the_agent_does_not_know_the_quorum() {
    let observed = bound(observed(running()), None);
    let plan = plan_node(&Assignment::default(), &observed, NOW);
    assert_eq!(plan.actions, [signal(StopReason::CutOff)]);
}

#[test]
fn assignments_of_deposed_leaders_and_overtaken_ones_are_refused() {
    let generation = |term, version| Generation { term, version: Version(version) };
    assert!(is_newer(generation(1, 1), Generation::default()));
    assert!(is_newer(generation(2, 7), generation(2, 6)));
    assert!(is_newer(generation(3, 1), generation(2, 6)));
    assert!(is_newer(generation(2, 6), generation(2, 6)));
    assert!(!is_newer(generation(2, 5), generation(2, 6)));
    assert!(!is_newer(generation(1, 99), generation(2, 6)));
}
