//! One board: founds, agrees with itself, comes back.

use std::time::{Duration, Instant};

use bramble_manager::consensus::{FoundError, LogError, StartError};

use crate::board::{Boards, founding, missing, wait_until};

#[test]
fn a_founder_leads_agrees_and_finds_everything_again() {
    let mut boards = Boards::started(1);
    assert!(boards.consensus(0).is_dormant());
    assert!(!boards.folder(0).exists(), "a dormant board has nothing on its disk");
    boards.found(0);
    let began = Instant::now();
    for service in 0..100 {
        boards.create(0, service);
    }
    let each = began.elapsed() / 100;
    println!("a commit of one board: {each:?}");
    let before = boards.state(0);
    boards.kill(0);
    let began = Instant::now();
    boards.start(0);
    wait_until("it leads again", || boards.leadership(0).is_leader_here);
    println!("led again after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_millis(500));
    assert_eq!(boards.state(0), before);
}

#[test]
fn a_cluster_is_founded_once() {
    let boards = Boards::started(1);
    boards.found(0);
    let again = futures_util::FutureExt::now_or_never(boards.consensus(0).found(vec![founding(0)]));
    assert!(matches!(again, Some(Err(FoundError::AlreadyMember))));
}

#[test]
fn entries_never_go_back_in_time() {
    let boards = Boards::started(1);
    boards.found(0);
    for service in 0..20 {
        boards.create(0, service);
    }
    let state = boards.state(0);
    let mut times: Vec<_> =
        state.services().values().map(|service| (service.version, service.created_at)).collect();
    times.sort();
    assert!(times.is_sorted_by_key(|(_, at)| *at));
    assert!(boards.consensus(0).now() >= times.last().expect("there are some").1);
}

#[test]
fn a_board_that_leaves_forgets_everything() {
    let boards = Boards::started(1);
    boards.found(0);
    boards.create(0, 1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(boards.consensus(0).leave()).expect("it leaves");
    assert!(boards.consensus(0).is_dormant());
    assert!(!boards.folder(0).exists());
    assert!(boards.state(0).cluster().is_none());
    boards.found(0);
    assert_eq!(missing(&boards.state(0), [1]).len(), 1);
}

#[test]
fn damage_before_the_tail_stops_the_node_and_a_torn_tail_does_not() {
    let mut boards = Boards::started(1);
    boards.found(0);
    for service in 0..10 {
        boards.create(0, service);
    }
    boards.kill(0);
    let path = boards.folder(0).join("log/0000000000000001.log");
    let sound = std::fs::read(&path).expect("the log");
    let end = sound.iter().rposition(|byte| *byte != 0).expect("not empty");

    let mut damaged = sound.clone();
    damaged[end / 2] ^= 0x10;
    std::fs::write(&path, &damaged).expect("written");
    let refused = boards.try_start(0).expect_err("it does not guess");
    assert!(matches!(refused, StartError::Log(LogError::Damaged { .. })), "{refused}");

    let mut torn = sound.clone();
    torn[end - 3..].fill(0);
    std::fs::write(&path, &torn).expect("written");
    boards.start(0);
    wait_until("it leads again", || boards.leadership(0).is_leader_here);
    // The last frame was only the note of what is committed, or the last creation.
    assert!(missing(&boards.state(0), 0..10).iter().all(|service| *service == 9));
}
