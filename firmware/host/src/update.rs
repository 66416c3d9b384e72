//! Updates of the operating system: what arrives, where it goes, and which slot boots next.
//!
//! A card has two slots. An update is written into the one that does not run ([`install`]), tried
//! once ([`TryBoot`]) and kept ([`Card::commit`]) when it is healthy. Otherwise the old slot boots
//! again by itself, whatever happens: power cut, panic, hang, a daemon that never gets well.
//!
//! # Terms
//! - **update file**: a signed [`Header`] and the compressed bytes of a slot.
//! - **default**: the slot that the firmware boots when nobody asks for another.
//! - **trial**: a slot other than the default runs. Nothing else is a trial, and it needs no record:
//!   what runs and is not the default is kept once it has proven healthy, or given up by a reboot.
//! - **counter**: grows with each update that is published. A board never goes back to a lower one.
//!
//! # Invariants
//! - Nothing of a file is believed before its header's signature is verified, and nothing of a slot
//!   is tried before it was read back from the disk with the digest that the header names.
//! - The running slot is never written, and neither is the default one.
//! - Each change of what boots next is one sector, written in one piece.

mod attempts;
mod autoboot;
mod card;
mod disk;
mod file;
mod install;
mod ledger;
mod medium;
mod trust;
mod try_boot;

pub use attempts::{ATTEMPTS_SECTOR, Attempts};
pub use autoboot::{AUTOBOOT_BYTES, Autoboot};
pub use card::{BootVerdict, Card, CardError, at_boot};
pub use disk::Disk;
pub use file::{
    Compression, Content, Header, ReadHeadError, peek_head, read_head, signed_bytes, write_head,
};
pub use install::{InstallError, Installed, RunningSystem, family, install};
pub use ledger::{Failure, Ledger, LedgerError, Staged, Trial};
pub use medium::{Medium, SECTOR};
pub use trust::{Trust, TrustError};
pub use try_boot::{
    ArmError, CountedTryBoot, EMULATOR_SECTOR, EmulatorFlag, FlagTryBoot, KernelTryBoot, Reboot,
    RebootFlag, TryBoot, choose_try_boot, emulator,
};
