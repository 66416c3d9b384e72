//! What fifty containers cost. The build at hand is not the one that is shipped, so the bounds are
//! wide; the figures are printed.

use std::{fs, time::Instant};

use crate::board::{Board, children_of};

const CONTAINERS: u128 = 50;

#[tokio::test(flavor = "multi_thread")]
async fn fifty_containers_start_soon_and_cost_the_keeper_little() {
    let board = Board::start();
    let keeper = board.connect().await;
    let (memory_before, children_before) = cost(&board);
    let begin = Instant::now();
    let mut starts = Vec::new();
    for number in 0..CONTAINERS {
        let (keeper, request) = (keeper.clone(), board.shell(number, "exec sleep 1000"));
        starts.push(tokio::spawn(async move {
            let id = request.task.id;
            keeper.create(request).await.unwrap();
            keeper.start(id).await.unwrap();
        }));
    }
    for start in starts {
        start.await.unwrap();
    }
    let took = begin.elapsed();
    // The last helper may be about to end.
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let (memory, children) = cost(&board);
    println!("{CONTAINERS} containers in {took:?}; the keeper: {memory_before} -> {memory} kB");
    assert!(took.as_secs() < 10, "{took:?}");
    assert_eq!(children, children_before + 50, "no process but the containers'");
    assert!(memory < memory_before + 2_048, "{memory_before} -> {memory} kB");
}

/// The keeper's own memory in kB, and its children.
fn cost(board: &Board) -> (u64, usize) {
    let keeper = board.keeper.id();
    let status = fs::read_to_string(format!("/proc/{keeper}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    (line.trim().trim_end_matches(" kB").parse().unwrap(), children_of(keeper).len())
}
