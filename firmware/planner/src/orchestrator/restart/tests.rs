use std::{sync::Arc, time::Duration};

use bramble_cluster::{RestartCondition, RestartPolicy, ServiceId, TaskState};

use crate::{
    timing::{GOOD_RUN, RESTART_MAX},
    world::{World, spec},
};

fn world(policy: RestartPolicy) -> (World, ServiceId) {
    let mut world = World::new(1);
    let mut spec = spec("web", 1);
    Arc::make_mut(&mut spec.task).restart = policy;
    let service = world.create(spec);
    world.live();
    (world, service)
}

/// Ends the task of the service and returns after how long it was replaced, if it was.
fn end(world: &mut World, service: ServiceId, state: TaskState) -> Option<Duration> {
    let task = world.claims(service).last().unwrap().clone();
    world.report(&task, state);
    world.settle();
    let start = world.now;
    while world.claims(service).last().unwrap().id == task.id {
        let wake = world.plan().wake_at?;
        if wake > start + RESTART_MAX * 2 {
            return None;
        }
        world.pass(wake.since(world.now).min(Duration::from_secs(1)));
        world.settle();
    }
    let waited = world.now.since(start);
    world.live();
    Some(waited)
}

fn is_replaced(condition: RestartCondition, state: TaskState) -> bool {
    let (mut world, service) = world(RestartPolicy { condition, ..RestartPolicy::default() });
    let task = world.claims(service)[0].clone();
    world.report(&task, state);
    world.live_for(Duration::from_secs(2));
    world.claims(service)[0].id != task.id
}

#[test]
fn back_off_doubles_from_a_tenth_of_a_second_to_half_a_minute() {
    let (mut world, service) = world(RestartPolicy::default());
    let waits: Vec<u128> = (0..11)
        .filter_map(|_| end(&mut world, service, TaskState::Failed))
        .map(|wait| wait.as_millis())
        .collect();
    assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
}

#[test]
fn a_good_run_resets_the_back_off() {
    let (mut world, service) = world(RestartPolicy::default());
    for _ in 0..4 {
        end(&mut world, service, TaskState::Failed);
    }
    world.pass(GOOD_RUN);
    assert_eq!(end(&mut world, service, TaskState::Failed), Some(Duration::from_millis(100)));
    assert_eq!(end(&mut world, service, TaskState::Failed), Some(Duration::from_millis(200)));
}

#[test]
fn a_delay_that_was_asked_for_does_not_grow() {
    let delay = Some(Duration::from_secs(3));
    let (mut world, service) = world(RestartPolicy { delay, ..RestartPolicy::default() });
    for _ in 0..3 {
        assert_eq!(end(&mut world, service, TaskState::Failed), delay);
    }
}

#[test]
fn the_condition_decides_which_endings_are_followed() {
    use RestartCondition::{Any, None, OnFailure};
    use TaskState::{Complete, Failed, Rejected};
    for (condition, state, expected) in [
        (Any, Complete, true),
        (Any, Failed, true),
        (Any, Rejected, true),
        (OnFailure, Complete, false),
        (OnFailure, Failed, true),
        (OnFailure, Rejected, true),
        (None, Complete, false),
        (None, Failed, false),
    ] {
        assert_eq!(is_replaced(condition, state), expected, "{condition:?} after {state:?}");
    }
}

#[test]
fn what_its_board_stopped_unasked_is_replaced_whatever_the_condition() {
    assert!(is_replaced(RestartCondition::None, TaskState::Shutdown));
}

#[test]
fn there_are_at_most_so_many_attempts() {
    let policy = RestartPolicy { max_attempts: 2, ..RestartPolicy::default() };
    let (mut world, service) = world(policy);
    assert!(end(&mut world, service, TaskState::Failed).is_some());
    assert!(end(&mut world, service, TaskState::Failed).is_some());
    assert_eq!(end(&mut world, service, TaskState::Failed), None);
}

#[test]
fn attempts_before_the_window_do_not_count() {
    let policy = RestartPolicy {
        max_attempts: 1,
        window: Some(Duration::from_secs(60)),
        ..RestartPolicy::default()
    };
    let (mut world, service) = world(policy);
    assert!(end(&mut world, service, TaskState::Failed).is_some());
    world.pass(Duration::from_secs(61));
    assert!(end(&mut world, service, TaskState::Failed).is_some());
    assert_eq!(end(&mut world, service, TaskState::Failed), None);
}

#[test]
fn a_new_leader_backs_off_as_the_old_one_did() {
    let (mut world, service) = world(RestartPolicy::default());
    for _ in 0..5 {
        end(&mut world, service, TaskState::Failed);
    }
    world.heard.leading_since = world.now;
    world.hear(1);
    assert_eq!(end(&mut world, service, TaskState::Failed), Some(Duration::from_millis(3_200)));
}

#[test]
fn a_task_that_ran_to_its_end_runs_again_only_when_the_service_changes() {
    let policy =
        RestartPolicy { condition: RestartCondition::OnFailure, ..RestartPolicy::default() };
    let (mut world, service) = world(policy);
    let task = world.claims(service)[0].clone();
    world.report(&task, TaskState::Complete);
    world.live_for(Duration::from_secs(60));
    assert_eq!(world.claims(service)[0].id, task.id);
    world.change_task(service, |task| task.force_update = 1);
    world.live();
    assert_eq!(world.claims(service)[0].status.state, TaskState::Running);
}
