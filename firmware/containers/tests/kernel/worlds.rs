//! Boards that are not this machine: one with the unified hierarchy, and one whose keeper is the
//! first process.

use std::{fs, path::Path};

use bramble_cluster::TaskId;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::board::{Board, children_of, ended, log};

#[tokio::test]
async fn a_board_with_the_unified_hierarchy_runs_containers() {
    let line = "cat /proc/self/cgroup; ls /sys/fs/cgroup; touch /sys/fs/cgroup/x; \
        mknod /tmp/kmsg c 1 11 && echo made; head -c1 /tmp/kmsg; head -c4 /dev/zero | wc -c; exit 3";
    let before = "mount -t cgroup2 none /sys/fs/cgroup;";
    let mut board = Board::start_within("-m", before, line);
    let keeper = board.connect().await;
    let id = TaskId::from_random(1);
    assert_eq!(ended(&keeper, id).await.code, 3);
    let text = log(&keeper, id).await;
    for line in [
        "0::/\n",
        "cgroup.procs\n",
        "touch: /sys/fs/cgroup/x: Read-only file system\n",
        "made\n",
        "head: /tmp/kmsg: Operation not permitted\n",
        "4\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    board.signal_keeper(Signal::SIGTERM);
    assert!(board.keeper.wait().unwrap().success());
    // On this machine the unified hierarchy is below the others, if it is there at all.
    let cgroup = board.layout.cgroup().strip_prefix("/").unwrap().to_owned();
    for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        assert!(!Path::new(root).join(&cgroup).exists(), "{root}");
    }
    board.assert_clean().await;
}

#[tokio::test]
async fn a_keeper_that_is_the_first_process_reaps_everything() {
    let line = "sleep 1000 & (sleep 0.01 &) ; echo ready; sleep 1000";
    let mut board = Board::start_within("-pfm --mount-proc", "", line);
    let keeper = board.connect().await;
    let id = TaskId::from_random(1);
    let keeper_pid = children_of(board.keeper.id())[0];
    let status = fs::read_to_string(format!("/proc/{keeper_pid}/status")).unwrap();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap();
    assert_eq!(numbers.split_whitespace().last(), Some("1"));
    while log_or_nothing(&keeper, id).await != "ready\n" {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    for child in children_of(keeper_pid) {
        let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap();
        assert!(!status.contains("State:\tZ"), "{status}");
    }
    let keeper_pid = Pid::from_raw(keeper_pid.try_into().unwrap());
    kill(keeper_pid, Signal::SIGTERM).unwrap();
    // Once more: the shell that is the container's first process does not end by itself.
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let _ = kill(keeper_pid, Signal::SIGTERM);
    assert!(board.keeper.wait().unwrap().success());
    board.assert_clean().await;
}

async fn log_or_nothing(keeper: &bramble_containers::Keeper, id: TaskId) -> String {
    match keeper.list().is_empty() {
        true => String::new(),
        false => log(keeper, id).await,
    }
}
