//! Three boards with the same card are one cluster, and lose nothing when one loses its power.

use std::time::{Duration, Instant};

use crate::{
    command::{promise, wait_for},
    console::Console,
    facts::ask_with,
    machine::{API_READY, BOOT, Machine},
    observer::{Node, Observer},
    one_board::FOUNDING,
    segment::Segment,
};

/// Machines only: the observer's processor is another.
const ON_MACHINES: [&str; 2] = ["--constraint", "node.platform.arch==aarch64"];
const VOLUME: [&str; 2] = ["--mount", "type=volume,source=kept,target=/data"];

/// What a board prints when it found a cluster of its key.
pub const JOINED: &str = "joined the cluster";

/// Starts machines with the same card at once and waits until all are members.
pub fn boot_together(segment: &Segment, count: u8) -> Vec<Machine> {
    let mut boards: Vec<Machine> =
        (1..=count).map(|number| Machine::parallel(segment, number)).collect();
    let consoles: Vec<Console> = boards.iter_mut().map(Machine::start).collect();
    for console in &consoles {
        console.wait_for(API_READY, BOOT * u32::from(count));
    }
    // An observer that comes before they have found each other might found their cluster.
    let is_member = |console: &Console| console.says(FOUNDING) || console.says(JOINED);
    let story = || consoles.iter().map(Console::tail).collect();
    wait_for("every machine is a member", BOOT, story, || consoles.iter().all(is_member));
    boards
}

#[test]
fn three_boards_are_one_cluster_and_replace_what_a_lost_one_ran() {
    let segment = Segment::new();
    let mut boards = boot_together(&segment, 3);
    let observer = Observer::join(&segment, 3);
    let before = observer.wait_for_machines(3);
    assert_eq!(before.iter().filter(|node| node.is_leader).count(), 1, "{before:#?}");
    observer.load_busybox();
    let options = [&ON_MACHINES[..], &["--replicas", "6"]].concat();
    observer.serve("web", &options, "exec sleep 100000");
    for lost_is_leader in [false, true] {
        observer.wait("six tasks on three machines", || {
            let running = observer.running("web");
            let is_used = |node: &Node| running.contains(&node.id);
            running.len() == 6 && before.iter().all(is_used)
        });
        let nodes = observer.wait_for_machines(3);
        let victim = nodes.iter().find(|node| node.is_leader == lost_is_leader);
        let victim = victim.expect("there are both").clone();
        let words = format!("written before {} was lost", victim.hostname);
        let write = format!("echo {words} > /data/words; sync");
        ask_with(&observer, &victim, &VOLUME, &write);

        let board = boards.iter_mut().find(|board| board.address() == victim.address);
        let board = board.expect("the node is one of the machines");
        let cut = Instant::now();
        board.cut_power();
        observer.wait("six tasks run elsewhere", || {
            let running = observer.running("web");
            running.len() == 6 && !running.contains(&victim.id)
        });
        let what = if lost_is_leader { "the leader" } else { "a follower" };
        let name = format!("3 machines, {what} loses its power -> 6 Running elsewhere");
        promise(&name, cut.elapsed().as_secs_f64(), 5.0, "s");

        board.boot();
        let after = observer.wait_for_machines(3);
        let ids = |nodes: &[Node]| {
            let mut ids: Vec<String> = nodes.iter().map(|node| node.id.clone()).collect();
            ids.sort();
            ids
        };
        assert_eq!(ids(&before), ids(&after), "the same members");
        let read = ask_with(&observer, &victim, &VOLUME, "cat /data/words");
        assert_eq!(read, words, "its volume is what it was");
    }
}

#[test]
fn a_cable_that_is_pulled_and_plugged_in_again_changes_nothing() {
    let segment = Segment::new();
    let boards = boot_together(&segment, 2);
    let observer = Observer::join(&segment, 2);
    let before = observer.wait_for_machines(2);
    let follower = before.iter().find(|node| !node.is_leader).expect("one follows");
    let number = (1..=2).find(|number| crate::dhcp::address(*number) == follower.address);
    let number = number.expect("the node is one of the machines");
    segment.set_cable(number, false);
    observer.wait("the board is missed", || observer.ready_machines().len() == 1);
    std::thread::sleep(Duration::from_secs(5));
    segment.set_cable(number, true);
    observer.wait_for_machines(2);
    drop(boards);
}
