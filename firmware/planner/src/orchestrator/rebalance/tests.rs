use std::time::Duration;

use bramble_cluster::{SpreadPreference, TaskCause, TaskState, UpdateOrder};

use crate::{
    timing::{REBALANCE_AFTER, REBALANCE_COOL_DOWN},
    world::{World, id, spec},
};

/// Board 2 of two lost, its tasks moved to board 1, and board 2 back.
fn returned(replicas: u32) -> (World, bramble_cluster::ServiceId) {
    let mut world = World::new(2);
    let service = world.create(spec("web", replicas));
    world.live();
    world.lose(2);
    world.live();
    world.hear(2);
    world.live();
    (world, service)
}

#[test]
fn a_returning_board_gets_nothing_until_it_has_proved_itself() {
    let (mut world, service) = returned(4);
    world.live_for(REBALANCE_AFTER - Duration::from_millis(500));
    assert_eq!(world.spread(service), [4, 0]);
}

#[test]
fn a_returning_board_gets_its_share_one_task_at_a_time() {
    let (mut world, service) = returned(4);
    world.live_for(REBALANCE_AFTER);
    assert_eq!(world.spread(service), [3, 1]);
    world.live_for(REBALANCE_COOL_DOWN - Duration::from_millis(500));
    assert_eq!(world.spread(service), [3, 1], "it cools down");
    world.live_for(Duration::from_millis(500));
    assert_eq!(world.spread(service), [2, 2]);
    let tasks = world.state.tasks().len();
    world.live_for(Duration::from_secs(120));
    assert_eq!(world.spread(service), [2, 2], "and it ends");
    assert_eq!(world.state.tasks().len(), tasks);
}

#[test]
fn a_move_for_balance_starts_before_it_stops() {
    let (mut world, service) = returned(4);
    world.pass(REBALANCE_AFTER);
    world.settle();
    assert_eq!(world.spread(service), [4, 0]);
    assert_eq!(world.alive(service).len(), 5);
    let moved = world.claims(service).into_iter().find(|task| task.cause == TaskCause::Balanced);
    assert_eq!(moved.unwrap().node, Some(id(2)));
}

#[test]
fn a_move_that_fails_is_given_up_and_the_board_left_alone() {
    let (mut world, service) = returned(4);
    world.pass(REBALANCE_AFTER);
    world.settle();
    let moved =
        world.claims(service).into_iter().find(|task| task.cause == TaskCause::Balanced).unwrap();
    world.report(&moved, TaskState::Rejected);
    world.live_for(Duration::from_secs(60));
    assert_eq!(world.spread(service), [4, 0]);
    assert_eq!(world.claims(service).len(), 4);
}

#[test]
fn a_single_replica_is_not_moved_for_balance_unless_it_may_overlap() {
    for (order, expected) in [(UpdateOrder::StopFirst, [2, 0]), (UpdateOrder::StartFirst, [1, 1])] {
        let mut world = World::new(2);
        world.drain(2);
        let services = ["a", "b"].map(|name| {
            let mut single = spec(name, 1);
            single.update.order = order;
            world.create(single)
        });
        world.live();
        world.change_node(2, |spec| spec.availability = bramble_cluster::Availability::Active);
        world.live_for(Duration::from_secs(60));
        let sum: Vec<usize> = (0..2)
            .map(|board| services.iter().map(|service| world.spread(*service)[board]).sum())
            .collect();
        assert_eq!(sum, expected);
    }
}

#[test]
fn boards_are_balanced_across_services_too() {
    let mut world = World::new(3);
    world.drain(3);
    let services = ["a", "b", "c"].map(|name| world.create(spec(name, 2)));
    world.live();
    world.change_node(3, |spec| spec.availability = bramble_cluster::Availability::Active);
    world.live_for(Duration::from_secs(60));
    let sum: Vec<usize> = (0..3)
        .map(|board| services.iter().map(|service| world.spread(*service)[board]).sum())
        .collect();
    assert_eq!(sum, [2, 2, 2]);
    for service in services {
        assert!(world.spread(service).iter().all(|count| *count <= 1), "none is doubled up");
    }
}

#[test]
fn balance_never_works_against_a_preference() {
    let mut world = World::new(3);
    for (board, room) in [(1, "attic"), (2, "attic"), (3, "cellar")] {
        world.label(board, "room", room);
    }
    let mut web = spec("web", 4);
    std::sync::Arc::make_mut(&mut web.task)
        .placement
        .preferences
        .push(SpreadPreference { attribute: "node.labels.room".to_owned() });
    let service = world.create(web);
    world.live();
    assert_eq!(world.spread(service), [1, 1, 2]);
    world.live_for(Duration::from_secs(60));
    assert_eq!(world.spread(service), [1, 1, 2]);
}
