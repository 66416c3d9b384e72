//! The leader is lost, by a kill or by its cable.

use std::time::{Duration, Instant};

use crate::board::{Boards, missing, node, wait_until};

/// Longer than an election takes: the lease and the longest time-out, with the flushes of two votes
/// on a busy machine.
const ELECTION: Duration = Duration::from_millis(1_500);

#[test]
fn a_killed_leader_is_replaced_and_comes_back_as_a_follower() {
    let mut boards = Boards::managing(3);
    for service in 0..20 {
        boards.create(service % 3, service);
    }
    let leader = boards.await_leader();
    let term = boards.leadership(leader).term;
    boards.kill(leader);
    let began = Instant::now();
    let successor = boards.await_leader();
    println!("a killed leader was replaced after {:?}", began.elapsed());
    assert!(began.elapsed() < ELECTION, "{:?}", began.elapsed());
    let seen = boards.leadership(successor);
    assert!(seen.term > term);
    assert_eq!(seen.former_leader, Some(node(leader)));
    assert!(missing(&boards.state(successor), 0..20).is_empty());
    boards.create(successor, 20);
    boards.start(leader);
    boards.await_all([leader], "it follows", |_, it| it.leader == Some(node(successor)));
    let state = boards.await_agreement(0..3);
    assert!(missing(&state, 0..21).is_empty());
}

#[test]
fn a_leader_whose_cable_is_pulled_notices_and_is_replaced() {
    let boards = Boards::managing(3);
    let leader = boards.await_leader();
    boards.fabric.cut(node(leader));
    let began = Instant::now();
    wait_until("the old leader knows", || !boards.leadership(leader).is_leader_here);
    println!("the cut leader stopped leading after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(1));
    wait_until("there is another", || boards.leader().is_some_and(|it| it != leader));
    println!("a cut leader was replaced after {:?}", began.elapsed());
    assert!(began.elapsed() < ELECTION, "{:?}", began.elapsed());
    let successor = boards.await_leader();
    boards.create(successor, 1);
    boards.fabric.heal(node(leader));
    let began = Instant::now();
    boards.await_all([leader], "it follows", |_, it| it.leader == Some(node(successor)));
    println!("the healed board followed after {:?}", began.elapsed());
    assert!(missing(&boards.await_agreement(0..3), [1]).is_empty());
    // Through the board that came back.
    boards.create(leader, 2);
}

#[test]
fn ten_elections_in_a_row_stay_in_time() {
    let mut boards = Boards::managing(3);
    let mut slowest = Duration::ZERO;
    for round in 0..10 {
        let leader = boards.await_leader();
        boards.kill(leader);
        let began = Instant::now();
        let successor = boards.await_leader();
        slowest = slowest.max(began.elapsed());
        boards.create(successor, round);
        boards.start(leader);
        boards.await_all([leader], "it follows", |_, it| it.leader.is_some());
        boards.await_agreement(0..3);
    }
    println!("the slowest of ten elections took {slowest:?}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
}

#[test]
fn a_follower_that_was_cut_off_does_not_disturb_the_leader() {
    let boards = Boards::managing(3);
    let leader = boards.await_leader();
    let term = boards.leadership(leader).term;
    let follower = (leader + 1) % 3;
    boards.fabric.cut(node(follower));
    std::thread::sleep(Duration::from_secs(3));
    boards.create(leader, 1);
    boards.fabric.heal(node(follower));
    boards.await_all([follower], "it follows", |_, it| it.leader == Some(node(leader)));
    boards.await_agreement(0..3);
    std::thread::sleep(Duration::from_secs(1));
    let seen = boards.leadership(leader);
    assert!(seen.is_leader_here && seen.term == term, "{seen:?}");
}

#[test]
fn three_boards_agree_in_milliseconds() {
    let boards = Boards::managing(3);
    let leader = boards.await_leader();
    for through in [leader, (leader + 1) % 3] {
        let began = Instant::now();
        for service in 0..100 {
            boards.create(through, through * 100 + service);
        }
        let each = began.elapsed() / 100;
        let how = if through == leader { "through the leader" } else { "through a follower" };
        println!("a commit of three boards {how}: {each:?}");
        assert!(each < Duration::from_millis(50), "{each:?}");
    }
}

#[test]
fn a_leader_that_shuts_down_in_good_order_leaves_no_gap() {
    let mut boards = Boards::managing(3);
    let leader = boards.await_leader();
    boards.create(leader, 1);
    boards.shut_down(leader);
    let began = Instant::now();
    let successor = boards.await_leader();
    println!("a leader that shut down was replaced after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
    boards.create(successor, 2);
    boards.start(leader);
    assert!(missing(&boards.await_agreement(0..3), [1, 2]).is_empty());
}
