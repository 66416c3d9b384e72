//! What an ext4 says of itself in its second kibibyte.

/// Where it is on the partition.
pub(super) const OFFSET: u64 = 1024;
pub(super) const BYTES: usize = 1024;
const MAGIC: u16 = 0xef53;
/// Block sizes from 1 to 64 KiB.
const BLOCK_SHIFT_MAX: u32 = 6;
const STATE_ERRORS: u16 = 2;
/// Numbers of blocks have 64 bits.
const INCOMPATIBLE_64_BITS: u32 = 0x80;

/// The part of a superblock that Bramble decides by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Superblock {
    pub(super) block_bytes: u64,
    pub(super) blocks: u64,
    /// Whether the kernel found an error while it was mounted, now or before.
    pub(super) has_errors: bool,
}

impl Superblock {
    /// A superblock, if these bytes are one with numbers that can be.
    pub(super) fn parse(bytes: &[u8; BYTES]) -> Option<Self> {
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| bytes[at + byte]));
        let shift = word(24);
        if half(56) != MAGIC || shift > BLOCK_SHIFT_MAX {
            return None;
        }
        let high = if word(96) & INCOMPATIBLE_64_BITS == 0 { 0 } else { u64::from(word(0x150)) };
        let blocks = high << 32 | u64::from(word(4));
        let block_bytes = 1024_u64 << shift;
        // Zero blocks, or more bytes than there are numbers for.
        if blocks == 0 || blocks.checked_mul(block_bytes).is_none() {
            return None;
        }
        Some(Self { block_bytes, blocks, has_errors: half(58) & STATE_ERRORS != 0 })
    }

    /// How many blocks to grow to on a partition of so many bytes, if that is more by a mebibyte.
    pub(super) fn growth(&self, partition_bytes: u64) -> Option<u64> {
        let blocks = partition_bytes / self.block_bytes;
        let gained = blocks.saturating_sub(self.blocks).saturating_mul(self.block_bytes);
        (gained >= 1 << 20).then_some(blocks)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ext4(blocks: u32, state: u16) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[4..8].copy_from_slice(&blocks.to_le_bytes());
        bytes[24] = 2;
        bytes[56..58].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[58..60].copy_from_slice(&state.to_le_bytes());
        bytes
    }

    #[test]
    fn a_clean_one_and_one_with_errors() {
        let clean = Superblock::parse(&ext4(16_384, 1)).unwrap();
        assert_eq!(clean, Superblock { block_bytes: 4096, blocks: 16_384, has_errors: false });
        assert!(Superblock::parse(&ext4(16_384, 3)).unwrap().has_errors);
    }

    #[test]
    fn numbers_that_cannot_be_are_no_superblock() {
        assert_eq!(Superblock::parse(&[0; BYTES]), None);
        assert_eq!(Superblock::parse(&ext4(0, 1)), None);
        let mut huge = ext4(1, 1);
        huge[24] = 7;
        assert_eq!(Superblock::parse(&huge), None);
        let mut long = ext4(1, 1);
        long[96] = 0x80;
        long[0x150..0x154].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Superblock::parse(&long), None);
    }

    #[test]
    fn it_grows_to_the_whole_partition_and_then_no_more() {
        let small = Superblock::parse(&ext4(16_384, 1)).unwrap();
        assert_eq!(small.growth(64 << 20), None);
        assert_eq!(small.growth((64 << 20) + 4096), None);
        assert_eq!(small.growth(65 << 20), Some(16_640));
        assert_eq!(small.growth(32 << 30), Some(8 << 20));
        assert_eq!(small.growth(0), None);
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), BYTES), size: u64) {
            let mut bytes: [u8; BYTES] = bytes.try_into().unwrap();
            bytes[56..58].copy_from_slice(&MAGIC.to_le_bytes());
            let superblock = Superblock::parse(&bytes);
            if let Some((blocks, each)) =
                superblock.and_then(|this| Some((this.growth(size)?, this.block_bytes)))
            {
                prop_assert!(blocks * each <= size);
            }
        }
    }
}
