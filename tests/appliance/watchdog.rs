//! What hangs is started anew: the daemon by the keeper, the board by its watchdog.

use std::time::Duration;

use crate::{
    command::both,
    machine::{API_READY, BOOT, Machine, Settings},
    observer::Observer,
    one_board::FOUNDING,
    qmp::End,
    segment::Segment,
};

/// The daemon is given up after 20 s, the board after 15 s; emulation takes its share.
const PATIENCE: Duration = Duration::from_secs(90);

/// Stops the daemon as a debugger would, from a container that may write to the kernel's files (at
/// `/tmp`): the kernel runs a program of the container's volume when a process crashes.
const HANG_THE_DAEMON: &str = "busybox cp /bin/busybox /data/; for process in /tmp/[0-9]*; do \
    tr '\\0' ' ' < $process/cmdline | grep -q ' daemon --kept' && daemon=${process#/tmp/}; done; \
    echo \"|/data/bramble/volumes/tools/data/busybox kill -STOP $daemon\" > /tmp/sys/kernel/core_pattern; \
    sh -c 'kill -SEGV $$'";
/// A kernel that panics and does not start again by itself is as silent as a board can be.
const HANG_THE_BOARD: &str = "echo 0 > /tmp/sys/kernel/panic; echo c > /tmp/sysrq-trigger";

/// A machine with a watchdog that is a cluster, with an observer and busybox.
fn watched_board(segment: &Segment) -> (Machine, Observer) {
    let arguments = vec!["-device".to_owned(), "i6300esb".to_owned()];
    let mut board = Machine::with(segment, 1, Settings { arguments, ..Settings::default() });
    let console = board.boot();
    console.wait_for(FOUNDING, BOOT);
    assert!(console.says("i6300ESB"), "the watchdog is open: {}", console.tail());
    let observer = Observer::join(segment, 1);
    observer.load_busybox();
    (board, observer)
}

/// Runs a shell line on the machine in a container that may do anything to it.
fn sabotage(observer: &Observer, line: &str) {
    let options = [
        "--restart-condition",
        "none",
        "--constraint",
        "node.platform.arch==aarch64",
        "--mount",
        "type=bind,source=/proc,target=/tmp",
        "--mount",
        "type=volume,source=tools,target=/data",
    ];
    observer.serve("sabotage", &options, line);
}

#[test]
fn a_daemon_that_hangs_is_started_anew_and_its_containers_run_on() {
    let segment = Segment::new();
    let (board, observer) = watched_board(&segment);
    let place = ["--constraint", "node.platform.arch==aarch64"];
    observer.serve("web", &place, "exec sleep 100000");
    observer.wait("a task runs", || observer.running("web").len() == 1);
    let mark = board.console().mark();
    sabotage(&observer, HANG_THE_DAEMON);
    board.console().wait_after(mark, "no sign of life", PATIENCE);
    board.console().wait_after(mark, API_READY, PATIENCE);
    observer.wait_for_machines(1);
    observer.wait("the task runs", || observer.running("web").len() == 1);
    let tasks = both(&observer.try_docker(&["service", "ps", "--quiet", "web"]));
    assert_eq!(tasks.lines().count(), 1, "it is the same task: {tasks}");
}

#[test]
fn a_board_that_hangs_is_restarted_by_its_watchdog() {
    let segment = Segment::new();
    let (mut board, observer) = watched_board(&segment);
    // It is fed: a watchdog of 15 s would have bitten.
    std::thread::sleep(Duration::from_secs(40));
    assert!(!board.has_ended(), "nothing hangs");
    sabotage(&observer, HANG_THE_BOARD);
    assert_eq!(board.wait_for_end(PATIENCE), End::Reset);
    board.boot();
    observer.wait_for_machines(1);
}
