use std::time::Duration;

use bramble_cluster::{NodeState, OnPartition, TaskState, Timestamp};

use crate::{
    timing::{DOWN_AFTER, HEARTBEAT, LEADER_GRACE, SUSPECT_AFTER},
    world::{World, id, spec},
};

/// A new leader, `pi-1`, that has heard of nobody but itself; `pi-2` led before.
fn deposed(boards: u128) -> World {
    let mut world = World::new(boards);
    world.heard.leading_since = world.now;
    world.heard.former_leader = Some(id(2));
    world.heard.contacts.clear();
    world.hear(1);
    world
}

fn step_to(world: &mut World, instant: Timestamp) {
    world.now = instant;
    world.hear(1);
    world.settle();
}

#[test]
fn a_board_is_down_when_it_was_not_heard_of_for_long_enough_and_not_before() {
    let mut world = World::new(2);
    let last_heard = world.now;
    world.heard.contacts.get_mut(&id(2)).unwrap().is_connected = false;
    world.pass(DOWN_AFTER - Duration::from_millis(1));
    let plan = world.plan();
    assert!(plan.is_empty());
    assert_eq!(plan.wake_at, Some(last_heard + DOWN_AFTER), "it asks to be woken in time");
    world.pass(Duration::from_millis(1));
    world.settle();
    assert_eq!(world.node_state(2), NodeState::Down);
    let message = &world.state.node(id(2)).unwrap().status.message;
    assert_eq!(message, "not heard of for 1.5 s");
}

#[test]
fn a_board_is_ready_again_as_soon_as_it_is_heard_of() {
    let mut world = World::new(2);
    world.lose(2);
    world.settle();
    assert_eq!(world.node_state(2), NodeState::Down);
    world.hear(2);
    world.settle();
    assert_eq!(world.node_state(2), NodeState::Ready);
    assert_eq!(world.state.node(id(2)).unwrap().status.message, "");
}

#[test]
fn a_cut_session_alone_does_not_make_a_board_down() {
    let mut world = World::new(2);
    world.heard.contacts.get_mut(&id(2)).unwrap().is_connected = false;
    world.pass(HEARTBEAT);
    assert!(world.plan().is_empty());
}

#[test]
fn a_new_leader_suspects_the_former_leaders_board_first() {
    let mut world = deposed(3);
    let start = world.now;
    step_to(&mut world, start + SUSPECT_AFTER - Duration::from_millis(1));
    assert_eq!(world.node_state(2), NodeState::Ready);
    step_to(&mut world, start + SUSPECT_AFTER);
    assert_eq!(world.node_state(2), NodeState::Down);
    assert_eq!(world.node_state(3), NodeState::Ready, "the others still have to find the leader");
    step_to(&mut world, start + LEADER_GRACE - Duration::from_millis(1));
    assert_eq!(world.node_state(3), NodeState::Ready);
    step_to(&mut world, start + LEADER_GRACE);
    assert_eq!(world.node_state(3), NodeState::Down);
}

#[test]
fn the_former_leaders_board_is_not_suspected_once_it_made_contact() {
    let mut world = deposed(3);
    world.now = world.now + HEARTBEAT;
    world.hear(2);
    let start = world.heard.leading_since;
    step_to(&mut world, start + SUSPECT_AFTER + HEARTBEAT);
    assert_eq!(world.node_state(2), NodeState::Ready);
}

#[test]
fn what_was_heard_before_this_leadership_does_not_count() {
    let mut world = deposed(2);
    world.hear(2);
    world.heard.contacts.get_mut(&id(2)).unwrap().last_heard =
        world.heard.leading_since - Duration::from_millis(1);
    let start = world.now;
    step_to(&mut world, start + SUSPECT_AFTER);
    assert_eq!(world.node_state(2), NodeState::Down);
}

#[test]
fn a_board_without_a_session_yet_is_not_called_down() {
    let mut world = World::new(1);
    world.apply(vec![bramble_cluster::Command::AdmitNode(Box::new(crate::world::admission(2)))]);
    world.pass(LEADER_GRACE * 10);
    world.settle();
    assert_eq!(world.node_state(2), NodeState::Unknown);
}

#[test]
fn the_leader_never_calls_its_own_board_down() {
    let mut world = World::new(2);
    world.lose(1);
    world.settle();
    assert_eq!(world.node_state(1), NodeState::Ready);
}

#[test]
fn what_must_not_run_twice_waits_until_a_suspected_board_has_stopped_it() {
    let mut world = World::new(2);
    let mut once = spec("once", 1);
    std::sync::Arc::make_mut(&mut once.task).on_partition = OnPartition::Stop;
    once.task = {
        let mut task = (*once.task).clone();
        task.placement.constraints = vec![constraint("node.hostname", "pi-2")];
        std::sync::Arc::new(task)
    };
    let service = world.create(once);
    world.live();
    world.change_task(service, |task| task.placement.constraints.clear());
    world.live();
    assert_eq!(world.spread(service), [0, 1]);
    world.heard.leading_since = world.now;
    world.heard.former_leader = Some(id(2));
    world.heard.contacts.clear();
    world.hear(1);
    let start = world.now;
    step_to(&mut world, start + SUSPECT_AFTER);
    assert_eq!(world.node_state(2), NodeState::Down);
    assert_eq!(world.alive(service).len(), 1, "nothing is started yet");
    assert_eq!(world.alive(service)[0].desired, bramble_cluster::DesiredState::Running);
    assert!(world.plan().wake_at.is_some_and(|wake| wake <= start + DOWN_AFTER));
    step_to(&mut world, start + DOWN_AFTER);
    assert_eq!(world.claims(service)[0].node, Some(id(1)));
    assert_eq!(world.claims(service)[0].status.state, TaskState::Assigned);
}

fn constraint(attribute: &str, value: &str) -> bramble_cluster::Constraint {
    bramble_cluster::Constraint {
        attribute: attribute.to_owned(),
        operator: bramble_cluster::ConstraintOperator::Equal,
        value: value.to_owned(),
    }
}
