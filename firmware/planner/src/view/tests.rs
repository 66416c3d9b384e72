use std::{sync::Arc, time::Duration};

use bramble_cluster::{
    Availability, Command, NodeState, OnPartition, ServiceId, ServiceSpec, TaskState, UpdateOrder,
    Version,
};

use crate::{
    assignment,
    timing::{DOWN_AFTER, SUSPECT_AFTER},
    world::{World, id, spec},
};

/// A service whose tasks must not run twice.
fn bound(name: &str, replicas: u32) -> ServiceSpec {
    let mut spec = spec(name, replicas);
    Arc::make_mut(&mut spec.task).on_partition = OnPartition::Stop;
    spec
}

/// The numbers of the boards that the service's tasks should run on.
fn places(world: &World, service: ServiceId) -> Vec<u128> {
    let nodes = world.claims(service).into_iter().filter_map(|task| task.node);
    let mut places: Vec<u128> = nodes.map(|node| node.bits()).collect();
    places.sort_unstable();
    places
}

#[test]
fn what_must_not_run_twice_is_replaced_only_once_the_log_says_that_its_board_is_down() {
    let mut world = World::new(2);
    let service = world.create(bound("web", 2));
    world.live();
    world.lose(2);
    world.step();
    assert_eq!(world.state.node(id(2)).unwrap().status.state, NodeState::Down);
    assert_eq!(places(&world, service), [1, 2], "replaced by the plan that found the board down");
    world.settle();
    assert_eq!(places(&world, service), [1, 1]);
}

#[test]
fn what_may_run_twice_is_replaced_by_the_plan_that_finds_its_board_down() {
    let mut world = World::new(2);
    let service = world.create(spec("web", 2));
    world.live();
    world.lose(2);
    world.step();
    assert_eq!(places(&world, service), [1, 1]);
}

#[test]
fn a_board_that_returned_while_its_end_was_agreed_on_keeps_what_must_not_run_twice() {
    let mut world = World::new(2);
    let service = world.create(bound("web", 2));
    world.live();
    world.lose(2);
    world.step();
    world.hear(2);
    world.live();
    assert_eq!(world.spread(service), [1, 1]);
    assert_eq!(world.state.tasks().len(), 2, "nothing was replaced");
}

#[test]
fn the_former_leaders_board_has_the_rest_of_its_time_to_stop_what_must_not_run_twice() {
    let mut world = World::new(3);
    let service = world.create(bound("web", 3));
    world.live();
    world.heard.leader = id(2);
    world.heard.leading_since = world.now;
    world.heard.former_leader = Some(id(1));
    world.heard.contacts.remove(&id(1));
    world.pass(SUSPECT_AFTER);
    world.settle();
    assert_eq!(world.state.node(id(1)).unwrap().status.state, NodeState::Down);
    assert_eq!(world.spread(service), [1, 1, 1]);
    let rest = DOWN_AFTER - SUSPECT_AFTER;
    assert_eq!(world.plan().wake_at.map(|at| at.since(world.now) <= rest), Some(true));
    world.pass(rest);
    world.live();
    assert_eq!(world.spread(service)[0], 0);
}

#[test]
fn a_new_leader_does_not_trust_the_last_ones_word_that_a_board_has_stopped() {
    let mut world = World::new(3);
    let service = world.create(bound("web", 3));
    world.live();
    world.lose(3);
    world.step();
    assert_eq!(world.state.node(id(3)).unwrap().status.state, NodeState::Down);
    world.heard.leader = id(2);
    world.heard.former_leader = Some(id(1));
    world.heard.leading_since = world.now;
    world.hear(1);
    world.hear(2);
    world.heard.contacts.remove(&id(3));
    world.settle();
    assert_eq!(places(&world, service), [1, 2, 3], "the last leader may have just heard it again");
    world.pass(DOWN_AFTER);
    world.settle();
    assert!(!places(&world, service).contains(&3));
}

#[test]
fn a_board_that_is_down_must_not_start_what_must_not_run_twice() {
    for (on_partition, may_run) in [(OnPartition::Stop, 1), (OnPartition::Keep, 2)] {
        let mut world = World::new(1);
        let mut spec = spec("web", 2);
        Arc::make_mut(&mut spec.task).on_partition = on_partition;
        let service = world.create(spec);
        world.settle();
        let first = world.claims(service)[0].clone();
        world.report(&first, TaskState::Running);
        let (id, version, message) = (id(1), Version(0), String::new());
        for (state, may_run) in [(NodeState::Down, may_run), (NodeState::Ready, 2)] {
            let message = message.clone();
            world.apply(vec![Command::SetNodeState { id, version, state, message }]);
            let tasks = assignment(&world.state, id, 1).tasks;
            assert_eq!(tasks.len(), 2, "what is not named is taken away, and it may have started");
            let free: Vec<_> = tasks.iter().filter(|task| !task.is_withheld).collect();
            assert_eq!(free.len(), may_run, "{on_partition:?} {state:?}");
            assert!(free.iter().any(|task| task.id == first.id), "it runs already");
        }
    }
}

#[test]
fn what_must_not_run_twice_leaves_a_drained_board_stop_first() {
    for (order, both) in [(UpdateOrder::StopFirst, false), (UpdateOrder::StartFirst, true)] {
        let mut world = World::new(2);
        let mut spec = bound("web", 2);
        spec.update.order = order;
        let service = world.create(spec);
        world.live();
        world.change_node(2, |spec| spec.availability = Availability::Drain);
        world.settle();
        assert_eq!(world.claims(service).len(), if both { 3 } else { 1 }, "{order:?}");
        world.live();
        assert_eq!(world.spread(service), [2, 0]);
    }
}

#[test]
fn what_must_not_run_twice_is_not_moved_for_balance() {
    let mut world = World::new(2);
    let service = world.create(bound("web", 4));
    world.live();
    world.change_node(2, |spec| spec.availability = Availability::Drain);
    world.live();
    world.change_node(2, |spec| spec.availability = Availability::Active);
    world.live_for(Duration::from_secs(120));
    assert_eq!(world.spread(service), [4, 0]);
}
