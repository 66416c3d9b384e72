//! Too few managers answer.

use std::time::{Duration, Instant};

use bramble_manager::consensus::ProposeError;

use crate::board::{Boards, creation, missing, node, wait_until};

/// A proposal fails at once, in the operator's words.
fn assert_no_quorum(boards: &Boards, through: usize, service: usize) {
    let began = Instant::now();
    let error = boards.propose(through, creation(service)).expect_err("there is no quorum");
    println!("refused after {:?}: {error}", began.elapsed());
    assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", began.elapsed());
    assert_eq!(error.to_string(), "no quorum: 1 of 3 managers reachable");
}

#[test]
fn a_leader_left_alone_refuses_at_once_and_still_says_what_it_knows() {
    let mut boards = Boards::managing(3);
    let leader = boards.await_leader();
    boards.create(leader, 1);
    for other in (0..3).filter(|it| *it != leader) {
        boards.kill(other);
    }
    wait_until("it knows that it is alone", || {
        boards.leadership(leader).reachable.len() == 1 && boards.leadership(leader).leader.is_none()
    });
    assert_no_quorum(&boards, leader, 2);
    let age = boards.leadership(leader).state_age();
    std::thread::sleep(Duration::from_millis(300));
    assert!(boards.leadership(leader).state_age() >= age + Duration::from_millis(300));
    assert!(missing(&boards.state(leader), [1]).is_empty(), "reads go on");
    let other = (leader + 1) % 3;
    boards.start(other);
    let began = Instant::now();
    wait_until("there is a quorum", || boards.leader().is_some());
    println!("a quorum again after {:?}", began.elapsed());
    let leader = boards.await_leader();
    boards.create(leader, 3);
    assert_eq!(boards.leadership(leader).state_age(), Duration::ZERO);
}

#[test]
fn a_follower_left_alone_refuses_at_once() {
    let mut boards = Boards::managing(3);
    let leader = boards.await_leader();
    boards.create(leader, 1);
    let alone = (leader + 1) % 3;
    boards.await_agreement(0..3);
    for other in (0..3).filter(|it| *it != alone) {
        boards.kill(other);
    }
    wait_until("it knows that it is alone", || {
        boards.leadership(alone).reachable.len() == 1 && boards.leadership(alone).leader.is_none()
    });
    assert_no_quorum(&boards, alone, 2);
    assert!(missing(&boards.state(alone), [1]).is_empty(), "reads go on");
    assert!(boards.leadership(alone).state_age() > Duration::ZERO);
}

#[test]
fn a_write_that_the_quorum_is_lost_under_fails_within_a_second_or_two() {
    let boards = Boards::managing(3);
    let leader = boards.await_leader();
    for other in (0..3).filter(|it| *it != leader) {
        boards.fabric.cut(node(other));
    }
    // The leader does not know yet and takes it.
    let began = Instant::now();
    let error = boards.propose(leader, creation(1)).expect_err("there is no quorum");
    println!("refused after {:?}: {error}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let expected = ProposeError::NoQuorum { reachable: 1, managers: 3, may_apply: true };
    assert_eq!(error, expected);
    for other in (0..3).filter(|it| *it != leader) {
        boards.fabric.heal(node(other));
    }
    let leader = boards.await_leader();
    boards.create(leader, 2);
    assert!(missing(&boards.await_agreement(0..3), [2]).is_empty());
}

#[test]
fn a_board_that_restarts_without_a_quorum_knows_what_it_knew() {
    let mut boards = Boards::managing(3);
    let leader = boards.await_leader();
    for service in 0..10 {
        boards.create(leader, service);
    }
    boards.await_agreement(0..3);
    let follower = (leader + 1) % 3;
    for board in 0..3 {
        boards.kill(board);
    }
    boards.start(follower);
    // All but what was last committed, which nothing followed to say so; one more if the follower
    // heard of that commit after the last item.
    assert!(missing(&boards.state(follower), 0..8).is_empty());
    assert!(boards.state(follower).cluster().is_some());
    std::thread::sleep(Duration::from_millis(100));
    assert!(boards.leadership(follower).quorum_lost.is_some());
}

#[test]
fn a_worker_proposes_through_whichever_manager_answers() {
    let mut boards = Boards::started(4);
    boards.found(0);
    boards.change_voters(0, 0..3).expect("the voters changed");
    let worker = 3;
    assert!(boards.consensus(worker).is_dormant());
    boards.create(worker, 1);
    let leader = boards.await_leader();
    boards.kill(leader);
    let successor = boards.await_leader();
    boards.create(worker, 2);
    assert!(missing(&boards.state(successor), [1, 2]).is_empty());
    for other in (0..3).filter(|it| *it != leader && *it != successor) {
        boards.kill(other);
    }
    wait_until("it knows that it is alone", || {
        boards.leadership(successor).leader.is_none()
            && boards.leadership(successor).reachable.len() == 1
    });
    assert_no_quorum(&boards, worker, 3);
}
