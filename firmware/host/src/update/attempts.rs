//! The record of a counted trial, in a sector before the first partition.
//!
//! It is for boards whose firmware cannot be asked to boot another slot once: there the default is
//! changed, and this record says to whom it belongs in truth until the trial is kept.

use crate::slot::Slot;

/// The record's sector: in the gap between the partition table and the first partition.
pub const ATTEMPTS_SECTOR: u64 = 2048;
/// What the record begins with.
const MAGIC: &[u8; 8] = b"BRMTRY1\n";
/// Where its checksum is.
const CHECKSUM: usize = 508;

/// A counted trial that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempts {
    /// The slot that is tried; the other one is who comes back.
    pub trial: Slot,
    /// How often it may still start.
    pub left: u8,
}

impl Attempts {
    /// A trial that may start once.
    pub fn once(trial: Slot) -> Self {
        Self { trial, left: 1 }
    }

    /// The record's sector.
    pub fn to_bytes(self) -> [u8; 512] {
        let mut bytes = [0; 512];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8] = self.trial.partition();
        bytes[9] = self.left;
        let sum = crc32fast::hash(&bytes[..CHECKSUM]);
        bytes[CHECKSUM..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The sector of no record.
    pub fn none() -> [u8; 512] {
        [0; 512]
    }

    /// Reads the sector. Whatever is not a whole record is none: a new card has zeros there.
    pub fn parse(bytes: &[u8; 512]) -> Option<Self> {
        let sum = crc32fast::hash(&bytes[..CHECKSUM]).to_le_bytes();
        if bytes[..8] != *MAGIC || bytes[CHECKSUM..] != sum {
            return None;
        }
        Some(Self { trial: Slot::of_partition(bytes[8].into())?, left: bytes[9] })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_record_reads_back() {
        let record = Attempts::once(Slot::B);
        assert_eq!(Attempts::parse(&record.to_bytes()), Some(record));
        assert_eq!(Attempts::parse(&Attempts::none()), None);
    }

    proptest! {
        #[test]
        fn a_damaged_record_is_none(at in 0_usize..512, flip in 1_u8..) {
            let mut bytes = Attempts::once(Slot::A).to_bytes();
            bytes[at] ^= flip;
            prop_assert_eq!(Attempts::parse(&bytes), None);
        }
    }
}
