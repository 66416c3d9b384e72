use std::{collections::BTreeSet, time::Duration};

use bramble_cluster::{Command, NodeId, Role};

use crate::world::{World, admission, id};

fn ids(numbers: &[u128]) -> BTreeSet<NodeId> {
    numbers.iter().map(|number| id(*number)).collect()
}

fn remove(world: &mut World, number: u128) {
    world.apply(vec![Command::RemoveNode { id: id(number), is_forced: true }]);
    world.heard.contacts.remove(&id(number));
    world.settle();
}

#[test]
fn one_votes_of_one_or_two_three_from_three_five_from_seven() {
    for (boards, voters) in [(1, 1), (2, 1), (3, 3), (4, 3), (6, 3), (7, 5), (9, 5)] {
        let world = World::new(boards);
        assert_eq!(world.heard.voters.len(), voters, "of {boards}");
        assert!(world.heard.voters.contains(&id(1)), "the leader stays");
    }
}

#[test]
fn roles_follow_who_votes() {
    let world = World::new(4);
    for node in world.state.nodes().values() {
        let is_voter = world.heard.voters.contains(&node.id);
        assert_eq!(node.role == Role::Manager, is_voter);
    }
}

#[test]
fn a_voter_that_is_down_is_replaced_once_and_not_put_back() {
    let mut world = World::new(4);
    assert_eq!(world.heard.voters, ids(&[1, 2, 3]));
    world.lose(2);
    let plan = world.step();
    assert_eq!(plan.voters, Some(ids(&[1, 3, 4])));
    assert!(plan.reasons.iter().any(|reason| reason.text == "pi-4 votes instead of pi-2"));
    world.settle();
    world.hear(2);
    world.settle();
    assert_eq!(world.heard.voters, ids(&[1, 3, 4]));
}

#[test]
fn a_voter_that_is_down_keeps_its_vote_while_there_is_nobody_else() {
    let mut world = World::new(3);
    world.lose(2);
    world.settle();
    assert_eq!(world.heard.voters, ids(&[1, 2, 3]));
}

#[test]
fn a_cluster_grows_to_three_voters_only_when_three_are_there() {
    let mut world = World::new(2);
    world.apply(vec![Command::AdmitNode(Box::new(admission(3)))]);
    world.settle();
    assert_eq!(world.heard.voters, ids(&[1]), "the third has not opened a session");
    world.hear(3);
    world.settle();
    assert_eq!(world.heard.voters, ids(&[1, 2, 3]));
}

#[test]
fn a_cluster_shrinks_to_one_voter_when_boards_are_removed() {
    let mut world = World::new(3);
    remove(&mut world, 3);
    assert_eq!(world.heard.voters, ids(&[1]));
}

#[test]
fn nobody_is_voted_in_or_out_while_that_would_lose_the_quorum() {
    let mut world = World::new(3);
    world.lose(2);
    world.lose(3);
    world.apply(vec![Command::AdmitNode(Box::new(admission(4)))]);
    world.hear(4);
    let plan = world.step();
    assert_eq!(plan.voters, None, "one of three can not decide it");
}

#[test]
fn a_pinned_manager_votes_and_a_pinned_worker_does_not() {
    let mut world = World::new(4);
    world.change_node(4, |spec| spec.role = Some(Role::Manager));
    world.settle();
    assert!(world.heard.voters.contains(&id(4)));
    assert_eq!(world.heard.voters.len(), 3);
    world.change_node(4, |spec| spec.role = Some(Role::Worker));
    world.settle();
    assert_eq!(world.heard.voters, ids(&[1, 2, 3]));
    world.change_node(1, |spec| spec.role = Some(Role::Worker));
    world.settle();
    assert_eq!(world.heard.voters, ids(&[2]), "only two are left that may");
}

#[test]
fn two_boards_vote_both_only_if_a_person_pins_both() {
    let mut world = World::new(2);
    for board in [1, 2] {
        world.change_node(board, |spec| spec.role = Some(Role::Manager));
    }
    world.settle();
    assert_eq!(world.heard.voters, ids(&[1, 2]));
}

#[test]
fn the_last_voter_keeps_its_vote_even_if_pinned_as_worker() {
    let mut world = World::new(1);
    world.change_node(1, |spec| spec.role = Some(Role::Worker));
    world.settle();
    assert_eq!(world.heard.voters, ids(&[1]));
}

#[test]
fn a_pinned_manager_that_is_down_is_replaced_as_any_other_and_comes_back() {
    let mut world = World::new(4);
    world.change_node(2, |spec| spec.role = Some(Role::Manager));
    world.lose(2);
    world.settle();
    assert_eq!(world.heard.voters, ids(&[1, 3, 4]));
    world.hear(2);
    world.settle();
    assert!(world.heard.voters.contains(&id(2)));
}

#[test]
fn voters_do_not_change_for_no_reason() {
    let mut world = World::new(9);
    let before = world.heard.voters.clone();
    world.drain(1);
    world.pass(Duration::from_secs(100));
    world.live();
    assert_eq!(world.heard.voters, before);
}

#[test]
fn without_knowing_who_votes_nothing_is_changed() {
    let mut world = World::new(3);
    world.heard.voters.clear();
    assert!(world.plan().is_empty());
}
