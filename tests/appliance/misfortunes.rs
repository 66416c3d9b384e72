//! What happens to cards and networks at home. Each time the board boots, says what is wrong, and
//! harms nobody.

use std::time::Duration;

use crate::{
    card::Card,
    command::wait_for,
    console::Console,
    facts::ask,
    machine::{API_READY, BOOT, Machine, Settings},
    observer::Observer,
    segment::Segment,
    three_boards::boot_together,
};

/// The board has said a problem that has one of `words` in it; `console` shows what else it said.
fn says_problem(console: &Console, words: &[&str]) {
    let has_word = |line: &String| {
        let line = line.to_lowercase();
        words.iter().any(|word| line.contains(&word.to_lowercase()))
    };
    let what = format!("a problem with one of {words:?} is told");
    let is_told = || console.problems().iter().any(has_word);
    wait_for(&what, Duration::from_secs(60), || console.tail(), is_told);
    for problem in console.problems() {
        println!("it says: {problem}");
    }
}

/// The board is a Ready member, with an observer beside it, and runs a container.
fn works(segment: &Segment) -> Observer {
    let observer = Observer::join(segment, 1);
    observer.load_busybox();
    let nodes = observer.wait_for_machines(1);
    let node = nodes.first().expect("there is one");
    assert_eq!(ask(&observer, node, "echo it works"), "it works");
    observer
}

#[test]
fn a_clock_of_1970_and_no_time_server() {
    let segment = Segment::new();
    let arguments = vec!["-rtc".to_owned(), "base=1970-01-01T00:00:00".to_owned()];
    let mut board = Machine::with(&segment, 1, Settings { arguments, ..Settings::default() });
    board.boot();
    let observer = works(&segment);
    let nodes = observer.wait_for_machines(1);
    let node = nodes.first().expect("there is one");
    let year: u32 = ask(&observer, node, "date +%Y").parse().expect("a year");
    assert!(year >= 2026, "no clock is behind the firmware's own date: {year}");
}

#[test]
fn a_network_without_dhcp() {
    let segment = Segment::without_dhcp();
    let mut board = Machine::new(&segment, 1);
    let console = board.boot();
    says_problem(&console, &["dhcp", "link-local", "169.254"]);
    let observer = works(&segment);
    let nodes = observer.wait_for_machines(1);
    let address = &nodes.first().expect("there is one").address;
    assert!(address.starts_with("169.254."), "its address is one of nobody's: {address}");
}

#[test]
fn a_cable_that_is_plugged_in_late() {
    let segment = Segment::new();
    let mut board = Machine::new(&segment, 1);
    segment.set_cable(1, false);
    board.boot();
    std::thread::sleep(Duration::from_secs(10));
    segment.set_cable(1, true);
    works(&segment);
}

#[test]
fn a_data_partition_that_is_full() {
    let segment = Segment::new();
    // Small, so that it is soon full; an image's 64 MB are kept free.
    let settings = Settings { card_bytes: Some(900 << 20), ..Settings::default() };
    let mut board = Machine::with(&segment, 1, settings);
    board.boot();
    drop(works(&segment));
    board.cut_power();
    board.card().fill_data();
    let console = board.boot();
    says_problem(&console, &["full", "space"]);
}

#[test]
fn a_data_partition_that_is_garbled() {
    let segment = Segment::new();
    let mut board = Machine::new(&segment, 1);
    // The superblock, the group descriptors and more.
    board.card().garble(crate::card::DATA, 0, 4 << 20);
    let console = board.boot();
    says_problem(&console, &["data"]);
    works(&segment);
}

#[test]
fn a_data_partition_with_a_few_bad_blocks() {
    let segment = Segment::new();
    let mut board = Machine::new(&segment, 1);
    board.boot();
    drop(works(&segment));
    board.cut_power();
    // Past the superblock: what a check finds and mends.
    board.card().garble(crate::card::DATA, 1 << 20, 256 << 10);
    let console = board.boot();
    println!("it says: {:#?}", console.problems());
    works(&segment);
}

#[test]
fn an_identity_that_is_garbled() {
    let segment = Segment::new();
    let mut board = Machine::new(&segment, 1);
    board.boot();
    drop(works(&segment));
    board.cut_power();
    board.card().garble_file("/bramble/peering/identity");
    let console = board.boot();
    says_problem(&console, &["was damaged"]);
    works(&segment);
}

