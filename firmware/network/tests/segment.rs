//! The segment on a real kernel. Needs root, as it makes network namespaces.

#![expect(clippy::tests_outside_test_module, reason = "this file is nothing but tests")]

use std::{net::Ipv4Addr, process::Command};

use bramble_network::Segment;

const NETWORK: Ipv4Addr = Ipv4Addr::new(10, 67, 99, 0);

fn ping(segment: &Segment, from: u8, to: u8) -> bool {
    let mut ping = Command::new("ping");
    ping.args(["-c1", "-W1", "-q"]).arg(segment.address(to).to_string());
    ping.stdout(std::process::Stdio::null());
    segment.spawn(from, ping).expect("ping starts").wait().expect("ping ends").success()
}

#[tokio::test]
async fn a_pulled_cable_cuts_a_board_off_and_a_plugged_one_brings_it_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let segment = Segment::new(&folder.path().join("net"), NETWORK);
    segment.create().await.expect("root may make network namespaces; run this test as root");
    for number in 1..=3 {
        segment.attach(number).await.expect("a board hangs on the switch");
    }
    assert!(ping(&segment, 1, 2) && ping(&segment, 3, 2), "boards reach each other");

    segment.set_cable(2, false).await.expect("a cable is pulled");
    assert!(!segment.is_plugged_in(2).await.expect("the switch answers"));
    assert!(!ping(&segment, 1, 2), "a board without its cable cannot be reached");
    assert!(ping(&segment, 1, 3), "the others are not touched");

    segment.set_cable(2, true).await.expect("a cable is plugged in");
    assert!(segment.is_plugged_in(2).await.expect("the switch answers"));
    // Whose address did not answer is asked for it again about once a second.
    assert!((0..10).any(|_| ping(&segment, 1, 2)), "the board is back");

    segment.remove().expect("the segment is removed");
    assert!(!folder.path().join("net").exists(), "nothing is left");
    segment.remove().expect("removing twice is no error");
}
