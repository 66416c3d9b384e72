//! A board that hangs is restarted by its watchdog.

use std::time::Duration;

use crate::{
    machine::{BOOT, Machine, Settings},
    observer::Observer,
    one_board::FOUNDING,
    qmp::End,
    segment::Segment,
};

/// How long a watchdog waits that the firmware has armed.
const TIMEOUT: Duration = Duration::from_secs(15);
/// A kernel that panics and does not start again by itself is as silent as a board can be.
const HANG: &str = "echo 0 > /data/sys/kernel/panic; echo c > /data/sysrq-trigger";

#[test]
fn a_board_that_hangs_is_restarted_by_its_watchdog() {
    let segment = Segment::new();
    let arguments = vec!["-device".to_owned(), "i6300esb".to_owned()];
    let mut board = Machine::with(&segment, 1, Settings { arguments, ..Settings::default() });
    let console = board.boot();
    console.wait_for(FOUNDING, BOOT);
    assert!(console.says("i6300ESB"), "the watchdog is armed: {}", console.tail());
    let observer = Observer::join(&segment, 1);
    observer.load_busybox();
    std::thread::sleep(TIMEOUT * 3);
    assert!(!board.has_ended(), "a board that works feeds its watchdog");
    observer.sabotage("node.platform.arch==aarch64", HANG);
    assert_eq!(board.wait_for_end(TIMEOUT * 6), End::Reset);
    board.boot();
    observer.wait_for_machines(1);
}
