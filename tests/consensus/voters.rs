//! Who votes changes.

use std::{
    fs,
    time::{Duration, Instant},
};

use bramble_manager::consensus::{ELECTION, VotersError};

use crate::board::{Boards, missing, node, wait_until};

#[test]
fn a_dismissed_manager_forgets_its_log_and_may_come_back() {
    let boards = Boards::managing(3);
    let leader = boards.await_leader();
    boards.create(leader, 1);
    let demoted = (leader + 1) % 3;
    let others: Vec<usize> = (0..3).filter(|it| *it != demoted).collect();
    boards.change_voters(leader, others.clone()).expect("the voters changed");
    wait_until("it is dormant", || boards.consensus(demoted).is_dormant());
    wait_until("it has forgotten", || boards.state(demoted).cluster().is_none());
    assert!(!boards.folder(demoted).join("snapshot").exists());
    let kept: u64 = fs::read_dir(boards.folder(demoted).join("log"))
        .expect("the log's folder")
        .map(|file| file.expect("a file").metadata().expect("its size").len())
        .sum();
    assert!(kept <= 256 * 1024, "no more than a vote is kept, but {kept} bytes");
    boards.create(demoted, 2);
    boards.change_voters(leader, 0..3).expect("the voters changed");
    let state = boards.await_agreement(0..3);
    assert!(missing(&state, [1, 2]).is_empty());
    assert_eq!(boards.leadership(leader).voters.len(), 3);
}

/// The beginning of the log says that it votes alone. By that it led at once, the cluster's leader
/// stepped down for it, and so on for a minute.
#[test]
fn a_founder_that_is_taken_in_again_does_not_lead_by_the_beginning_of_its_log() {
    const ITEMS: usize = 50;
    let mut boards = Boards::started(3);
    boards.found(0);
    for service in 0..ITEMS {
        boards.create(0, service);
    }
    boards.change_voters(0, 0..3).expect("the voters changed");
    boards.change_voters(0, [1, 2]).expect("the voters changed");
    wait_until("it is dormant", || boards.consensus(0).is_dormant());
    let leader = boards.await_leader();
    let term = boards.leadership(leader).term;
    boards.fabric.slow_down(node(0));
    let (consensus, runtime) = boards.door(leader);
    let all = (0..3).map(node).collect();
    let taking_in = runtime.spawn(async move { consensus.change_voters(all).await });
    wait_until("it has the beginning", || boards.leadership(0).voters == [node(0)].into());
    boards.fabric.cut(node(0));
    for is_restarted in [false, true] {
        if is_restarted {
            boards.kill(0);
            boards.start(0);
        }
        std::thread::sleep(ELECTION.1 * 4);
        let seen = boards.leadership(0);
        assert_eq!(seen.voters, [node(0)].into(), "it still has no more");
        assert!(seen.leader != Some(node(0)) && seen.term <= term, "{seen:?}");
    }
    boards.fabric.heal(node(0));
    boards.fabric.speed_up(node(0));
    let _ = runtime.block_on(taking_in).expect("it ended");
    wait_until("it is a manager again", || boards.change_voters(leader, 0..3).is_ok());
    assert!(missing(&boards.await_agreement(0..3), 0..ITEMS).is_empty());
    assert_eq!(boards.leadership(leader).term, term, "nobody else led");

    // From now on it may lead as any other.
    boards.kill(3 - leader);
    boards.change_voters(leader, [0, leader]).expect("the voters changed");
    boards.change_voters(leader, [0]).expect("the voters changed");
    wait_until("it leads", || boards.leadership(0).is_leader_here);
    boards.kill(0);
    boards.start(0);
    wait_until("it leads again", || boards.leadership(0).is_leader_here);
}

#[test]
fn a_board_that_takes_over_alone_leads_and_leads_again_after_a_restart() {
    let mut boards = Boards::started(2);
    boards.found(0);
    boards.create(0, 1);
    boards.change_voters(0, [1]).expect("the voters changed");
    wait_until("it leads", || boards.leadership(1).is_leader_here);
    boards.kill(0);
    boards.kill(1);
    boards.start(1);
    wait_until("it leads again", || boards.leadership(1).is_leader_here);
    assert!(missing(&boards.state(1), [1]).is_empty());
}

