use std::{sync::Arc, time::Duration};

use bramble_cluster::{
    Command, FailureAction, ServiceId, ServiceMode, TaskCause, TaskState, UpdateOrder, UpdateState,
    Version,
};

use crate::world::{MIB, World, spec};

fn rolling(
    world: &mut World,
    replicas: u32,
    config: impl FnOnce(&mut bramble_cluster::UpdateConfig),
) -> ServiceId {
    let mut web = spec("web", replicas);
    config(&mut web.update);
    let service = world.create(web);
    world.live();
    world.change_task(service, |task| "whoami:2".clone_into(&mut task.container.image.name));
    service
}

fn state(world: &World, service: ServiceId) -> UpdateState {
    world.state.service(service).unwrap().update_status.as_ref().unwrap().state
}

fn message(world: &World, service: ServiceId) -> String {
    world.state.service(service).unwrap().update_status.as_ref().unwrap().message.clone()
}

fn updated(world: &World, service: ServiceId) -> usize {
    let wanted = &world.state.service(service).unwrap().spec.task;
    let claims = world.claims(service);
    claims
        .iter()
        .filter(|task| task.spec == *wanted && task.status.state == TaskState::Running)
        .count()
}

/// Lives on, but new tasks of the roll-out fail instead of running.
fn live_failing(world: &mut World, service: ServiceId) {
    for _ in 0..200 {
        world.settle();
        let wanted = world.state.service(service).unwrap().spec_version;
        let starting = world.claims(service).into_iter().find(|task| {
            task.spec_version == wanted
                && task.cause != TaskCause::Created
                && task.node.is_some()
                && task.status.state < TaskState::Running
        });
        match starting {
            Some(task) if state(world, service) != UpdateState::RollbackStarted => {
                world.report(&task, TaskState::Rejected);
            }
            _ => {
                if !world.work() {
                    return;
                }
            }
        }
    }
}

#[test]
fn an_update_changes_one_slot_after_the_other_and_completes() {
    let mut world = World::new(3);
    let service = rolling(&mut world, 6, |_| {});
    assert_eq!(state(&world, service), UpdateState::Updating);
    for done in 0..6 {
        assert_eq!(updated(&world, service), done);
        world.settle();
        assert_eq!(world.spread(service).iter().sum::<usize>(), 5, "one slot at a time");
        world.work(); // the old task stops
        world.settle();
        assert_eq!(world.alive(service).len(), 6, "and the new one is there in the same round");
        world.work(); // the new task runs
    }
    world.live();
    assert_eq!(updated(&world, service), 6);
    assert_eq!(state(&world, service), UpdateState::Completed);
    assert_eq!(world.spread(service), [2, 2, 2]);
}

#[test]
fn one_plan_creates_the_successor_and_stops_the_next_task() {
    let mut world = World::new(1);
    rolling(&mut world, 3, |_| {});
    world.settle();
    world.work();
    world.settle();
    world.work();
    let plan = world.plan();
    assert_eq!(plan.commands.len(), 1, "the next one stops as soon as the first runs: {plan:?}");
    assert!(matches!(plan.commands[0], Command::SetDesiredState { .. }));
}

#[test]
fn parallelism_is_kept_and_zero_means_all_at_once() {
    for (parallelism, expected) in [(1, 1), (2, 2), (5, 5), (0, 6)] {
        let mut world = World::new(3);
        let service = rolling(&mut world, 6, |config| config.parallelism = parallelism);
        world.settle();
        let claims = world.claims(service).len();
        assert_eq!(6 - claims, expected, "parallelism {parallelism}");
    }
}

#[test]
fn the_next_slot_waits_for_the_delay() {
    let mut world = World::new(1);
    let service = rolling(&mut world, 2, |config| config.delay = Duration::from_secs(10));
    world.live();
    assert_eq!(updated(&world, service), 1);
    world.live_for(Duration::from_millis(9_500));
    assert_eq!(updated(&world, service), 1);
    world.live_for(Duration::from_millis(500));
    assert_eq!(updated(&world, service), 2);
}

