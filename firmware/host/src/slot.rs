//! Which of the card's two systems is running.

use std::{fmt, fs};

use serde::{Deserialize, Serialize};

use crate::Places;

/// The word of the kernel's command line that names the slot, where no firmware does.
const WORD: &str = "bramble.slot=";

/// One of the card's two partitions that a board can boot from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// Partition 2.
    A,
    /// Partition 3.
    B,
}

impl Slot {
    /// The slot that is not this one: where an update goes.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// The number of its partition.
    pub fn partition(self) -> u8 {
        match self {
            Self::A => 2,
            Self::B => 3,
        }
    }

    /// The slot of a partition.
    pub fn of_partition(number: u32) -> Option<Self> {
        match number {
            2 => Some(Self::A),
            3 => Some(Self::B),
            _ => None,
        }
    }

    /// The slot that this kernel came from: what the firmware says, or else the command line.
    pub fn running(places: &Places) -> Option<Self> {
        let told = places.sources.proc.join("device-tree/chosen/bootloader/partition");
        let by_firmware = fs::read(told)
            .ok()
            .and_then(|bytes| Some(u32::from_be_bytes(bytes.as_slice().try_into().ok()?)))
            .and_then(Self::of_partition);
        by_firmware.or_else(|| {
            let words = places.command_line();
            words.iter().rev().find_map(|word| Self::parse(word.strip_prefix(WORD)?))
        })
    }

    fn parse(letter: &str) -> Option<Self> {
        match letter {
            "a" => Some(Self::A),
            "b" => Some(Self::B),
            _ => None,
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::A => "a",
            Self::B => "b",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sources;

    fn places(command_line: &str, partition: Option<&[u8]>) -> (tempfile::TempDir, Places) {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("cmdline"), command_line).unwrap();
        if let Some(bytes) = partition {
            let folder = root.path().join("device-tree/chosen/bootloader");
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("partition"), bytes).unwrap();
        }
        let sources = Sources { proc: root.path().to_owned(), ..Sources::default() };
        let places = Places { sources, ..Places::default() };
        (root, places)
    }

    #[test]
    fn the_firmware_knows_better_than_the_command_line() {
        let (_root, by_firmware) = places("quiet bramble.slot=a\n", Some(&[0, 0, 0, 3]));
        assert_eq!(Slot::running(&by_firmware), Some(Slot::B));
        let (_root, by_words) = places("bramble.slot=b bramble.slot=a", Some(&[0, 0, 0, 1]));
        assert_eq!(Slot::running(&by_words), Some(Slot::A));
        let (_root, garbled) = places("bramble.slot=c", Some(&[3]));
        assert_eq!(Slot::running(&garbled), None);
    }

    #[test]
    fn a_slot_is_its_partition() {
        for slot in [Slot::A, Slot::B] {
            assert_eq!(Slot::of_partition(slot.partition().into()), Some(slot));
            assert_eq!(slot.other().other(), slot);
        }
    }
}
