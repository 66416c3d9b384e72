use std::{sync::Arc, time::Duration};

use bramble_cluster::{
    Availability, Command, Constraint, ConstraintOperator, DesiredState, NodeState, ServiceMode,
    Slot, TaskCause, TaskState, UpdateOrder,
};

use crate::{
    timing::{ORPHAN_AFTER, PATIENCE},
    world::{MIB, World, admission, id, spec},
};

fn constraint(attribute: &str, value: &str) -> Constraint {
    Constraint {
        attribute: attribute.to_owned(),
        operator: ConstraintOperator::Equal,
        value: value.to_owned(),
    }
}

#[test]
fn a_service_gets_its_replicas_spread_evenly_in_one_round() {
    let mut world = World::new(3);
    let service = world.create(spec("web", 6));
    let plan = world.step();
    assert_eq!(plan.commands.len(), 6);
    assert!(world.claims(service).iter().all(|task| task.status.state == TaskState::Assigned));
    world.live();
    assert_eq!(world.spread(service), [2, 2, 2]);
    assert_eq!(world.slots(service), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn scaling_up_fills_the_lowest_free_slots_where_there_is_least() {
    let mut world = World::new(3);
    let service = world.create(spec("web", 4));
    world.live();
    world.scale(service, 6);
    world.live();
    assert_eq!(world.spread(service), [2, 2, 2]);
    assert_eq!(world.slots(service), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn scaling_down_keeps_the_spread_even_and_leaves_no_history() {
    let mut world = World::new(3);
    let service = world.create(spec("web", 9));
    world.live();
    for replicas in [6, 3, 0] {
        world.scale(service, replicas);
        world.live();
        let each = usize::try_from(replicas / 3).unwrap();
        assert_eq!(world.spread(service), [each; 3]);
        assert_eq!(world.state.tasks().len(), usize::try_from(replicas).unwrap());
    }
}

#[test]
fn scaling_down_takes_what_does_not_run_first() {
    let mut world = World::new(3);
    let service = world.create(spec("web", 3));
    world.live();
    let second = world.claims(service)[1].clone();
    world.report(&second, TaskState::Failed);
    world.scale(service, 2);
    world.live();
    assert_eq!(world.slots(service), [1, 3]);
}

#[test]
fn a_slot_scaled_away_and_back_is_filled_when_its_old_task_has_ended() {
    let mut world = World::new(1);
    let service = world.create(spec("web", 1));
    world.live();
    world.scale(service, 0);
    world.settle();
    world.scale(service, 1);
    world.settle();
    assert_eq!(world.claims(service).len(), 0, "the old task still runs");
    world.live();
    assert_eq!(world.slots(service), [1]);
}

#[test]
fn the_tasks_of_a_removed_service_stop_and_are_forgotten() {
    let mut world = World::new(2);
    let service = world.create(spec("web", 4));
    world.live();
    world.apply(vec![Command::RemoveService { id: service }]);
    world.settle();
    assert_eq!(world.alive(service).len(), 4);
    assert!(world.alive(service).iter().all(|task| task.desired == DesiredState::Remove));
    world.live();
    assert!(world.state.tasks().is_empty());
}

#[test]
fn the_tasks_of_a_lost_board_are_replaced_in_the_plan_that_finds_it_down() {
    let mut world = World::new(3);
    let service = world.create(spec("web", 6));
    world.live();
    world.lose(2);
    world.step();
    assert_eq!(world.node_state(2), NodeState::Down);
    let claims = world.claims(service);
    assert_eq!(claims.len(), 6);
    assert!(claims.iter().all(|task| task.node != Some(id(2))));
    world.live();
    assert_eq!(world.spread(service), [3, 0, 3]);
}

#[test]
fn a_returning_board_is_told_to_stop_what_runs_elsewhere_by_now() {
    let mut world = World::new(2);
    let service = world.create(spec("web", 2));
    world.live();
    world.lose(2);
    world.live();
    world.hear(2);
    let orders = crate::assignment(&world.state, id(2), 1);
    assert_eq!(orders.tasks.len(), 1);
    assert_eq!(orders.tasks[0].desired, DesiredState::Shutdown);
    world.live();
    assert_eq!(world.alive(service).len(), 2);
}

#[test]
fn restart_condition_none_does_not_keep_a_task_from_leaving_a_lost_board() {
    let mut world = World::new(2);
    let mut job = spec("web", 2);
    Arc::make_mut(&mut job.task).restart.condition = bramble_cluster::RestartCondition::None;
    let service = world.create(job);
    world.live();
    world.lose(2);
    world.live();
    assert_eq!(world.spread(service), [2, 0]);
}

#[test]
fn a_drained_board_becomes_empty_and_its_tasks_run_elsewhere_before_they_stop() {
    let mut world = World::new(3);
    let service = world.create(spec("web", 6));
    world.live();
    world.drain(2);
    world.settle();
    let on_drained: Vec<_> =
        world.alive(service).into_iter().filter(|task| task.node == Some(id(2))).collect();
    assert_eq!(on_drained.len(), 2, "they run until their successors do");
    assert!(on_drained.iter().all(|task| task.desired == DesiredState::Running));
    assert_eq!(world.alive(service).len(), 8);
    world.live();
    assert_eq!(world.spread(service), [3, 0, 3]);
    assert_eq!(world.alive(service).len(), 6);
}

#[test]
fn a_single_replica_never_overlaps_with_its_successor_unless_updates_start_first() {
    for order in [UpdateOrder::StopFirst, UpdateOrder::StartFirst] {
        let mut world = World::new(2);
        let mut single = spec("db", 1);
        single.update.order = order;
        let service = world.create(single);
        world.live();
        let host = world.claims(service)[0].node.unwrap();
        world.drain(host.bits());
        world.settle();
        let alive = world.alive(service).len();
        assert_eq!(alive, if order == UpdateOrder::StartFirst { 2 } else { 1 });
        world.live();
        assert_eq!(world.alive(service).len(), 1);
        assert_ne!(world.claims(service)[0].node, Some(host));
    }
}

#[test]
fn a_drained_board_becomes_empty_even_if_there_is_no_other() {
    let mut world = World::new(1);
    let service = world.create(spec("web", 2));
    world.live();
    world.drain(1);
    world.live();
    assert_eq!(world.alive(service).len(), 0);
    let waiting = world.claims(service);
    assert_eq!(waiting.len(), 2);
    assert_eq!(waiting[0].status.error, "no suitable board: 1 drained");
}

#[test]
fn a_drained_board_waits_only_so_long_for_a_successor_to_run() {
    let mut world = World::new(2);
    let service = world.create(spec("web", 2));
    world.live();
    world.drain(2);
    world.settle();
    assert_eq!(world.alive(service).len(), 3);
    world.pass(PATIENCE);
    world.settle();
    let leaving = world.alive(service).into_iter().find(|task| task.node == Some(id(2))).unwrap();
    assert_eq!(leaving.desired, DesiredState::Shutdown);
}

#[test]
fn a_board_that_says_goodbye_is_replaced_before_it_goes() {
    let mut world = World::new(3);
    let service = world.create(spec("web", 6));
    world.live();
    world.leave(3);
    world.settle();
    let running = |world: &World| world.spread(service).iter().sum::<usize>();
    assert_eq!(running(&world), 6, "none has stopped");
    world.work();
    assert!(running(&world) >= 6);
    world.live();
    assert_eq!(world.spread(service), [3, 3, 0]);
}

#[test]
fn a_board_that_leaves_keeps_what_has_no_other_place() {
    let mut world = World::new(1);
    let service = world.create(spec("web", 2));
    world.live();
    world.leave(1);
    world.live();
    assert_eq!(world.spread(service), [2]);
}

#[test]
fn a_paused_board_keeps_its_tasks_and_takes_no_more() {
    let mut world = World::new(2);
    let service = world.create(spec("web", 2));
    world.live();
    world.change_node(2, |spec| spec.availability = Availability::Pause);
    world.scale(service, 4);
    world.live();
    assert_eq!(world.spread(service), [3, 1]);
}

#[test]
fn a_task_leaves_a_board_whose_labels_no_longer_meet_its_constraints() {
    let mut world = World::new(2);
    world.label(2, "room", "kitchen");
    let mut service = spec("web", 2);
    Arc::make_mut(&mut service.task)
        .placement
        .constraints
        .push(constraint("node.labels.room", "kitchen"));
    let service = world.create(service);
    world.live();
    assert_eq!(world.spread(service), [0, 2]);
    world.label(1, "room", "kitchen");
    world.label(2, "room", "attic");
    world.live();
    assert_eq!(world.spread(service), [2, 0]);
}

#[test]
fn a_removed_boards_tasks_are_orphaned_and_replaced() {
    let mut world = World::new(3);
    let service = world.create(spec("web", 3));
    world.live();
    world.apply(vec![Command::RemoveNode { id: id(3), is_forced: true }]);
    world.heard.contacts.remove(&id(3));
    world.live();
    assert_eq!(world.spread(service), [2, 1]);
}

#[test]
fn tasks_are_given_up_when_their_board_was_down_for_a_day() {
    let mut world = World::new(2);
    let service = world.create(spec("web", 2));
    world.live();
    world.lose(2);
    world.live();
    let lost = world.state.tasks_on(id(2)).find(|task| task.service == service).unwrap().clone();
    assert_eq!(lost.status.state, TaskState::Running, "nobody knows better");
    world.pass(ORPHAN_AFTER);
    world.live();
    assert_eq!(world.state.task(lost.id).unwrap().status.state, TaskState::Orphaned);
    assert!(crate::assignment(&world.state, id(2), 1).tasks.is_empty());
}

fn global(world: &mut World) -> bramble_cluster::ServiceId {
    let mut everywhere = spec("agent", 0);
    everywhere.mode = ServiceMode::Global;
    world.create(everywhere)
}

#[test]
fn a_global_service_runs_once_on_every_board_and_on_those_that_join() {
    let mut world = World::new(2);
    let service = global(&mut world);
    world.live();
    assert_eq!(world.spread(service), [1, 1]);
    world.apply(vec![Command::AdmitNode(Box::new(admission(3)))]);
    world.live();
    assert_eq!(world.spread(service), [1, 1, 0]);
    world.hear(3);
    world.live();
    assert_eq!(world.spread(service), [1, 1, 1]);
}

#[test]
fn a_global_service_leaves_a_drained_board_and_comes_back() {
    let mut world = World::new(2);
    let service = global(&mut world);
    world.live();
    world.drain(2);
    world.live();
    assert_eq!(world.spread(service), [1, 0]);
    world.change_node(2, |spec| spec.availability = Availability::Active);
    world.live();
    assert_eq!(world.spread(service), [1, 1]);
}

#[test]
fn a_board_that_was_cut_off_goes_on_with_its_global_tasks() {
    let mut world = World::new(2);
    let service = global(&mut world);
    world.live();
    let before = world.claims(service);
    world.lose(2);
    world.live();
    world.hear(2);
    world.live();
    let ids =
        |tasks: &[Arc<bramble_cluster::Task>]| tasks.iter().map(|task| task.id).collect::<Vec<_>>();
    assert_eq!(ids(&before), ids(&world.claims(service)));
}

#[test]
fn a_global_task_without_room_waits_and_says_why() {
    let mut world = World::new(2);
    let mut big = spec("big", 0);
    big.mode = ServiceMode::Global;
    Arc::make_mut(&mut big.task).resources.reserved_memory_bytes = 2048 * MIB;
    let service = world.create(big);
    world.live();
    for task in world.claims(service) {
        assert!(matches!(task.slot, Slot::Node(_)));
        assert_eq!(
            task.status.error,
            "no suitable board: memory: 1 board full (needs 2 GiB, 1 GiB free)"
        );
    }
}

#[test]
fn a_task_that_ended_by_itself_is_replaced_after_a_tenth_of_a_second() {
    let mut world = World::new(2);
    let service = world.create(spec("web", 1));
    world.live();
    let task = world.claims(service)[0].clone();
    world.report(&task, TaskState::Failed);
    world.settle();
    assert_eq!(world.claims(service)[0].id, task.id);
    let wake = world.plan().wake_at.unwrap();
    assert_eq!(wake, world.now + Duration::from_millis(100));
    world.pass(Duration::from_millis(100));
    world.step();
    let next = world.claims(service)[0].clone();
    assert_ne!(next.id, task.id);
    assert_eq!((next.cause, next.slot), (TaskCause::Restarted, task.slot));
    assert_eq!(next.status.state, TaskState::Assigned);
    assert_eq!(world.state.task(task.id).unwrap().desired, DesiredState::Shutdown);
}

#[test]
fn what_follows_from_a_stale_service_is_refused_and_planned_again() {
    let mut world = World::new(1);
    let service = world.create(spec("web", 1));
    let plan = world.plan();
    world.scale(service, 2);
    let entry = bramble_cluster::Entry { at: world.now, commands: plan.commands };
    let outcomes = world.state.apply(&entry);
    assert!(matches!(outcomes[0], Err(bramble_cluster::Rejection::Stale { .. })), "{outcomes:?}");
    world.live();
    assert_eq!(world.spread(service), [2]);
}