#[test]
fn start_first_never_has_fewer_than_all_running() {
    let mut world = World::new(2);
    let service = rolling(&mut world, 4, |config| config.order = UpdateOrder::StartFirst);
    for _ in 0..40 {
        assert!(world.spread(service).iter().sum::<usize>() >= 4);
        assert!(world.alive(service).len() <= 5);
        world.step();
        world.work();
    }
    assert_eq!(updated(&world, service), 4);
    assert_eq!(state(&world, service), UpdateState::Completed);
}

#[test]
fn start_first_gives_way_where_a_board_has_no_room_for_two() {
    let mut world = World::new(1);
    let mut big = spec("big", 1);
    big.update.order = UpdateOrder::StartFirst;
    Arc::make_mut(&mut big.task).resources.reserved_memory_bytes = 600 * MIB;
    let service = world.create(big);
    world.live();
    world.change_task(service, |task| task.force_update = 1);
    world.live();
    assert_eq!(updated(&world, service), 0);
    assert_eq!(
        world.claims(service)[1].status.error,
        "no suitable board: memory: 1 board full (needs 600 MiB, 424 MiB free)"
    );
    world.live_for(Duration::from_secs(6));
    assert_eq!(updated(&world, service), 1);
}

#[test]
fn a_failing_update_pauses_after_the_first_slot() {
    let mut world = World::new(2);
    let service = rolling(&mut world, 4, |_| {});
    live_failing(&mut world, service);
    assert_eq!(state(&world, service), UpdateState::Paused);
    assert!(message(&world, service).starts_with("update paused due to failure"));
    assert_eq!(world.spread(service).iter().sum::<usize>(), 3, "the others were not touched");
}

#[test]
fn a_paused_update_goes_on_when_a_person_says_so_but_not_by_scaling() {
    let mut world = World::new(2);
    let service = rolling(&mut world, 4, |_| {});
    live_failing(&mut world, service);
    world.scale(service, 5);
    world.live_for(Duration::from_secs(40));
    assert_eq!(state(&world, service), UpdateState::Paused);
    world.change(service, |_| {});
    world.live_for(Duration::from_secs(40));
    assert_eq!(state(&world, service), UpdateState::Completed);
    assert_eq!(updated(&world, service), 5);
}

#[test]
fn a_failing_update_that_should_continue_does() {
    let mut world = World::new(2);
    let service = rolling(&mut world, 3, |config| config.failure_action = FailureAction::Continue);
    live_failing(&mut world, service);
    assert_eq!(state(&world, service), UpdateState::Completed);
    world.live_for(Duration::from_secs(60));
    assert_eq!(updated(&world, service), 3);
}

#[test]
fn a_failing_update_rolls_back_and_says_why() {
    let mut world = World::new(2);
    let service = rolling(&mut world, 4, |config| config.failure_action = FailureAction::Rollback);
    live_failing(&mut world, service);
    world.live_for(Duration::from_secs(5));
    assert_eq!(state(&world, service), UpdateState::RollbackCompleted);
    let image = &world.state.service(service).unwrap().spec.task.container.image.name;
    assert_eq!(image, "whoami");
    let version = world.state.service(service).unwrap().spec_version;
    let claims = world.claims(service);
    let changed = claims.iter().filter(|task| task.spec_version == version).count();
    assert_eq!(changed, 1, "only what had changed was changed back");
    assert_eq!(world.spread(service).iter().sum::<usize>(), 4);
}

#[test]
fn a_rollback_leaves_alone_what_never_changed() {
    let mut world = World::new(2);
    let service = rolling(&mut world, 3, |config| config.delay = Duration::from_secs(60));
    world.live();
    assert_eq!(updated(&world, service), 1);
    let untouched: Vec<_> = world
        .claims(service)
        .iter()
        .filter(|task| task.cause == TaskCause::Created)
        .cloned()
        .collect();
    assert_eq!(untouched.len(), 2);
    let message = "asked for".to_owned();
    world.apply(vec![Command::RollbackService { id: service, version: Version(0), message }]);
    world.live();
    assert_eq!(state(&world, service), UpdateState::RollbackCompleted);
    let claims = world.claims(service);
    assert!(untouched.iter().all(|task| claims.iter().any(|claim| claim.id == task.id)));
}

