//! What the planner gets to see of a task, from its first step to its last.

use bramble_cluster::{AssignedTask, DesiredState, ServiceId, Slot, TaskState, TaskStatus};
use bramble_containers::{ContainerExit, ContainerStatus};

use super::*;

const ID: TaskId = TaskId::from_random(1);

fn at(milliseconds: u64) -> Timestamp {
    Timestamp::from_millis(milliseconds)
}

fn containers(state: Option<ContainerState>) -> Containers {
    Arc::new(state.map(|state| (ID, ContainerStatus { id: ID, state })).into_iter().collect())
}

fn observed(work: &Work, state: Option<ContainerState>) -> Phase {
    let mut observed = work.observed(&containers(state), None, |instant| instant);
    observed.tasks.remove(&ID).map(|task| task.phase).unwrap_or_default()
}

fn running() -> Option<ContainerState> {
    Some(ContainerState::Running { pid: 7, since: at(30) })
}

fn exited(code: i32) -> Option<ContainerState> {
    let exit = ContainerExit { code, is_out_of_memory: false, started_at: at(30), at: at(90) };
    Some(ContainerState::Exited(exit))
}

fn assignment(ids: &[TaskId]) -> Assignment {
    let task = |id: &TaskId| AssignedTask {
        id: *id,
        service: ServiceId::from_random(2),
        service_name: "web".to_owned(),
        slot: Slot::Replica(1),
        spec: Arc::default(),
        desired: DesiredState::Running,
        status: TaskStatus::default(),
        image_holders: Vec::new(),
        image: None,
        is_withheld: false,
    };
    Assignment { tasks: ids.iter().map(task).collect(), ..Assignment::default() }
}

#[test]
fn a_task_goes_through_its_phases() {
    let mut work = Work::default();
    assert_eq!(observed(&work, None), Phase::Nothing);
    work.set(ID, Step::Preparing { since: at(10) });
    assert_eq!(observed(&work, None), Phase::Preparing { since: at(10) });
    work.set(ID, Step::Starting { since: at(20) });
    assert_eq!(
        observed(&work, None),
        Phase::Starting { since: at(20) },
        "before the keeper says so"
    );
    let starting = Some(ContainerState::Starting);
    assert_eq!(observed(&work, starting), Phase::Starting { since: at(20) });
    assert_eq!(observed(&work, running()), Phase::Running { pid: 7, started_at: at(30) });
    work.signalled(ID, StopReason::Ordered, at(40));
    work.signalled(ID, StopReason::CutOff, at(45));
    let stopping = |killed_at| Phase::Stopping {
        pid: 7,
        started_at: at(30),
        signalled_at: at(40),
        killed_at,
        reason: StopReason::Ordered,
    };
    assert_eq!(observed(&work, running()), stopping(None), "the first reason counts");
    work.killed(ID, StopReason::Ordered, at(50));
    assert_eq!(observed(&work, running()), stopping(Some(at(50))));
    assert_eq!(
        observed(&work, exited(137)),
        Phase::Ended {
            exit_code: 137,
            is_out_of_memory: false,
            at: at(90),
            stopped_for: Some(StopReason::Ordered)
        }
    );
    work.set(ID, Step::Removing);
    assert_eq!(observed(&work, exited(137)), Phase::Removing);
    work.removed(ID);
    assert_eq!(observed(&work, None), Phase::Nothing);
}

#[test]
fn containers_of_an_earlier_daemon_are_seen_as_they_are() {
    let work = Work::default();
    assert_eq!(observed(&work, running()), Phase::Running { pid: 7, started_at: at(30) });
    let not_started = ContainerState::NotStarted { reason: "no such file".to_owned(), at: at(5) };
    let failed = Phase::Failed { error: "no such file".to_owned(), at: at(5) };
    assert_eq!(observed(&work, Some(not_started)), failed);
}

#[test]
fn what_is_assigned_or_still_here_is_remembered_and_nothing_else() {
    let mut work = Work::default();
    let other = TaskId::from_random(2);
    work.know(&assignment(&[ID, other]), &containers(None));
    assert!(work.observed(&containers(None), None, |it| it).tasks[&ID].spec.is_some());
    work.know(&assignment(&[other]), &containers(running()));
    let seen = work.observed(&containers(running()), None, |it| it);
    assert!(seen.tasks[&ID].spec.is_some(), "its grace period still holds");
    work.know(&assignment(&[]), &containers(None));
    assert!(work.observed(&containers(None), None, |it| it).tasks.is_empty());
}

#[test]
fn an_ended_container_is_given_back_once() {
    let mut work = Work::default();
    assert_eq!(work.newly_ended(&containers(running())), []);
    assert_eq!(work.newly_ended(&containers(exited(0))), [ID]);
    assert_eq!(work.newly_ended(&containers(exited(0))), []);
}

#[test]
fn reports_are_remembered_for_one_session() {
    let mut work = Work::default();
    let status = TaskStatus { state: TaskState::Running, ..TaskStatus::default() };
    work.reported(&TaskReport { id: ID, status }, at(5));
    let reported =
        |work: &Work| work.observed(&containers(None), None, |it| it).tasks[&ID].reported;
    let expected = Reported { state: TaskState::Running, at: at(5), is_acknowledged: true };
    assert_eq!(reported(&work), Some(expected));
    work.forget_reports();
    assert_eq!(reported(&work), None);
}
