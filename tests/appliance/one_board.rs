//! One board alone is a cluster, and containers on it are contained.

use std::time::Duration;

use crate::{
    command::promise,
    console::Console,
    facts::{ask, ask_with, data_size, used_memory, written},
    machine::{BOOT, Machine, Settings},
    observer::Observer,
    segment::Segment,
};

/// What a boot consists of, in this order.
pub const PHASES: &[&str] = &[
    "mounts",
    "console",
    "cgroups",
    "modules",
    "watchdog",
    "disk",
    "clock",
    "configuration",
    "data",
    "memory",
    "log",
];
/// What a board prints when it found no cluster of its key.
pub const FOUNDING: &str = "founding a cluster";
/// How long a board rests before it counts as idle: the kernel tidies up a disk that is new to it.
const REST: Duration = Duration::from_secs(75);

const MEGABYTE: f64 = 1e6;

#[test]
fn a_board_boots_to_a_ready_cluster_of_one_within_four_seconds() {
    let segment = Segment::new();
    let settings = Settings { counts_instructions: true, ..Settings::default() };
    let mut board = Machine::with(&segment, 1, settings);
    let console = board.boot();
    console.wait_for(FOUNDING, BOOT);
    println!("{}", phase_table(&console));
    assert_eq!(console.problems(), Vec::<String>::new(), "a sound board has no problems");
    let kernel = console.number("process 1 started after").expect("the kernel's time is told");
    println!("figure: kernel -> process 1, QEMU virt: {:.3} s", kernel / 1e3);
    let ready = console.number("API ready after").expect("the API's time is told");
    promise("process 1 started -> API ready, QEMU virt", ready / 1e3, 4.0, "s");
    let observer = Observer::join(&segment, 1);
    let node = observer.machine_at(&board.address());
    assert!(node.is_leader, "the board founded its cluster itself: {node:?}");
}

#[test]
fn a_container_on_a_board_is_contained() {
    let segment = Segment::new();
    let mut board = Machine::parallel(&segment, 1);
    board.boot().wait_for(FOUNDING, BOOT);
    let observer = Observer::join(&segment, 1);
    observer.load_busybox();
    let node = observer.machine_at(&board.address());

    let facts = ask(
        &observer,
        &node,
        "uname -m; cat /proc/self/cgroup /proc/mounts; grep Seccomp: /proc/self/status",
    );
    assert!(facts.starts_with("aarch64"), "{facts}");
    assert!(facts.lines().any(|line| line == "0::/"), "cgroup v2 and no other: {facts}");
    assert!(facts.contains("overlay / overlay "), "the root is an overlay: {facts}");
    assert!(facts.contains("Seccomp:\t2"), "system calls are filtered: {facts}");

    let grown = data_size(&ask(&observer, &node, "df -Pk /")).expect("the size is told");
    assert!(grown > 1 << 30, "the data partition has grown to the card: {grown} bytes");

    // The first block device that the kernel knows, whatever it is: no container may open it.
    let line = "read major minor name rest < /proc/diskstats; mknod /dev/disk b $major $minor; \
                head -c 1 /dev/disk && echo the disk is open";
    let facts = ask(&observer, &node, line);
    assert!(facts.contains("not permitted") && !facts.contains("is open"), "{facts}");

    let limits = ["--limit-memory", "32m", "--limit-cpu", "0.5", "--limit-pids", "20"];
    let line = "cd /sys/fs/cgroup; cat memory.max cpu.max pids.max; \
                (dd if=/dev/zero of=/dev/null bs=128M count=1 2>/dev/null; echo dd ended with $?); \
                (for one in $(seq 40); do sleep 5 & done; wait) 2>&1 | tail -n 1";
    let facts = ask_with(&observer, &node, &limits, line);
    for limit in ["33554432", "50000 100000", "20"] {
        assert!(facts.lines().any(|line| line == limit), "the limit {limit} is set: {facts}");
    }
    assert!(facts.contains("dd ended with 137"), "128 MB are not to be had: {facts}");
    assert!(facts.contains("fork"), "40 processes are not to be had: {facts}");
}

#[test]
fn an_idle_board_uses_little_memory_and_writes_nothing() {
    let segment = Segment::new();
    let mut board = Machine::parallel(&segment, 1);
    board.boot().wait_for(FOUNDING, BOOT);
    let observer = Observer::join(&segment, 1);
    observer.load_busybox();
    let node = observer.machine_at(&board.address());
    let line = format!(
        "sync; sleep {}; cat /proc/meminfo /proc/diskstats; echo a minute; sleep 60; cat /proc/diskstats",
        REST.as_secs()
    );
    let facts = ask(&observer, &node, &line);
    let (before, after) = facts.split_once("a minute").expect("the container ran to its end");
    let bytes = |text| written(text, "vda").expect("the disk is counted");
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let (memory, disk) = (
        used_memory(before).expect("memory is counted") as f64,
        (bytes(after) - bytes(before)) as f64,
    );
    promise("idle board, whole system, memory used", memory / MEGABYTE, 80.0, "MB");
    promise("idle board for 60 s: bytes written to its disk", disk, 0.0, "bytes");
}

/// Every phase of a boot, as printed; the test fails if one is missing.
pub fn phase_table(console: &Console) -> String {
    let mut table = String::new();
    for phase in PHASES {
        let before = format!("bramble: {phase} ");
        let took = console.number(&before);
        let took = took.unwrap_or_else(|| panic!("the boot tells no time for `{phase}`"));
        table.push_str(&format!("{phase:<14} {took:>6} ms\n"));
    }
    table
}
