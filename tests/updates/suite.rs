//! What every way to try a slot must do, run on each of them.

use std::{io, path::PathBuf};

use bramble_host::{
    Sources,
    slot::Slot,
    update::{
        ArmError, BootVerdict, Card, CountedTryBoot, EmulatorFlag, FlagTryBoot, InstallError,
        Installed, KernelTryBoot, Reboot, RebootFlag, TryBoot, at_boot, choose_try_boot, install,
    },
};
use bramble_tests::fake_firmware::{Boot, FakeFirmware, Reset};

use crate::{
    card::{Bench, kernel, running},
    medium::{Disk, Power},
};

/// The ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Kernel,
    Mailbox,
    Emulator,
    Counted,
}

pub(crate) const WAYS: [Way; 4] = [Way::Kernel, Way::Mailbox, Way::Emulator, Way::Counted];

/// A mailbox that is the fake firmware's.
struct Mailbox(FakeFirmware);

impl RebootFlag for Mailbox {
    fn set(&mut self, _: &mut Card) -> io::Result<()> {
        self.0.try_once()
    }
}

/// A machine: an image, its firmware, and what the kernel does when it reboots.
pub(crate) struct Machine {
    pub(crate) image: PathBuf,
    pub(crate) firmware: FakeFirmware,
    folder: PathBuf,
    way: Way,
}

impl Machine {
    pub(crate) fn new(bench: &Bench, name: &str, way: Way) -> Self {
        let image = bench.card(name);
        let firmware = FakeFirmware::new(&image);
        let firmware = if way == Way::Counted { firmware.without_flag() } else { firmware };
        Self { image, firmware, folder: bench.path(&format!("{name}.boot")), way }
    }

    pub(crate) fn card(&self, power: &Power) -> Card {
        Card::of(Box::new(Disk::open(&self.image, power))).expect("a card")
    }

    pub(crate) fn boot(&self, reset: Reset) -> Boot {
        self.firmware.boot(reset, &self.folder).expect("a card that boots")
    }

    /// The version that a boot starts; the kernel must be whole.
    pub(crate) fn version(&self, boot: &Boot) -> u64 {
        let found = std::fs::read(&boot.kernel).expect("a kernel");
        (1..=3).find(|version| kernel(*version) == found).expect("the whole kernel of a version")
    }

    pub(crate) fn install(
        &self,
        power: &Power,
        from: Slot,
        file: &[u8],
        bench: &Bench,
    ) -> Result<Installed, InstallError> {
        let mut card = self.card(power);
        let now = running(from, 1);
        install(&mut { file }, &mut card, &now, &bench.trust(), &mut |_, _| {})
    }

    /// Asks for a trial; `Ok` is the kernel having rebooted.
    pub(crate) fn arm(&self, power: &Power, trial: Slot) -> Result<(), ArmError> {
        let mut card = self.card(power);
        let mut way: Box<dyn TryBoot> = match self.way {
            Way::Kernel => Box::new(KernelTryBoot),
            Way::Mailbox => Box::new(FlagTryBoot(Mailbox(self.firmware.clone()))),
            Way::Emulator => Box::new(FlagTryBoot(EmulatorFlag)),
            Way::Counted => Box::new(CountedTryBoot),
        };
        match way.arm(&mut card, trial)? {
            Reboot::Plain => {}
            Reboot::Argument(argument) => {
                assert_eq!(argument, "0 tryboot");
                self.firmware.try_once().expect("the firmware");
            }
        }
        Ok(())
    }
}

/// A machine that has installed version 2 and rebooted into it.
fn on_trial(bench: &Bench, way: Way) -> (Machine, Boot) {
    let (machine, power) = (Machine::new(bench, &format!("{way:?}"), way), Power::steady());
    let boot = machine.boot(Reset::Power);
    assert_eq!((machine.version(&boot), boot.slot), (1, Slot::A));
    let installed = machine.install(&power, Slot::A, &bench.update(2), bench).expect("an update");
    assert_eq!(installed.slot, Slot::B);
    assert_eq!(machine.boot(Reset::Reboot).slot, Slot::A, "installing alone changes nothing");
    machine.arm(&power, Slot::B).expect("a trial");
    let boot = machine.boot(Reset::Reboot);
    assert_eq!((machine.version(&boot), boot.slot), (2, Slot::B), "{way:?}");
    assert!(boot.cmdline.ends_with("bramble.slot=b"), "{}", boot.cmdline);
    (machine, boot)
}