#[test]
fn failures_up_to_the_ratio_do_not_matter() {
    let mut world = World::new(2);
    let service = rolling(&mut world, 4, |config| config.max_failure_millionths = 250_000);
    world.settle();
    world.work();
    world.settle();
    let first = world
        .claims(service)
        .into_iter()
        .find(|task| task.status.state == TaskState::Assigned)
        .unwrap();
    world.report(&first, TaskState::Failed);
    world.live_for(Duration::from_secs(2));
    assert_eq!(state(&world, service), UpdateState::Completed, "one of four is a quarter");
}

#[test]
fn a_task_that_dies_within_the_monitored_time_counts_and_later_does_not() {
    for (after, expected) in [(4, UpdateState::Paused), (6, UpdateState::Completed)] {
        let mut world = World::new(1);
        let service = rolling(&mut world, 1, |config| config.monitor = Duration::from_secs(5));
        world.live();
        assert_eq!(state(&world, service), UpdateState::Updating, "it is watched first");
        world.live_for(Duration::from_secs(after));
        let task = world.claims(service)[0].clone();
        world.report(&task, TaskState::Failed);
        world.settle();
        assert_eq!(state(&world, service), expected, "after {after} s");
    }
}

#[test]
fn a_second_update_overtakes_the_first() {
    let mut world = World::new(2);
    let service = rolling(&mut world, 4, |_| {});
    world.settle();
    world.work();
    world.settle();
    world.change_task(service, |task| "whoami:3".clone_into(&mut task.container.image.name));
    world.live();
    assert_eq!(updated(&world, service), 4);
    assert_eq!(state(&world, service), UpdateState::Completed);
}

#[test]
fn an_update_that_only_changes_placement_leaves_alone_what_is_placed_well() {
    let mut world = World::new(2);
    world.label(1, "disk", "ssd");
    let service = world.create(spec("web", 2));
    world.live();
    let before = world.claims(service);
    world.change_task(service, |task| {
        task.placement.constraints.push(bramble_cluster::Constraint {
            attribute: "node.labels.disk".to_owned(),
            operator: bramble_cluster::ConstraintOperator::Equal,
            value: "ssd".to_owned(),
        });
    });
    world.live();
    assert_eq!(world.spread(service), [2, 0]);
    let kept = before.iter().find(|task| task.node == Some(crate::world::id(1))).unwrap();
    assert!(world.claims(service).iter().any(|task| task.id == kept.id));
}

#[test]
fn a_task_nobody_can_place_does_not_hold_up_its_own_correction() {
    let mut world = World::new(1);
    let mut big = spec("big", 2);
    Arc::make_mut(&mut big.task).resources.reserved_memory_bytes = 4096 * MIB;
    let service = world.create(big);
    world.live();
    assert_eq!(world.spread(service), [0]);
    world.change_task(service, |task| task.resources.reserved_memory_bytes = 16 * MIB);
    world.live();
    assert_eq!(world.spread(service), [2]);
    assert_eq!(state(&world, service), UpdateState::Completed);
}

#[test]
fn a_global_service_rolls_and_passes_over_a_board_that_is_down() {
    let mut world = World::new(3);
    let mut everywhere = spec("agent", 0);
    everywhere.mode = ServiceMode::Global;
    let service = world.create(everywhere);
    world.live();
    world.lose(3);
    world.live();
    world.change_task(service, |task| task.force_update = 1);
    world.live();
    assert_eq!(updated(&world, service), 2);
    assert_eq!(state(&world, service), UpdateState::Completed);
    world.hear(3);
    world.live();
    assert_eq!(updated(&world, service), 3, "it follows when it is back");
}

#[test]
fn fifty_slots_roll_in_as_many_rounds_as_there_are_steps() {
    let mut world = World::new(3);
    let service = rolling(&mut world, 50, |_| {});
    let mut entries = 0;
    while state(&world, service) == UpdateState::Updating {
        entries += usize::from(!world.step().is_empty());
        world.work();
        assert!(entries < 400);
    }
    assert_eq!(updated(&world, service), 50);
    assert!(entries <= 102, "stop, start, and one to say it is done: {entries}");
}

/// A service of two replicas that fill the only board; updates start first.
fn on_a_full_board(world: &mut World) -> ServiceId {
    let mut web = spec("web", 2);
    Arc::make_mut(&mut web.task).resources.reserved_memory_bytes = 512 * MIB;
    web.update.order = UpdateOrder::StartFirst;
    let service = world.create(web);
    world.live();
    service
}

