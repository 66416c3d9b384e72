//! Containers begin, run, and end.

use std::{
    io::{Read, Write},
    time::Duration,
};

use bramble_containers::{ContainerState, ExecIo, ExecRequest};

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
async fn a_container_may_have_a_terminal() {
    let board = Board::start();
    let keeper = board.connect().await;
    let mut request = board.shell(1, "tty; echo $TERM; exit 4");
    let mut spec = (*request.task.spec).clone();
    spec.container.has_terminal = true;
    request.task.spec = spec.into();
    let id = request.task.id;
    assert_eq!(output(&keeper, request).await, (4, "/dev/pts/0\r\nxterm\r\n".to_owned()));
    keeper.remove(id).await.unwrap();
    board.assert_clean().await;
}

#[tokio::test]
async fn an_exec_may_have_a_terminal() {
    let board = Board::start();
    let keeper = board.connect().await;
    let request = board.shell(1, "sleep 1000");
    let id = request.task.id;
    keeper.create(request).await.unwrap();
    keeper.start(id).await.unwrap();
    let (io, terminal) = ExecIo::terminal().unwrap();
    let command = ["/bin/sh", "-c", "tty; read line; echo got $line; exit 6"].map(str::to_owned);
    let request =
        ExecRequest { command: command.to_vec(), has_terminal: true, ..ExecRequest::default() };
    let running = keeper.exec(id, request, io).await.unwrap();
    let shown = tokio::task::spawn_blocking(move || {
        let mut terminal = std::fs::File::from(terminal.open().unwrap());
        terminal.write_all(b"typed\n").unwrap();
        let mut shown = Vec::new();
        // The end of a terminal is an error.
        drop(terminal.read_to_end(&mut shown));
        String::from_utf8(shown).unwrap()
    });
    assert_eq!(running.wait().await.unwrap(), 6);
    let shown = shown.await.unwrap();
    assert!(shown.contains("/dev/pts/") && shown.contains("got typed"), "{shown}");
}

#[tokio::test]
async fn an_init_reaps_and_hands_signals_on() {
    let board = Board::start();
    let keeper = board.connect().await;
    let line = "trap 'ps -o pid,stat,comm; exit 11' TERM; (sleep 0.05 &); echo ready; \
        while true; do usleep 10000; done";
    let mut request = board.shell(1, line);
    let mut spec = (*request.task.spec).clone();
    spec.container.has_init = Some(true);
    request.task.spec = spec.into();
    let id = request.task.id;
    keeper.create(request).await.unwrap();
    keeper.start(id).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    keeper.stop(id, None).await.unwrap();
    assert_eq!(ended(&keeper, id).await.code, 11);
    let text = log(&keeper, id).await;
    assert!(text.contains("1 S    init") && !text.contains('Z'), "{text}");
}

#[tokio::test]
async fn a_container_ends_by_a_real_time_signal() {
    let board = Board::start();
    let keeper = board.connect().await;
    // The shell is not the first process, which would ignore it.
    let request = board.shell(1, "sh -c 'kill -40 $$'; exit $?");
    assert_eq!(run(&keeper, request).await.code, 128 + 40);
    let mut request = board.shell(2, "trap 'exit 12' 37; while true; do usleep 10000; done");
    let mut spec = (*request.task.spec).clone();
    spec.container.stop_signal = "SIGRTMIN+3".to_owned();
    request.task.spec = spec.into();
    let id = request.task.id;
    keeper.create(request).await.unwrap();
    keeper.start(id).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    keeper.stop(id, None).await.unwrap();
    assert_eq!(ended(&keeper, id).await.code, 12);
}

#[tokio::test]
async fn a_quiet_board_does_nothing() {
    let board = Board::start();
    let keeper = board.connect().await;
    let request = board.shell(1, "exec sleep 1000");
    let id = request.task.id;
    keeper.create(request).await.unwrap();
    keeper.start(id).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = work_of(board.keeper.id());
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(work_of(board.keeper.id()), before, "wake-ups, and bytes written");
}

/// How often a process was woken, and how many bytes it has written.
fn work_of(process: u32) -> Vec<String> {
    let read = |file| std::fs::read_to_string(format!("/proc/{process}/{file}")).unwrap();
    let wanted = ["voluntary_ctxt_switches", "wchar", "write_bytes"];
    let text = read("status") + &read("io");
    let lines = text.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name)));
    lines.map(str::to_owned).collect()
}
