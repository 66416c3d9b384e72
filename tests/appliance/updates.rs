//! Updates of real images: a slot is written, tried and kept, or given up, while the board restarts
//! as its boot firmware has it. Whatever happens, a board is a member again that runs one of the two
//! systems, whole.

use std::{
    path::PathBuf,
    process::Output,
    thread,
    time::{Duration, Instant},
};

use bramble_host::{
    slot::Slot,
    update::{ATTEMPTS_SECTOR, Attempts, Autoboot},
};
use serde_json::Value;

use crate::{
    card::{Card, SETTINGS},
    command::{both, wait_for},
    machine::{API_READY, BOOT, Machine, Settings},
    observer::{Node, Observer},
    one_board::FOUNDING,
    qmp::End,
    segment::Segment,
    update_file::{good, good_with, our_key, strangers_key, with_words},
};

/// How long a system has to be healthy before it is kept.
const HEALTHY: Duration = Duration::from_secs(60);
/// How long a roll-out may take, with the trial in it.
const ROLLOUT: Duration = Duration::from_secs(300);
/// How often the board and the client are looked at.
const GLANCE: Duration = Duration::from_millis(20);
/// The sound system's words for its kernel.
const WORDS: &str = "console=ttyAMA0 panic=10 quiet";
const SERVICE: &str = "lasting";

/// A board that is a cluster of its own, and who tells it what to do.
struct Bench {
    board: Machine,
    observer: Observer,
    node: Node,
    // Last, for it is dropped last.
    segment: Segment,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let segment = Segment::new();
        let mut board = Machine::with(&segment, 1, settings);
        board.boot().wait_for(FOUNDING, BOOT);
        let observer = Observer::join(&segment, 1);
        let node = observer.machine_at(&board.address());
        Self { board, observer, node, segment }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.segment.folder().join(name)
    }

    /// Runs `bramble os update` to its end.
    fn update(&self, arguments: &[&str], file: &std::path::Path) -> Output {
        let file = file.to_str().expect("a path of plain letters");
        self.observer.try_bramble(&[&["os", "update"], arguments, &[file]].concat())
    }

    /// Runs `bramble os update` to its end, while the board restarts whenever it wants to. `look` is
    /// called again and again meanwhile, and may do worse to the board.
    fn roll_out(&mut self, file: &std::path::Path, mut look: impl FnMut(&mut Machine)) -> Output {
        let file = file.to_str().expect("a path of plain letters");
        let Self { board, observer, .. } = self;
        let begun = Instant::now();
        thread::scope(|scope| {
            let client = scope.spawn(|| observer.try_bramble(&["os", "update", file]));
            while !client.is_finished() {
                if begun.elapsed() > ROLLOUT {
                    // Without it the client ends, too.
                    board.cut_power();
                    let said = client.join().expect("the client runs");
                    panic!("the roll-out does not end: {}", both(&said));
                }
                if board.has_ended() {
                    assert_eq!(board.wait_for_end(BOOT), End::Reset);
                    board.start();
                }
                look(board);
                thread::sleep(GLANCE);
            }
            client.join().expect("the client runs")
        })
    }

    /// What the board says of its system, once it is a Ready member.
    fn status(&self) -> Value {
        let path = format!("/bramble/os?node={}", self.node.id);
        let mut status = None;
        self.observer.wait("the board is a member and says what it runs", || {
            let nodes = self.observer.ready_machines();
            status = self.observer.get(&path);
            status.is_some() && nodes.iter().any(|node| node.id == self.node.id)
        });
        status.expect("it was waited for")
    }

    /// The board is a member, takes tasks, and runs a slot for good.
    fn runs(&self, slot: Slot) -> Value {
        let status = self.status();
        assert_eq!(self.board.slot(), slot, "{status}");
        assert_eq!(default_slot(self.board.card()), slot, "{status}");
        assert_eq!(status["slot"], slot.to_string(), "{status}");
        assert_eq!(status["is_trial"], false, "{status}");
        self.observer.wait("the board takes tasks", || {
            let node = self.observer.get(&format!("/nodes/{}", self.node.id)).unwrap_or_default();
            node["Spec"]["Availability"] == "active"
        });
        status
    }
}

fn default_slot(card: &Card) -> Slot {
    let bytes = card.read_file(SETTINGS, "autoboot.txt").expect("there is an autoboot.txt");
    Autoboot::parse(&bytes).expect("autoboot.txt is whole").default
}