fn waiting(world: &World, service: ServiceId) -> usize {
    world.claims(service).iter().filter(|task| task.node.is_none()).count()
}

#[test]
fn an_update_taken_back_before_its_successor_ran_leaves_the_running_tasks_alone() {
    let mut world = World::new(1);
    let service = on_a_full_board(&mut world);
    let before: Vec<_> = world.claims(service).iter().map(|task| task.id).collect();
    world.change_task(service, |task| task.force_update = 1);
    world.settle();
    assert_eq!(waiting(&world, service), 1);
    let message = String::new();
    let (id, version) = (service, Version(0));
    world.apply(vec![Command::RollbackService { id, version, message }]);
    world.live();
    assert_eq!(world.claims(service).iter().map(|task| task.id).collect::<Vec<_>>(), before);
    assert_eq!(state(&world, service), UpdateState::RollbackCompleted);
}

#[test]
fn a_waiting_successor_beside_a_running_task_takes_a_lane_of_the_next_roll_out() {
    let mut world = World::new(1);
    let service = on_a_full_board(&mut world);
    for revision in 1..5 {
        world.change_task(service, |task| task.force_update = revision);
        world.settle();
        assert_eq!(waiting(&world, service), 1, "revision {revision}");
    }
}

#[test]
fn a_waiting_successor_that_is_no_longer_wanted_does_not_take_its_predecessors_room() {
    let mut world = World::new(1);
    let service = on_a_full_board(&mut world);
    world.change_task(service, |task| task.force_update = 1);
    world.settle();
    world.pass(crate::timing::ROOM_PATIENCE);
    world.change_task(service, |task| task.force_update = 2);
    world.settle();
    assert_eq!(world.spread(service), [2], "a running task was stopped for a stale successor");
}

#[test]
fn a_task_of_a_roll_out_that_is_lost_before_it_ran_keeps_its_slot_busy() {
    let mut world = World::new(3);
    let service = rolling(&mut world, 3, |_| {});
    world.settle();
    world.work();
    world.step();
    let claims = world.claims(service);
    let first = claims.iter().find(|task| task.cause == TaskCause::Updated).unwrap();
    let lost = first.node.unwrap().bits();
    // The leader's own board is never down.
    world.heard.leader = crate::world::id(if lost == 1 { 2 } else { 1 });
    world.lose(lost);
    world.settle();
    let claims = world.claims(service);
    let changing: Vec<_> = claims.iter().filter(|task| task.cause != TaskCause::Created).collect();
    assert_eq!(changing.len(), 1, "the roll-out took another slot");
    assert_eq!((changing[0].slot, changing[0].cause), (first.slot, TaskCause::Updated));
    assert_ne!(changing[0].id, first.id);
}

#[test]
fn a_successor_of_an_earlier_roll_out_that_is_wanted_again_keeps_its_slot_busy() {
    let mut world = World::new(1);
    let service = on_a_full_board(&mut world);
    world.change_task(service, |task| task.force_update = 1);
    world.settle();
    world.change_task(service, |task| task.force_update = 2);
    let message = String::new();
    let (id, version) = (service, Version(0));
    world.apply(vec![Command::RollbackService { id, version, message }]);
    world.settle();
    assert_eq!(waiting(&world, service), 1, "the roll-out took another slot");
    world.pass(crate::timing::ROOM_PATIENCE);
    world.settle();
    assert_eq!(world.spread(service), [1], "both tasks gave way at the same time");
}

#[test]
fn a_waiting_successor_that_nobody_wants_and_that_gets_no_lane_is_forgotten() {
    let mut world = World::new(1);
    let service = on_a_full_board(&mut world);
    world.change(service, |spec| {
        Arc::make_mut(&mut spec.task).force_update = 1;
        spec.update.parallelism = 2;
    });
    world.settle();
    assert_eq!(waiting(&world, service), 2);
    world.change(service, |spec| {
        Arc::make_mut(&mut spec.task).force_update = 2;
        spec.update.parallelism = 1;
    });
    world.settle();
    assert_eq!((waiting(&world, service), world.claims(service).len()), (1, 3));
}