#[test]
fn a_data_partition_that_is_missing() {
    let segment = Segment::new();
    let mut board = Machine::new(&segment, 1);
    board.card().remove_partition(crate::card::DATA);
    let console = board.boot();
    says_problem(&console, &["data"]);
    works(&segment);
}

#[test]
fn a_data_partition_of_a_stranger() {
    let segment = Segment::new();
    let mut board = Machine::new(&segment, 1);
    board.card().replace_data();
    board.boot();
    works(&segment);
    board.cut_power();
    assert_eq!(board.card().data_is_sound(), Ok(()));
}

#[test]
fn a_card_with_its_lock_set() {
    let segment = Segment::new();
    let settings = Settings { card_is_read_only: true, ..Settings::default() };
    let mut board = Machine::with(&segment, 1, settings);
    let console = board.boot();
    says_problem(&console, &["read-only", "data"]);
    works(&segment);
}

#[test]
fn a_configuration_of_garbage() {
    let segment = Segment::new();
    let mut board = Machine::new(&segment, 1);
    let noise: Vec<u8> = (0..=255).cycle().take(3000).collect();
    board.card().write_file(crate::card::SETTINGS, "bramble.toml", &noise);
    let console = board.boot();
    says_problem(&console, &["bramble.toml", "configuration", "settings"]);
}

#[test]
fn a_configuration_with_one_mistake() {
    let segment = Segment::new();
    let mut board = Machine::new(&segment, 1);
    let settings = format!(
        "[board]\nhostname = \"not a name\"\ncolour = \"red\"\n[cluster]\nkey = \"{}\"\n",
        segment.key()
    );
    board.card().configure(&settings);
    let console = board.boot();
    says_problem(&console, &["colour"]);
    says_problem(&console, &["hostname"]);
    // What is sound is used: it is a member by its key.
    works(&segment);
}

#[test]
fn two_boards_with_one_host_name() {
    let segment = Segment::new();
    let mut boards: Vec<Machine> = (1..=2).map(|number| Machine::new(&segment, number)).collect();
    let key = segment.key();
    for board in &mut boards {
        let settings = format!("[board]\nhostname = \"kitchen\"\n[cluster]\nkey = \"{key}\"\n");
        board.card().configure(&settings);
        board.start();
    }
    for board in &boards {
        board.console().wait_for(API_READY, BOOT * 2);
    }
    let observer = Observer::join(&segment, 2);
    let nodes = observer.wait_for_machines(2);
    assert!(nodes.iter().all(|node| node.hostname == "kitchen"), "{nodes:#?}");
    observer.wait("the name is told to be used twice", || {
        boards.iter().any(|board| {
            board.console().problems().iter().any(|problem| problem.contains("kitchen"))
        })
    });
}

#[test]
fn a_card_that_was_cloned() {
    let segment = Segment::new();
    let mut boards = boot_together(&segment, 3);
    let observer = Observer::join(&segment, 3);
    observer.load_busybox();
    let options = ["--replicas", "3", "--constraint", "node.platform.arch==aarch64"];
    observer.serve("web", &options, "exec sleep 100000");
    observer.wait("three tasks run", || observer.running("web").len() == 3);
    let mut original = boards.pop().expect("there are three");
    original.cut_power();
    let mut clone = Machine::new(&segment, 4);
    let path = clone.card().path().to_owned();
    Card::copy(original.card().path(), &path, None);
    let first = original.start();
    let second = clone.start();
    first.wait_for(API_READY, BOOT * 2);
    second.wait_for(API_READY, BOOT * 2);
    // Whoever of the two is taken for the member, the others are not hurt.
    observer.wait("three tasks run", || observer.running("web").len() == 3);
    observer.wait("it is told that a board is there twice", || {
        let consoles = [&first, &second];
        let others = boards.iter().map(Machine::console);
        others.chain(consoles).any(|console| console.says("identity"))
    });
    let ready: Vec<_> = observer.ready_machines();
    for board in &boards {
        assert!(ready.iter().any(|node| node.address == board.address()), "{ready:#?}");
    }
}