fn slot_bytes(card: &Card, slot: Slot) -> Vec<u8> {
    let extent = card.extent(slot.partition());
    card.read_bytes(extent.start, extent.length)
}

/// Whether a counted trial is on the card's record.
fn is_armed(card: &Card) -> bool {
    let sector = card.read_bytes(ATTEMPTS_SECTOR * 512, 512);
    sector.try_into().is_ok_and(|sector| Attempts::parse(&sector).is_some())
}

#[test]
fn a_good_update_is_kept_after_a_healthy_minute_and_no_strange_or_older_one_is_written() {
    let mut bench = Bench::new(Settings::default());
    bench.observer.load_busybox();
    let place = format!("node.id=={}", bench.node.id);
    bench.observer.serve(SERVICE, &["--constraint", &place], "exec sleep 100000");
    bench.observer.wait("a task runs", || bench.observer.running(SERVICE).len() == 1);

    let output = bench.update(&["--send-only"], &good());
    assert!(output.status.success(), "{}", both(&output));
    let strange = bench.path("strange.bup");
    good_with(&strange, &strangers_key(), |header| header.version.patch += 1);
    refuses(&bench, &strange, "not signed by a key that this board trusts");

    let mut tried = None;
    let output = bench.roll_out(&good(), |board| {
        if board.slot() == Slot::B && tried.is_none() {
            tried = Some(Instant::now());
            assert_eq!(default_slot(board.card()), Slot::A, "a trial is not kept before it began");
        }
    });
    println!("{}", both(&output));
    assert!(output.status.success(), "{}", both(&output));
    let took = tried.expect("the other slot was booted").elapsed();
    assert!(took >= HEALTHY, "it was kept after {took:?}");
    let status = bench.runs(Slot::B);
    assert_eq!((&status["staged"], &status["failure"]), (&Value::Null, &Value::Null), "{status}");
    assert_eq!(status["backend"], "firmware");
    bench.observer.wait("its task is back", || bench.observer.running(SERVICE).len() == 1);
    let listed = both(&bench.observer.try_bramble(&["os", "status"]));
    println!("{listed}");
    let board = listed.lines().find(|line| line.contains(&bench.node.hostname));
    assert!(board.is_some_and(|line| line.contains(" b ")), "{listed}");

    let later = status["counter"].as_u64().expect("a number") + 1;
    let old = bench.path("old.bup");
    good_with(&old, &our_key(), |header| {
        header.version = semver::Version::new(0, 0, 1);
        header.counter = later;
    });
    refuses(&bench, &old, "the update is older than what runs: version 0.0.1");
    let earlier = bench.path("earlier.bup");
    good_with(&earlier, &our_key(), |header| {
        header.version.patch += 1;
        header.counter -= 1;
    });
    refuses(&bench, &earlier, "boards never go back");

    bench.board.cut_power();
    bench.board.boot();
    bench.runs(Slot::B);
}

/// The update is refused, for a reason, before anything is written.
fn refuses(bench: &Bench, file: &std::path::Path, reason: &str) {
    let (card, running) = (bench.board.card(), bench.board.slot());
    let (staged, before) =
        (bench.runs(running)["staged"].take(), slot_bytes(card, running.other()));
    let output = bench.update(&[], file);
    println!("{}", both(&output));
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    assert!(both(&output).contains(reason), "{}", both(&output));
    assert!(slot_bytes(card, running.other()) == before, "nothing is written");
    assert_eq!(bench.runs(running)["staged"], staged, "what was sent before is as good as ever");
}

#[test]
fn a_system_that_panics_or_stays_sick_is_given_up_and_the_roll_out_says_why() {
    let mut bench = Bench::new(Settings::default());
    // No program to begin with and no disk to find one on.
    let words = "console=ttyAMA0 panic=1 quiet rdinit=/none";
    given_up(&mut bench, words, "Kernel panic", "came back");
    // Its daemon runs, and nobody can reach it.
    let words = format!("{WORDS} module_blacklist=virtio_net bramble.trial=20");
    given_up(&mut bench, &words, API_READY, "it has no network");
}

