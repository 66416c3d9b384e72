//! Containers begin, run, and end.

use bramble_containers::ContainerState;

use crate::board::{Board, ended, exec, log, output, run};

#[tokio::test]
async fn a_container_runs_and_its_exit_code_and_output_are_kept() {
    let board = Board::start();
    let keeper = board.connect().await;
    let request = board.shell(1, "echo out; echo err >&2; exit 42");
    let id = request.task.id;
    let exit = run(&keeper, request).await;
    assert_eq!((exit.code, exit.is_out_of_memory), (42, false));
    let text = log(&keeper, id).await;
    assert!(text.contains("out\n") && text.contains("err\n"), "{text:?}");
    keeper.remove(id).await.unwrap();
    assert_eq!(keeper.list(), []);
    board.assert_clean().await;
}

#[tokio::test]
async fn an_exec_runs_beside_and_reports_its_exit_code() {
    let board = Board::start();
    let keeper = board.connect().await;
    let request = board.shell(1, "sleep 1000");
    let id = request.task.id;
    keeper.create(request).await.unwrap();
    let pid = keeper.start(id).await.unwrap();
    assert!(matches!(keeper.list()[0].state, ContainerState::Running { pid: p, .. } if p == pid));
    assert_eq!(exec(&keeper, id, "echo $((6*7)); exit 3").await, (3, "42\n".to_owned()));
    keeper.signal(id, 9).await.unwrap();
    assert_eq!(ended(&keeper, id).await.code, 137);
    keeper.remove(id).await.unwrap();
    board.assert_clean().await;
}

#[tokio::test]
async fn what_a_container_sees() {
    let board = Board::start();
    let keeper = board.connect().await;
    let (_, text) =
        output(&keeper, board.shell(1, "mount; cat /proc/self/status; ls /dev; id")).await;
    println!("{text}");
}
