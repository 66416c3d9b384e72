//! The other images boot as well: the Raspberry Pi's card in an emulated Raspberry Pi 3, with its
//! own kernel, device tree, card slot and USB network, and the PC's.

use std::time::Duration;

use crate::{
    facts::{ask, data_size},
    machine::{API_READY, Machine, Model, Settings},
    observer::Observer,
    one_board::FOUNDING,
    segment::Segment,
};

/// Four emulated processors and a card slot without DMA take their time.
const BOOT: Duration = Duration::from_secs(400);

#[test]
fn the_card_of_a_raspberry_pi_boots_to_a_ready_cluster_of_one() {
    let settings = Settings {
        model: Model::Pi3,
        // The emulated watchdog bites a machine that the emulation lets wait.
        // The last console is the one that process 1 speaks on: on a board that is the screen.
        words: "console=ttyS1,115200 bramble.watchdog=off".to_owned(),
        ..Settings::default()
    };
    boots_to_a_ready_cluster_of_one(settings, "aarch64", "mmcblk0p4");
}

#[test]
fn the_image_for_a_pc_boots_to_a_ready_cluster_of_one() {
    let settings = Settings { model: Model::Pc, ..Settings::default() };
    boots_to_a_ready_cluster_of_one(settings, "x86_64", "vda4");
}

fn boots_to_a_ready_cluster_of_one(settings: Settings, processor: &str, partition: &str) {
    let segment = Segment::new();
    let model = settings.model;
    let mut board = Machine::with(&segment, 1, settings);
    let console = board.start();
    console.wait_for(API_READY, BOOT);
    console.wait_for(FOUNDING, BOOT);
    for line in console.problems() {
        println!("it says: {line}");
    }
    let ready = console.number("API ready after").expect("the API's time is told");
    println!("figure: process 1 started -> API ready, QEMU {model:?}: {:.3} s", ready / 1e3);
    let observer = Observer::join(&segment, 1);
    observer.load_busybox_for(model);
    let node = observer.machine_at(&board.address());
    let facts = ask(&observer, &node, "uname -m; df -Pk /; cat /proc/diskstats /proc/self/cgroup");
    assert!(facts.starts_with(processor), "{facts}");
    assert!(facts.contains(partition), "the data is on the card: {facts}");
    assert!(facts.lines().any(|line| line == "0::/"), "cgroup v2 and no other: {facts}");
    let grown = data_size(&facts).expect("the size is told");
    assert!(grown > 1 << 30, "the data partition has grown to the card: {grown} bytes");
}