/// The roll-out of a system with these words for its kernel fails after `sign` stood on the console,
/// and the old one is back.
fn given_up(bench: &mut Bench, words: &str, sign: &str, reason: &str) {
    let file = bench.path("bad.bup");
    with_words(&file, words);
    let mut was_tried = false;
    let output = bench.roll_out(&file, |board| {
        was_tried |= board.slot() == Slot::B && board.console().says(sign);
    });
    println!("{}", both(&output));
    assert!(was_tried, "{}", both(&output));
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    let said = both(&output);
    let told = said.lines().last().unwrap_or_default();
    assert!(told.contains("did not keep") && told.contains(reason), "{said}");
    let status = bench.runs(Slot::A);
    assert!(status["failure"]["reason"].as_str().is_some_and(|it| it.contains(reason)), "{status}");
    assert_eq!(status["staged"], Value::Null, "{status}");
}

/// On a board whose firmware knows no flag: there a trial is two sectors of the card.
#[test]
fn a_board_whose_plug_is_pulled_at_any_step_of_an_update_is_a_member_again() {
    let mut bench = Bench::new(Settings { has_no_flag: true, ..Settings::default() });
    assert_eq!(bench.status()["backend"], "counted");
    bench.board.cut_power();
    // So that every piece of the slot has to be written.
    let extent = bench.board.card().extent(Slot::B.partition());
    let length = usize::try_from(extent.length).expect("it fits into memory");
    bench.board.card().garble(Slot::B.partition(), 0, length);
    bench.board.boot();
    bench.runs(Slot::A);

    cut_while_writing(&mut bench);
    assert_eq!(bench.runs(Slot::A)["staged"], Value::Null);

    let output = bench.update(&["--send-only"], &good());
    assert!(output.status.success(), "{}", both(&output));
    bench.board.cut_power();
    bench.board.boot();
    assert!(bench.runs(Slot::A)["staged"].is_string(), "what was sent is still there");

    cut_while_arming(&mut bench);
    assert!(cut_and_given_up(&mut bench, cut_on_trial), "the board was on trial");

    // At the moment of the commit, before the board has told anybody.
    let mut is_cut = false;
    let output = bench.roll_out(&good(), |board| {
        if !is_cut && board.slot() == Slot::B && default_slot(board.card()) == Slot::B {
            // In this way of trying, the first act of a trial is to make the old slot the default.
            is_cut = !is_armed(board.card());
            if is_cut {
                board.cut_power();
                board.start();
            }
        }
    });
    println!("{}", both(&output));
    assert!(is_cut && output.status.success(), "{}", both(&output));
    assert_eq!(bench.runs(Slot::B)["failure"], Value::Null);
}

fn cut_while_writing(bench: &mut Bench) {
    let file = good();
    let file = file.to_str().expect("a path of plain letters");
    let Bench { board, observer, .. } = bench;
    let start = board.card().extent(Slot::B.partition()).start + (32 << 20);
    let before = board.card().read_bytes(start, 4096);
    let output = thread::scope(|scope| {
        let client = scope.spawn(|| observer.try_bramble(&["os", "update", "--send-only", file]));
        let is_written = || board.card().read_bytes(start, 4096) != before;
        wait_for("the slot is being written", BOOT, || observer.story(), is_written);
        board.cut_power();
        client.join().expect("the client runs")
    });
    println!("{}", both(&output));
    assert!(!output.status.success(), "{}", both(&output));
    board.boot();
}

/// At the moment when the record of the trial is on the card. The trial may begin all the same, and
/// is cut short then.
fn cut_while_arming(bench: &mut Bench) {
    let mut is_cut = false;
    cut_and_given_up(bench, |board| {
        if !is_cut && is_armed(board.card()) {
            is_cut = true;
            board.cut_power();
            board.start();
            println!("cut while arming: slot {} came", board.slot());
        }
        is_cut && cut_on_trial(board)
    });
    assert!(is_cut, "a trial was armed");
}

/// When the board is on trial, has been a member for a while, and is not kept yet.
fn cut_on_trial(board: &mut Machine) -> bool {
    let is_on_trial = board.slot() == Slot::B;
    if is_on_trial {
        board.console().wait_for(API_READY, BOOT);
        thread::sleep(HEALTHY / 3);
        board.cut_power();
        board.start();
    }
    is_on_trial
}

/// Rolls the good update out, which `cut` keeps from being kept; returns whether it said so.
fn cut_and_given_up(bench: &mut Bench, mut cut: impl FnMut(&mut Machine) -> bool) -> bool {
    let mut was_cut = false;
    let output = bench.roll_out(&good(), |board| was_cut |= cut(board));
    println!("{}", both(&output));
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    assert!(both(&output).contains("did not keep"), "{}", both(&output));
    let status = bench.runs(Slot::A);
    assert!(status["failure"].is_object(), "{status}");
    was_cut
}