#[test]
fn a_trial_that_is_kept_stays() {
    let bench = Bench::new();
    for way in WAYS {
        let (machine, _) = on_trial(&bench, way);
        let mut card = machine.card(&Power::steady());
        let verdict = at_boot(&mut card, Slot::B);
        let is_counted = way == Way::Counted;
        let expected = if is_counted { BootVerdict::Trial } else { BootVerdict::Settled };
        assert_eq!(verdict, expected);
        assert_eq!(card.default_slot().expect("a card"), Slot::A, "not kept yet");
        card.commit(Slot::B).expect("a commit");
        for reset in [Reset::Reboot, Reset::Power] {
            assert_eq!(machine.boot(reset).slot, Slot::B, "{way:?} {reset:?}");
            assert_eq!(at_boot(&mut machine.card(&Power::steady()), Slot::B), BootVerdict::Settled);
        }
    }
}

#[test]
fn a_trial_that_is_not_kept_ends_with_any_reset() {
    let bench = Bench::new();
    for way in WAYS {
        for reset in [Reset::Reboot, Reset::Power, Reset::Watchdog] {
            let (machine, _) = on_trial(&bench, way);
            let _ = at_boot(&mut machine.card(&Power::steady()), Slot::B);
            let boot = machine.boot(reset);
            assert_eq!((machine.version(&boot), boot.slot), (1, Slot::A), "{way:?} {reset:?}");
            let verdict = at_boot(&mut machine.card(&Power::steady()), Slot::A);
            let is_counted = way == Way::Counted;
            let expected = if is_counted { BootVerdict::FellBack } else { BootVerdict::Settled };
            assert_eq!(verdict, expected, "{way:?} {reset:?}");
            assert_eq!(machine.boot(Reset::Power).slot, Slot::A);
        }
    }
}

/// A kernel that panics or hangs before process 1 runs.
#[test]
fn a_slot_that_never_reaches_process_1_is_left() {
    let bench = Bench::new();
    for way in WAYS {
        let (machine, boot) = on_trial(&bench, way);
        assert_eq!(boot.watchdog_seconds, Some(60));
        let boot = machine.boot(Reset::Watchdog);
        assert_eq!(boot.slot, Slot::A, "{way:?}");
        let _ = at_boot(&mut machine.card(&Power::steady()), Slot::A);
        assert_eq!(machine.boot(Reset::Reboot).slot, Slot::A, "{way:?}");
    }
}

/// Without a watchdog that leads elsewhere, a counted trial that panics starts again; process 1 then
/// gives it up if it runs at all.
#[test]
fn a_counted_trial_that_starts_twice_is_given_up() {
    let bench = Bench::new();
    let (machine, _) = on_trial(&bench, Way::Counted);
    let mut card = machine.card(&Power::steady());
    assert_eq!(at_boot(&mut card, Slot::B), BootVerdict::Trial);
    // The default was changed back, yet the firmware starts the trial's slot again.
    assert_eq!(at_boot(&mut card, Slot::B), BootVerdict::GiveUp);
    assert_eq!(machine.boot(Reset::Reboot).slot, Slot::A);
    assert_eq!(at_boot(&mut card, Slot::A), BootVerdict::Settled);
}

#[test]
fn the_best_way_is_chosen() {
    let bench = Bench::new();
    let sources = Sources { proc: bench.path("no-proc"), sys: bench.path("no-sys") };
    let machine = Machine::new(&bench, "emulated", Way::Emulator);
    let mut card = machine.card(&Power::steady());
    assert_eq!(choose_try_boot(&mut card, &sources, None).name(), "counted", "nobody offers");
    machine.boot(Reset::Power);
    assert_eq!(choose_try_boot(&mut card, &sources, None).name(), "firmware");
    let old = Machine::new(&bench, "old", Way::Counted);
    old.boot(Reset::Power);
    let mut card = old.card(&Power::steady());
    assert_eq!(choose_try_boot(&mut card, &sources, None).name(), "counted");
    let mailbox: Box<dyn RebootFlag> = Box::new(Mailbox(old.firmware.clone()));
    assert_eq!(choose_try_boot(&mut card, &sources, Some(mailbox)).name(), "firmware");
}

#[test]
fn a_request_is_lost_with_the_power() {
    let bench = Bench::new();
    for way in [Way::Kernel, Way::Mailbox, Way::Emulator] {
        let (machine, power) = (Machine::new(&bench, "lost", way), Power::steady());
        machine.boot(Reset::Power);
        machine.install(&power, Slot::A, &bench.update(2), &bench).expect("an update");
        machine.arm(&power, Slot::B).expect("a trial");
        assert_eq!(machine.boot(Reset::Power).slot, Slot::A, "{way:?}");
        assert_eq!(machine.boot(Reset::Reboot).slot, Slot::A, "{way:?}");
    }
}
