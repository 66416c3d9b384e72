//! Booting a slot once. Three ways, by what the kernel and the firmware can do.

use std::io;

use super::{
    attempts::{ATTEMPTS_SECTOR, Attempts},
    card::{Card, CardError},
};
use crate::{board::Sources, slot::Slot};

/// The sector by which an emulator's firmware is asked to try, beside the record of attempts.
pub const EMULATOR_SECTOR: u64 = ATTEMPTS_SECTOR + 1;
/// What a kernel that knows Raspberry Pi's firmware passes on to it.
const TRY_BOOT: &str = "0 tryboot";

/// How the board has to reboot, so that the other slot is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reboot {
    /// As always.
    Plain,
    /// With an argument for the kernel (`LINUX_REBOOT_CMD_RESTART2`).
    Argument(&'static str),
}

/// The next boot could not be arranged; the old slot boots as before.
#[derive(Debug, thiserror::Error)]
pub enum ArmError {
    /// The card refused.
    #[error("the card cannot be told to try slot {0}")]
    Card(Slot, #[source] CardError),
    /// The firmware refused.
    #[error("the board's firmware cannot be told to try slot {0}")]
    Firmware(Slot, #[source] io::Error),
}

/// A way to boot a slot once. Whatever happens then, the boot after that is of the old slot, until
/// [`Card::commit`].
pub trait TryBoot: Send {
    /// Its name, for people.
    fn name(&self) -> &'static str;

    /// Arranges that the next reboot is into `trial`.
    ///
    /// # Errors
    /// If the card or the firmware refuse.
    fn arm(&mut self, card: &mut Card, trial: Slot) -> Result<Reboot, ArmError>;
}

/// Sets the firmware's flag that makes the next boot, and that one alone, a trial.
pub trait RebootFlag: Send {
    /// Sets it.
    ///
    /// # Errors
    /// If the firmware cannot be reached.
    fn set(&mut self, card: &mut Card) -> io::Result<()>;
}

/// Raspberry Pi's own kernel tells its firmware when it reboots.
#[derive(Debug, Clone, Copy, Default)]
pub struct KernelTryBoot;

impl TryBoot for KernelTryBoot {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn arm(&mut self, card: &mut Card, trial: Slot) -> Result<Reboot, ArmError> {
        settle(card, trial)?;
        Ok(Reboot::Argument(TRY_BOOT))
    }
}

/// The firmware's flag is set by us, and the reboot is plain.
#[derive(Debug)]
pub struct FlagTryBoot<F>(pub F);

impl<F: RebootFlag> TryBoot for FlagTryBoot<F> {
    fn name(&self) -> &'static str {
        "firmware"
    }

    fn arm(&mut self, card: &mut Card, trial: Slot) -> Result<Reboot, ArmError> {
        settle(card, trial)?;
        self.0.set(card).map_err(|error| ArmError::Firmware(trial, error))?;
        Ok(Reboot::Plain)
    }
}

/// No firmware helps: the default changes, a record on the card says that it is a trial, and process
/// 1 changes the default back first of all. A slot that never gets so far is left by the firmware's
/// watchdog (`kernel_watchdog_partition`).
#[derive(Debug, Clone, Copy, Default)]
pub struct CountedTryBoot;

impl TryBoot for CountedTryBoot {
    fn name(&self) -> &'static str {
        "counted"
    }

    fn arm(&mut self, card: &mut Card, trial: Slot) -> Result<Reboot, ArmError> {
        settle(card, trial)?;
        // The record first: a default that nobody knows to be a trial would stay.
        card.set_attempts(Some(Attempts::once(trial)))
            .and_then(|()| card.set_default(trial))
            .map_err(|error| ArmError::Card(trial, error))?;
        Ok(Reboot::Plain)
    }
}

/// The running slot is the default, and no older trial is on record.
fn settle(card: &mut Card, trial: Slot) -> Result<(), ArmError> {
    card.commit(trial.other()).map_err(|error| ArmError::Card(trial, error))
}

/// The words between a guest and an emulator's firmware.
pub mod emulator {
    /// The firmware says that it can try, once.
    pub const OFFER: &[u8; 16] = b"BRAMBLE CAN TRY\n";
    /// The guest asks it to.
    pub const ASK: &[u8; 16] = b"BRAMBLE TRY ONE\n";

    /// A sector that begins with one of them.
    pub fn sector(words: &[u8; 16]) -> [u8; 512] {
        let mut bytes = [0; 512];
        bytes[..words.len()].copy_from_slice(words);
        bytes
    }
}

/// The flag of an emulator's firmware: a sector of the card, in place of a mailbox.
#[derive(Debug, Clone, Copy, Default)]
pub struct EmulatorFlag;

impl EmulatorFlag {
    /// Whether the firmware that started this machine has such a flag.
    pub fn is_offered(card: &mut Card) -> bool {
        card.read_sector(EMULATOR_SECTOR)
            .is_ok_and(|bytes| bytes[..16] == *emulator::OFFER || bytes[..16] == *emulator::ASK)
    }
}

impl RebootFlag for EmulatorFlag {
    fn set(&mut self, card: &mut Card) -> io::Result<()> {
        card.write_sector(EMULATOR_SECTOR, &emulator::sector(emulator::ASK))
            .map_err(io::Error::other)
    }
}

/// The best way that this board has. `mailbox` is the firmware's, where there is one.
pub fn choose_try_boot(
    card: &mut Card,
    sources: &Sources,
    mailbox: Option<Box<dyn RebootFlag>>,
) -> Box<dyn TryBoot> {
    // Raspberry Pi's kernel alone has this attribute, and passes the reboot's argument on.
    let throttled = sources.sys.join("devices/platform/soc/soc:firmware/get_throttled");
    if throttled.exists() {
        return Box::new(KernelTryBoot);
    }
    match mailbox {
        Some(flag) => Box::new(FlagTryBoot(flag)),
        None if EmulatorFlag::is_offered(card) => Box::new(FlagTryBoot(EmulatorFlag)),
        None => Box::new(CountedTryBoot),
    }
}

impl RebootFlag for Box<dyn RebootFlag> {
    fn set(&mut self, card: &mut Card) -> io::Result<()> {
        self.as_mut().set(card)
    }
}
