//! The card as updates see it: two slots, and one sector that says which of them boots.

use std::{io, path::Path};

use super::{
    attempts::{ATTEMPTS_SECTOR, Attempts},
    autoboot::{AUTOBOOT_BYTES, Autoboot},
    disk::Disk,
    medium::{Medium, SECTOR},
};
use crate::{
    fat32::{Fat32Error, Volume},
    slot::Slot,
};

/// The file whose one sector says which slot boots.
const AUTOBOOT: &str = "autoboot.txt";
/// Where the partition table's four entries begin, in the first sector.
const TABLE: usize = 446;
/// Bytes of an entry.
const ENTRY: usize = 16;
/// The type of a FAT32 partition, the only one that every Pi's firmware boots from.
const FAT32: u8 = 0x0c;

/// The card cannot be used for updates.
#[derive(Debug, thiserror::Error)]
pub enum CardError {
    /// The disk cannot be opened.
    #[error("the card {0} cannot be opened")]
    Open(String, #[source] io::Error),
    /// The disk cannot be read.
    #[error("the card cannot be read")]
    Read(#[source] io::Error),
    /// The disk cannot be written.
    #[error("the card cannot be written: is it worn out, or its lock on?")]
    Write(#[source] io::Error),
    /// The disk is no card of ours.
    #[error("this is not a Bramble card: {0}")]
    NotACard(&'static str),
    /// `autoboot.txt` cannot be found on it.
    #[error("autoboot.txt on the card's first partition cannot be used: flash the card anew")]
    FindAutoboot(#[source] Fat32Error),
    /// `autoboot.txt` says something unknown.
    #[error("autoboot.txt on the card's first partition is not as Bramble writes it")]
    Autoboot,
}

/// A disk with two slots.
pub struct Card {
    medium: Box<dyn Medium>,
    /// The sector of `autoboot.txt`.
    autoboot: u64,
    slots: [Extent; 2],
}

impl std::fmt::Debug for Card {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Card").field("slots", &self.slots).finish_non_exhaustive()
    }
}

/// Where a partition lies, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) start: u64,
    pub(super) bytes: u64,
}

impl Card {
    /// Opens the disk that a board booted from.
    ///
    /// # Errors
    /// If it cannot be read, or is no card of ours.
    pub fn open(disk: &Path) -> Result<Self, CardError> {
        let medium =
            Disk::open(disk).map_err(|error| CardError::Open(disk.display().to_string(), error))?;
        Self::of(Box::new(medium))
    }

    /// The card that is on a medium.
    ///
    /// # Errors
    /// If it cannot be read, or is no card of ours.
    pub fn of(mut medium: Box<dyn Medium>) -> Result<Self, CardError> {
        let mut table = [0; 512];
        medium.read(0, &mut table).map_err(CardError::Read)?;
        let sectors = medium.bytes() / SECTOR;
        let [boot, a, b] = partitions(&table, sectors)?;
        let autoboot = find_autoboot(medium.as_mut(), boot).map_err(CardError::FindAutoboot)?;
        Ok(Self { medium, autoboot, slots: [a, b] })
    }

    /// The slot that boots when nobody asks for another.
    ///
    /// # Errors
    /// If the card cannot be read, or says something unknown.
    pub fn default_slot(&mut self) -> Result<Slot, CardError> {
        let mut bytes = [0; AUTOBOOT_BYTES];
        self.read(self.autoboot * SECTOR, &mut bytes)?;
        Ok(Autoboot::parse(&bytes).ok_or(CardError::Autoboot)?.default)
    }

    /// Makes a slot the default, unless it is.
    ///
    /// # Errors
    /// If the card cannot be read or written.
    pub fn set_default(&mut self, slot: Slot) -> Result<(), CardError> {
        if matches!(self.default_slot(), Ok(default) if default == slot) {
            return Ok(());
        }
        self.write_sector(self.autoboot, &Autoboot { default: slot }.to_bytes())
    }

    /// Keeps the slot that runs: from now on it boots.
    ///
    /// # Errors
    /// If the card cannot be read or written.
    pub fn commit(&mut self, running: Slot) -> Result<(), CardError> {
        // A record that outlived this would take the commit back at the next boot.
        self.set_attempts(None)?;
        self.set_default(running)
    }

    /// The counted trial that has not ended, if there is one.
    ///
    /// # Errors
    /// If the card cannot be read.
    pub fn attempts(&mut self) -> Result<Option<Attempts>, CardError> {
        Ok(Attempts::parse(&self.read_sector(ATTEMPTS_SECTOR)?))
    }

    /// Writes the record of a counted trial, or takes it away.
    ///
    /// # Errors
    /// If the card cannot be read or written.
    pub fn set_attempts(&mut self, attempts: Option<Attempts>) -> Result<(), CardError> {
        if self.attempts()? == attempts {
            return Ok(());
        }
        let bytes = attempts.map_or_else(Attempts::none, Attempts::to_bytes);
        self.write_sector(ATTEMPTS_SECTOR, &bytes)
    }

    /// How many bytes a slot has.
    pub fn slot_bytes(&self, slot: Slot) -> u64 {
        self.extent(slot).bytes
    }

    pub(super) fn extent(&self, slot: Slot) -> Extent {
        match slot {
            Slot::A => self.slots[0],
            Slot::B => self.slots[1],
        }
    }

    pub(super) fn medium(&mut self) -> &mut dyn Medium {
        self.medium.as_mut()
    }

    pub(super) fn read_sector(&mut self, sector: u64) -> Result<[u8; 512], CardError> {
        let mut bytes = [0; 512];
        self.read(sector * SECTOR, &mut bytes)?;
        Ok(bytes)
    }

    /// Writes a sector and waits until it is on the medium.
    pub(super) fn write_sector(&mut self, sector: u64, bytes: &[u8; 512]) -> Result<(), CardError> {
        let written = self.medium.write(sector * SECTOR, bytes);
        written.and_then(|()| self.medium.sync()).map_err(CardError::Write)
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), CardError> {
        self.medium.read(offset, into).map_err(CardError::Read)
    }
}

fn find_autoboot(medium: &mut dyn Medium, boot: Extent) -> Result<u64, Fat32Error> {
    let mut volume = Volume::open(medium, boot.start, boot.bytes)?;
    let entry = volume.find(AUTOBOOT)?;
    volume.only_sector(&entry)
}

/// Where the boot partition and the two slots lie, checked.
fn partitions(table: &[u8; 512], sectors: u64) -> Result<[Extent; 3], CardError> {
    let no = CardError::NotACard;
    if table[510..] != [0x55, 0xaa] {
        return Err(no("it has no partition table"));
    }
    let mut found = [Extent { start: 0, bytes: 0 }; 3];
    // Partitions lie behind the records and behind each other.
    let mut end = ATTEMPTS_SECTOR + 2;
    for (index, partition) in found.iter_mut().enumerate() {
        let entry = &table[TABLE + ENTRY * index..][..ENTRY];
        let number = |at: usize| {
            u64::from(entry[at])
                | u64::from(entry[at + 1]) << 8
                | u64::from(entry[at + 2]) << 16
                | u64::from(entry[at + 3]) << 24
        };
        let (start, length) = (number(8), number(12));
        if entry[4] != FAT32 {
            return Err(no("its first three partitions are not FAT32"));
        }
        if start < end || length == 0 || start + length > sectors {
            return Err(no("its partitions overlap or lie past its end"));
        }
        end = start + length;
        *partition = Extent { start: start * SECTOR, bytes: length * SECTOR };
    }
    Ok(found)
}

/// What process 1 learns about updates before it does anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootVerdict {
    /// No counted trial is under way.
    Settled,
    /// A counted trial began; whatever ends it, the other slot boots next.
    Trial,
    /// A counted trial ended before it was kept; the old slot runs again.
    FellBack,
    /// A slot was started again that had its trial: the other one is the default now. Reboot.
    GiveUp,
    /// Nothing could be learned, and why. The board boots on.
    Unknown(String),
}

/// Process 1's first act: counts the trial down, if there is one, and makes the old slot the default
/// again, so that every reset from here on ends there.
pub fn at_boot(card: &mut Card, running: Slot) -> BootVerdict {
    let looked = |card: &mut Card| {
        let Some(attempts) = card.attempts()? else { return Ok(BootVerdict::Settled) };
        let old = attempts.trial.other();
        if attempts.trial == running && attempts.left > 0 {
            let left = attempts.left - 1;
            card.set_attempts(Some(Attempts { left, ..attempts }))?;
            card.set_default(old)?;
            return Ok(BootVerdict::Trial);
        }
        card.set_default(old)?;
        card.set_attempts(None)?;
        Ok(if attempts.trial == running { BootVerdict::GiveUp } else { BootVerdict::FellBack })
    };
    looked(card).unwrap_or_else(|error: CardError| {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        BootVerdict::Unknown(format!("{error}{}", source.unwrap_or_default()))
    })
}
