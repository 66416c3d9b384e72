use std::sync::Arc;

use crate::{
    Applied, ClusterState, Command, DesiredState, NewTask, NodeState, Outcome, Rejection, Restarts,
    ServiceMode, Slot, TaskCause, TaskReport, TaskState, TaskStatus, Version, limits,
    sample::{MIB, apply, apply_one, at, founded, new_task, node_id, service_id, spec, task_id},
};

fn report(state: &mut ClusterState, millis: u64, node: u128, to: TaskState, since: u64) -> Outcome {
    let status = TaskStatus { state: to, since: at(since), ..TaskStatus::default() };
    let reports = vec![TaskReport { id: task_id(1), status }];
    apply_one(state, millis, Command::ReportTasks { node: node_id(node), reports })
}

fn with_task() -> ClusterState {
    let mut state = founded();
    apply_one(&mut state, 2_000, new_task(1, 7, 1, Some(2))).unwrap();
    state
}

fn task_state(state: &ClusterState) -> TaskState {
    state.task(task_id(1)).unwrap().status.state
}

fn desire(state: &mut ClusterState, desired: DesiredState) -> Outcome {
    apply_one(state, 3_000, Command::SetDesiredState { id: task_id(1), desired })
}

#[test]
fn a_task_runs_what_its_service_wants_when_it_is_created() {
    let state = with_task();
    let task = state.task(task_id(1)).unwrap();
    let service = state.service(service_id(7)).unwrap();
    assert!(Arc::ptr_eq(&task.spec, &service.spec.task));
    assert_eq!(task.spec_version, service.spec_version);
    assert_eq!((task.status.state, task.created), (TaskState::Assigned, Version(2)));
    assert_eq!(state.tasks_on(node_id(2)).count(), 1);
    assert_eq!(state.tasks_of(service_id(7)).count(), 1);
}

#[test]
fn a_task_planned_against_an_older_service_is_refused() {
    let mut state = founded();
    let Command::CreateTask(mut new) = new_task(1, 7, 1, None) else { panic!() };
    new.service_version = Version(9);
    let outcome = apply_one(&mut state, 2_000, Command::CreateTask(new));
    assert!(matches!(outcome, Err(Rejection::Stale { .. })));
}

#[test]
fn a_plan_agreed_on_late_does_not_fill_a_slot_that_got_another_task_since() {
    let mut state = founded();
    let planned_at = state.version();
    let Command::CreateTask(mut new) = new_task(6, 7, 1, None) else { unreachable!() };
    new.planned_at = planned_at;
    apply_one(&mut state, 2_000, Command::CreateTask(new.clone())).unwrap();
    new.id = task_id(8);
    let outcome = apply_one(&mut state, 2_000, Command::CreateTask(new.clone()));
    assert!(matches!(outcome, Err(Rejection::Stale { .. })), "{outcome:?}");
    new.planned_at = state.version();
    assert!(apply_one(&mut state, 2_000, Command::CreateTask(new)).is_ok());
}

#[test]
fn a_slot_has_to_be_one_of_the_service() {
    let mut state = founded();
    for slot in [0, limits::REPLICAS + 1] {
        assert!(apply_one(&mut state, 2_000, new_task(1, 7, slot, None)).is_err());
    }
    let mut everywhere = spec("everywhere");
    everywhere.mode = ServiceMode::Global;
    let (id, spec) = (service_id(8), Box::new(everywhere));
    apply_one(&mut state, 2_000, Command::CreateService { id, spec }).unwrap();
    let new = |slot, node| {
        Command::CreateTask(Box::new(NewTask {
            id: task_id(5),
            service: id,
            service_version: Version(0),
            slot,
            node,
            cause: TaskCause::Created,
            restarts: Restarts::default(),
            planned_at: Version(0),
        }))
    };
    let here = Slot::Node(node_id(2));
    assert!(apply_one(&mut state, 2_000, new(Slot::Replica(1), None)).is_err());
    assert!(apply_one(&mut state, 2_000, new(here, Some(node_id(1)))).is_err());
    assert!(apply_one(&mut state, 2_000, new(here, Some(node_id(2)))).is_ok());
}

#[test]
fn a_cluster_has_only_so_many_tasks() {
    let mut state = founded();
    let slot = |number: u128| u32::try_from(number % 1_000).unwrap() + 1;
    let commands: Vec<_> =
        (0..=limits::TASKS as u128).map(|number| new_task(number, 7, slot(number), None)).collect();
    let mut outcomes = Vec::new();
    for commands in commands.chunks(limits::COMMANDS) {
        outcomes.extend(apply(&mut state, 2_000, commands.to_vec()));
    }
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), limits::TASKS);
    assert!(matches!(outcomes.last(), Some(Err(Rejection::OverLimit { .. }))));
}

#[test]
fn a_board_is_never_given_more_than_it_has_and_gets_it_back() {
    let mut state = founded();
    let mut big = spec("big");
    Arc::make_mut(&mut big.task).resources.reserved_memory_bytes = 600 * MIB;
    let (id, spec) = (service_id(8), Box::new(big));
    apply_one(&mut state, 2_000, Command::CreateService { id, spec }).unwrap();
    apply_one(&mut state, 2_000, new_task(1, 8, 1, Some(2))).unwrap();
    assert_eq!(state.reserved_on(node_id(2)).memory_bytes, 600 * MIB);
    let error = apply_one(&mut state, 2_000, new_task(2, 8, 2, Some(2))).unwrap_err();
    assert_eq!(error, Rejection::NoRoom { node: node_id(2), what: "memory".to_owned() });
    apply_one(&mut state, 2_000, new_task(2, 8, 2, None)).unwrap();
    let assign = Command::AssignTask { id: task_id(2), version: Version(0), node: node_id(2) };
    assert!(apply_one(&mut state, 2_000, assign.clone()).is_err());
    report(&mut state, 3_000, 2, TaskState::Failed, 3_000).unwrap();
    assert_eq!(state.reserved_on(node_id(2)).memory_bytes, 0);
    assert_eq!(apply_one(&mut state, 4_000, assign), Ok(Applied::Done));
}

