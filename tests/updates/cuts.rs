//! The power fails at every write of an update, from its first byte to the commit.

use bramble_host::{
    slot::Slot,
    update::{BootVerdict, at_boot},
};
use bramble_tests::fake_firmware::Reset;

use crate::{
    card::Bench,
    medium::{Loss, Power},
    suite::{Machine, Way},
};

/// How far an update came before the power failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Installing,
    Arming,
    Starting,
    Committing,
    Done,
}

/// The whole of an update from slot a to slot b.
fn update(machine: &Machine, power: &Power, file: &[u8], bench: &Bench) -> Step {
    if machine.install(power, Slot::A, file, bench).is_err() {
        return Step::Installing;
    }
    if machine.arm(power, Slot::B).is_err() {
        return Step::Arming;
    }
    assert_eq!(machine.boot(Reset::Reboot).slot, Slot::B);
    let mut card = machine.card(power);
    if matches!(at_boot(&mut card, Slot::B), BootVerdict::Unknown(_)) {
        return Step::Starting;
    }
    match card.commit(Slot::B) {
        Ok(()) => Step::Done,
        Err(_) => Step::Committing,
    }
}

/// Switches the machine on and off until nothing changes any more. Every boot must be of a whole
/// system.
fn settle(machine: &Machine) -> (Slot, u64) {
    let mut last = None;
    for _ in 0..5 {
        let boot = machine.boot(Reset::Power);
        let found = (boot.slot, machine.version(&boot));
        let mut card = machine.card(&Power::steady());
        let verdict = at_boot(&mut card, boot.slot);
        assert!(!matches!(verdict, BootVerdict::Unknown(_)), "{verdict:?}");
        let is_default = card.default_slot().expect("a card") == boot.slot;
        if last == Some(found) && is_default && verdict == BootVerdict::Settled {
            return found;
        }
        last = Some(found);
    }
    panic!("the machine never comes to rest");
}

fn cut_everywhere(way: Way) {
    let bench = Bench::new();
    let file = bench.update(2);
    let power = Power::steady();
    let machine = Machine::new(&bench, "whole", way);
    machine.boot(Reset::Power);
    assert_eq!(update(&machine, &power, &file, &bench), Step::Done);
    assert_eq!(settle(&machine), (Slot::B, 2));
    let writes = power.writes();
    assert!(writes >= 4, "{writes} writes");
    for cut in 0..writes {
        for loss in [Loss::All, Loss::Some, Loss::None] {
            let machine = Machine::new(&bench, "cut", way);
            machine.boot(Reset::Power);
            let power = Power::failing_after(cut, loss);
            let step = update(&machine, &power, &file, &bench);
            assert_ne!(step, Step::Done, "cut {cut} of {writes}");
            let context = format!("{way:?}, cut {cut} of {writes} while {step:?}, {loss:?} lost");
            // Until the last write there was no commit, so the old slot it is.
            assert_eq!(settle(&machine), (Slot::A, 1), "{context}");
            assert_eq!(update(&machine, &Power::steady(), &file, &bench), Step::Done, "{context}");
            assert_eq!(settle(&machine), (Slot::B, 2), "{context}: then again, whole");
        }
    }
}

#[test]
fn a_cut_leaves_a_card_that_boots_the_kernels_way() {
    cut_everywhere(Way::Kernel);
}

#[test]
fn a_cut_leaves_a_card_that_boots_the_mailboxs_way() {
    cut_everywhere(Way::Mailbox);
}

#[test]
fn a_cut_leaves_a_card_that_boots_the_emulators_way() {
    cut_everywhere(Way::Emulator);
}

#[test]
fn a_cut_leaves_a_card_that_boots_the_counted_way() {
    cut_everywhere(Way::Counted);
}
