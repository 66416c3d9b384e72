//! How much a board costs.

use std::{fs, time::Duration};

use crate::lab::{Lab, binary, promise};

const MIB: f64 = 1_048_576.0;

/// A figure of `/proc/<pid>/smaps_rollup`, in bytes, summed over processes.
fn memory(processes: &[u32], field: &str) -> f64 {
    let of = |pid: &u32| {
        let text =
            fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the process lives");
        let line = text.lines().find(|line| line.starts_with(field)).expect("the kernel counts it");
        let kibibytes: f64 =
            line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number");
        kibibytes * 1024.0
    };
    processes.iter().map(of).sum()
}

fn written(processes: &[u32]) -> u64 {
    let of = |pid: &u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/io")).expect("the process lives");
        let line = text
            .lines()
            .find(|line| line.starts_with("write_bytes:"))
            .expect("the kernel counts it");
        line.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok()).expect("a number")
    };
    processes.iter().map(of).sum()
}

#[test]
fn an_idle_board_is_small_and_fifty_containers_add_little() {
    let lab = Lab::with_whoami(1);
    std::thread::sleep(Duration::from_secs(5));
    let own = lab.own_processes(1);
    assert_eq!(own.len(), 2, "a keeper and a daemon");
    let idle = memory(&own, "Rss:");
    println!("figure: idle manager, keeper + daemon: PSS {:.1} MiB", memory(&own, "Pss:") / MIB);
    promise("idle manager with 0 containers, keeper + daemon, RSS", idle / MIB, 20.0, "MiB");

    lab.docker(
        1,
        &[
            "service",
            "create",
            "--detach",
            "--quiet",
            "--name",
            "many",
            "--replicas",
            "50",
            "--network",
            "host",
            "whoami",
        ],
    );
    lab.wait("fifty tasks run", || lab.running(1, "many").len() == 50);
    std::thread::sleep(Duration::from_secs(10));
    assert_eq!(lab.own_processes(1), own, "no process of ours for a container");
    assert_eq!(lab.container_processes(1).len(), 50);
    promise(
        "50 containers more, keeper + daemon, RSS",
        (memory(&own, "Rss:") - idle) / MIB,
        5.0,
        "MiB",
    );
}

#[test]
fn an_idle_cluster_writes_nothing_for_a_minute() {
    let lab = Lab::with_whoami(3);
    lab.docker(
        1,
        &[
            "service",
            "create",
            "--quiet",
            "--name",
            "web",
            "--replicas",
            "3",
            "--network",
            "host",
            "whoami",
        ],
    );
    std::thread::sleep(Duration::from_secs(20));
    let own: Vec<u32> = (1..=3).flat_map(|board| lab.own_processes(board)).collect();
    let before = written(&own);
    std::thread::sleep(Duration::from_secs(60));
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let bytes = (written(&own) - before) as f64;
    promise("idle for 60 s: bytes written by keepers + daemons of 3 boards", bytes, 0.0, "bytes");
}

#[test]
fn the_binary_is_small_and_needs_no_other_file() {
    let size = fs::metadata(binary()).expect("the binary is there").len();
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let megabytes = size as f64 / 1e6;
    promise("release binary, stripped", megabytes, 12.0, "MB");
    let bytes = fs::read(binary()).expect("the binary can be read");
    assert!(!bytes.windows(13).any(|window| window == b"/lib64/ld-lin"), "it is static");
}