#[test]
fn a_leader_that_is_dismissed_hands_over_first() {
    let boards = Boards::managing(3);
    let leader = boards.await_leader();
    let others: Vec<usize> = (0..3).filter(|it| *it != leader).collect();
    boards.change_voters(leader, others.clone()).expect("the voters changed");
    let began = Instant::now();
    wait_until("another leads", || boards.leader().is_some_and(|it| it != leader));
    println!("a dismissed leader was replaced after {:?}", began.elapsed());
    wait_until("it is dormant", || boards.consensus(leader).is_dormant());
    boards.create(leader, 1);
    assert!(missing(&boards.await_agreement(others), [1]).is_empty());
}

#[test]
fn a_manager_dismissed_while_it_was_away_learns_it_when_it_comes_back() {
    let mut boards = Boards::managing(3);
    let leader = boards.await_leader();
    let away = (leader + 1) % 3;
    boards.kill(away);
    let others: Vec<usize> = (0..3).filter(|it| *it != away).collect();
    boards.change_voters(leader, others).expect("the voters changed");
    let term = boards.leadership(leader).term;
    boards.start(away);
    assert!(!boards.consensus(away).is_dormant(), "it does not know yet");
    wait_until("it is dormant", || boards.consensus(away).is_dormant());
    let seen = boards.leadership(leader);
    assert!(seen.is_leader_here && seen.term == term, "{seen:?}");
}

#[test]
fn a_dead_manager_is_replaced_by_another_board() {
    let mut boards = Boards::started(4);
    boards.found(0);
    boards.change_voters(0, 0..3).expect("the voters changed");
    let leader = boards.await_leader();
    let dead = (leader + 1) % 3;
    boards.kill(dead);
    let began = Instant::now();
    let voters: Vec<usize> = (0..4).filter(|it| *it != dead).collect();
    boards.change_voters(leader, voters.clone()).expect("the voters changed");
    println!("a dead manager was replaced after {:?}", began.elapsed());
    boards.create(leader, 1);
    assert!(missing(&boards.await_agreement(voters), [1]).is_empty());
}

#[test]
fn a_voter_that_cannot_be_reached_is_not_made_one() {
    let boards = Boards::started(2);
    boards.found(0);
    boards.fabric.cut(node(1));
    let began = Instant::now();
    let refused = boards.change_voters(0, 0..2).expect_err("it does not answer");
    assert!(matches!(refused, VotersError::Lagging { .. }), "{refused}");
    assert!(began.elapsed() < Duration::from_secs(30));
    boards.create(0, 1);
    assert_eq!(boards.leadership(0).voters.len(), 1);
    boards.fabric.heal(node(1));
    boards.change_voters(0, 0..2).expect("now it does");
    boards.await_agreement(0..2);
}

#[test]
fn a_manager_that_lost_its_log_is_taken_in_again() {
    let mut boards = Boards::managing(3);
    let leader = boards.await_leader();
    for service in 0..10 {
        boards.create(leader, service);
    }
    let poor = (leader + 1) % 3;
    boards.kill(poor);
    fs::remove_dir_all(boards.folder(poor)).expect("removed");
    boards.start(poor);
    wait_until("its vote does not count any more", || boards.leadership(leader).voters.len() == 2);
    wait_until("it is a manager again", || match boards.change_voters(leader, 0..3) {
        Err(VotersError::Busy) => false,
        changed => changed.map(|()| true).expect("the voters changed"),
    });
    assert!(missing(&boards.await_agreement(0..3), 0..10).is_empty());
}

#[test]
fn only_the_leader_changes_the_voters() {
    let boards = Boards::managing(3);
    let follower = (boards.await_leader() + 1) % 3;
    let refused = boards.change_voters(follower, 0..2).expect_err("it does not lead");
    assert!(matches!(refused, VotersError::NotLeader), "{refused}");
    let leader = boards.await_leader();
    let refused = boards.change_voters(leader, []).expect_err("nobody would vote");
    assert!(matches!(refused, VotersError::Nobody), "{refused}");
}
