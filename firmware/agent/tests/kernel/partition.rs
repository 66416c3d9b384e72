//! What a board does that its leader does not answer.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use bramble_cluster::TaskState;
use bramble_planner::timing::{CUT_OFF_AFTER, DOWN_AFTER};

use crate::board::{Board, pid, session};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_off_board_stops_what_must_not_run_twice_and_keeps_the_rest() {
    let (board, mut door) = Board::start().await;
    let agent = board.agent().await;
    let mut leader = session(&mut door).await;
    let stubborn = {
        let mut task = board.singleton(3);
        let container = &mut std::sync::Arc::make_mut(&mut task.spec).container;
        container.arguments[1] = "trap '' TERM; while :; do sleep 0.02; done".to_owned();
        task
    };
    let tasks = [board.sleeper(1), board.singleton(2), stubborn];
    leader.assign(&tasks).await;
    leader.until(&tasks, TaskState::Running).await;
    // Heartbeats keep it alive far beyond the limit.
    tokio::time::sleep(CUT_OFF_AFTER * 2).await;
    assert!(pid(agent.keeper(), 2).is_some());
    leader.answers.store(false, Ordering::SeqCst);
    let cut = Instant::now();
    let mut containers = agent.keeper().containers();
    let gone = containers.wait_for(|_| [2, 3].iter().all(|it| pid(agent.keeper(), *it).is_none()));
    tokio::time::timeout(DOWN_AFTER, gone).await.expect("before others may start").expect("open");
    let took = cut.elapsed();
    println!("cut off -> tasks that must not run twice ended: {took:?}");
    assert!(took >= CUT_OFF_AFTER - Duration::from_millis(250), "{took:?}");
    assert!(pid(agent.keeper(), 1).is_some(), "the others run on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_daemon_is_no_cut() {
    let (board, mut door) = Board::start().await;
    let agent = board.agent().await;
    let mut leader = session(&mut door).await;
    let tasks = [board.singleton(1)];
    leader.assign(&tasks).await;
    leader.until(&tasks, TaskState::Running).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = pid(agent.keeper(), 1);
    agent.shut_down();
    drop((agent, leader));
    let agent = board.agent().await;
    let mut leader = session(&mut door).await;
    leader.assign_as(2, &tasks).await;
    leader.until(&tasks, TaskState::Running).await;
    tokio::time::sleep(CUT_OFF_AFTER * 2).await;
    assert_eq!(pid(agent.keeper(), 1), before);
}
