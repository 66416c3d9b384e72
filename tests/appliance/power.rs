//! A board is switched off, restarted, or its kernel dies: each in order.

use std::time::Duration;

use crate::{
    command::both,
    facts::ask_with,
    machine::Machine,
    observer::{NAME, Node, Observer},
    one_board::FOUNDING,
    qmp::End,
    segment::Segment,
};

/// How long an end in order may take: containers have their grace period of 10 s.
const ENDING: Duration = Duration::from_secs(60);
/// The kernel waits 10 s after a panic, for people to read it.
const PANIC: Duration = Duration::from_secs(60);
const VOLUME: [&str; 2] = ["--mount", "type=volume,source=kept,target=/data"];

/// A machine that is a cluster, with an observer and busybox.
fn ready_board(segment: &Segment) -> (Machine, Observer, Node) {
    let mut board = Machine::parallel(segment, 1);
    board.boot().wait_for(FOUNDING, crate::machine::BOOT);
    let observer = Observer::join(segment, 1);
    observer.load_busybox();
    let node = observer.machine_at(&board.address());
    (board, observer, node)
}

#[test]
fn a_board_that_is_switched_off_in_order_leaves_a_clean_disk() {
    let segment = Segment::new();
    let (mut board, observer, node) = ready_board(&segment);
    observer.serve(
        "busy",
        &["--constraint", &format!("node.id=={}", node.id)],
        "exec sleep 100000",
    );
    observer.wait("a task runs", || observer.running("busy").len() == 1);
    // Not synced by the container: an orderly end does that.
    ask_with(&observer, &node, &VOLUME, "echo kept > /data/words");
    let output = observer.try_bramble(&["node", "power-off", &node.id]);
    assert!(output.status.success(), "{}", both(&output));
    assert_eq!(board.wait_for_end(ENDING), End::PowerOff);
    assert_eq!(board.card().data_is_sound(), Ok(()));
    board.boot();
    observer.wait_for_machines(1);
    assert_eq!(ask_with(&observer, &node, &VOLUME, "cat /data/words"), "kept");
    observer.wait("the task runs again", || observer.running("busy").len() == 1);
}

#[test]
fn a_board_that_is_restarted_in_order_is_the_same_member_again() {
    let segment = Segment::new();
    let (mut board, observer, node) = ready_board(&segment);
    let output = observer.try_bramble(&["node", "reboot", &node.id]);
    assert!(output.status.success(), "{}", both(&output));
    assert_eq!(board.wait_for_end(ENDING), End::Reset);
    board.boot();
    let nodes = observer.wait_for_machines(1);
    assert_eq!(nodes.first().map(|node| node.id.as_str()), Some(node.id.as_str()));
    assert!(observer.nodes().iter().all(|known| known.hostname == NAME || known.id == node.id));
}

#[test]
fn a_board_whose_kernel_panics_restarts_by_itself() {
    let segment = Segment::new();
    let (mut board, observer, node) = ready_board(&segment);
    observer.sabotage(&format!("node.id=={}", node.id), "echo c > /data/sysrq-trigger");
    assert_eq!(board.wait_for_end(PANIC), End::Reset);
    let console = board.boot();
    observer.wait_for_machines(1);
    println!("after the panic it says: {:?}", console.problems());
}
