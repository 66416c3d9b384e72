//! How fast fifty containers run, in the build at hand.

use std::time::Instant;

use crate::board::Board;

#[tokio::test]
async fn fifty_containers_start() {
    let board = Board::start();
    let keeper = board.connect().await;
    let begin = Instant::now();
    let mut starts = Vec::new();
    for number in 0..50 {
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
    let rss = std::fs::read_to_string(format!("/proc/{}/status", board.keeper.id())).unwrap();
    println!("50 containers in {took:?}");
    println!(
        "{}",
        rss.lines()
            .filter(|line| line.starts_with("Rss") || line.starts_with("VmRSS"))
            .collect::<Vec<_>>()
            .join("\n")
    );
}