#[test]
fn a_state_only_goes_forward_and_ends_once() {
    let mut state = with_task();
    report(&mut state, 3_000, 2, TaskState::Running, 2_500).unwrap();
    assert_eq!(report(&mut state, 3_100, 2, TaskState::Starting, 3_100), Ok(Applied::Unchanged));
    assert_eq!(task_state(&state), TaskState::Running);
    report(&mut state, 4_000, 2, TaskState::Failed, 4_000).unwrap();
    assert_eq!(report(&mut state, 5_000, 2, TaskState::Rejected, 5_000), Ok(Applied::Unchanged));
    let task = state.task(task_id(1)).unwrap();
    assert_eq!((task.status.state, task.started_at), (TaskState::Failed, Some(at(2_500))));
}

#[test]
fn the_same_report_twice_changes_nothing_not_even_the_version() {
    let mut state = with_task();
    report(&mut state, 3_000, 2, TaskState::Running, 2_500).unwrap();
    let version = state.task(task_id(1)).unwrap().version;
    assert_eq!(report(&mut state, 3_500, 2, TaskState::Running, 2_500), Ok(Applied::Unchanged));
    assert_eq!(state.task(task_id(1)).unwrap().version, version);
}

#[test]
fn a_node_speaks_only_of_its_own_tasks() {
    let mut state = with_task();
    assert_eq!(report(&mut state, 3_000, 1, TaskState::Failed, 1), Ok(Applied::Unchanged));
    assert_eq!(task_state(&state), TaskState::Assigned);
    assert!(report(&mut state, 3_000, 9, TaskState::Failed, 1).is_err());
}

#[test]
fn a_boards_clock_that_is_wrong_is_brought_into_line() {
    for (since, expected) in [(99_999, 3_000), (0, 2_000)] {
        let mut state = with_task();
        report(&mut state, 3_000, 2, TaskState::Running, since).unwrap();
        assert_eq!(state.task(task_id(1)).unwrap().status.since, at(expected));
    }
}

#[test]
fn a_desired_state_only_goes_forward() {
    let mut state = with_task();
    assert_eq!(desire(&mut state, DesiredState::Running), Ok(Applied::Unchanged));
    assert_eq!(desire(&mut state, DesiredState::Remove), Ok(Applied::Done));
    let error = desire(&mut state, DesiredState::Shutdown).unwrap_err();
    assert_eq!(error, Rejection::Backwards { id: task_id(1) });
}

#[test]
fn a_task_is_forgotten_only_after_it_ended_or_if_it_never_had_a_node() {
    let mut state = with_task();
    let remove = Command::RemoveTask { id: task_id(1) };
    let error = apply_one(&mut state, 3_000, remove.clone()).unwrap_err();
    assert_eq!(error, Rejection::NotEnded { id: task_id(1) });
    report(&mut state, 3_000, 2, TaskState::Complete, 3_000).unwrap();
    assert_eq!(apply_one(&mut state, 3_000, remove), Ok(Applied::Done));
    assert_eq!(state.tasks_on(node_id(2)).count(), 0);
    apply_one(&mut state, 3_000, new_task(2, 7, 2, None)).unwrap();
    let remove = Command::RemoveTask { id: task_id(2) };
    assert_eq!(apply_one(&mut state, 3_000, remove), Ok(Applied::Done));
}

#[test]
fn only_a_waiting_task_is_assigned_or_explained() {
    let mut state = founded();
    apply_one(&mut state, 2_000, new_task(1, 7, 1, None)).unwrap();
    let explain = |version| Command::ExplainTask {
        id: task_id(1),
        version: Version(version),
        error: "no room".to_owned(),
    };
    let assign = |version| Command::AssignTask {
        id: task_id(1),
        version: Version(version),
        node: node_id(1),
    };
    assert_eq!(apply_one(&mut state, 3_000, explain(2)), Ok(Applied::Done));
    assert_eq!(apply_one(&mut state, 3_000, explain(3)), Ok(Applied::Unchanged));
    assert!(matches!(apply_one(&mut state, 3_000, assign(2)), Err(Rejection::Stale { .. })));
    assert_eq!(apply_one(&mut state, 3_000, assign(3)), Ok(Applied::Done));
    let task = state.task(task_id(1)).unwrap();
    assert_eq!((task.status.state, task.status.error.as_str()), (TaskState::Assigned, ""));
    assert!(apply_one(&mut state, 3_000, assign(0)).is_err());
    assert!(apply_one(&mut state, 3_000, explain(0)).is_err());
}

#[test]
fn only_the_tasks_of_a_node_that_is_down_are_orphaned() {
    let mut state = with_task();
    let orphan = Command::OrphanTask { id: task_id(1), message: "gone".to_owned() };
    let outcome = apply_one(&mut state, 3_000, orphan.clone());
    assert!(matches!(outcome, Err(Rejection::NodeNotDown { .. })));
    let (id, version) = (node_id(2), Version(0));
    let down =
        Command::SetNodeState { id, version, state: NodeState::Down, message: String::new() };
    apply_one(&mut state, 3_000, down).unwrap();
    assert_eq!(apply_one(&mut state, 3_000, orphan), Ok(Applied::Done));
    assert_eq!(task_state(&state), TaskState::Orphaned);
    assert_eq!(report(&mut state, 4_000, 2, TaskState::Running, 1), Ok(Applied::Unchanged));
}
