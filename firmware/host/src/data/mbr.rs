//! The card's partition table: four entries in its first sector.

use crate::disk::Extent;

/// Bytes of the sector.
pub(super) const BYTES: usize = 512;
/// Where the first entry is.
const ENTRIES: usize = 446;
const ENTRY_BYTES: usize = 16;
/// The entry of the data partition, counted from zero.
const DATA: usize = 3;
/// The kind of partition that Linux keeps files on.
pub(super) const LINUX: u8 = 0x83;
/// Cylinder, head and sector of what lies beyond those; nobody has read them for decades.
const BEYOND: [u8; 3] = [0xfe, 0xff, 0xff];
/// Partitions begin and end at whole mebibytes.
const ALIGNMENT: u64 = 2048;
/// What the empty file system needs.
pub(super) const SECTORS_MIN: u64 = 64 * 2048;
/// The table has 32 bits for a number of sectors.
const SECTORS_MAX: u64 = u32::MAX as u64;

/// A sector with a partition table, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    sector: [u8; BYTES],
}

/// What is to become of the data partition's entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Placement {
    /// It is right.
    Keep(Extent),
    /// It is to reach further; what is in it stays.
    Grow(Extent),
    /// It is missing or lies where nothing can: it is written anew, and what was in it is lost.
    Create(Extent),
    /// It is somebody else's, or there is no room. In the owner's words.
    Impossible(String),
}

impl Table {
    /// A table, if the sector has one of a card: four entries, the first of them a FAT.
    pub(super) fn parse(sector: [u8; BYTES]) -> Option<Self> {
        let table = Self { sector };
        let is_signed = table.sector[510..] == [0x55, 0xaa];
        // Inactive or active; anything else is not a table but a boot sector's code.
        let is_table = (0..4).all(|entry| table.sector[ENTRIES + entry * ENTRY_BYTES] & 0x7f == 0);
        let has_card = matches!(table.kind(0), 0x01 | 0x04 | 0x06 | 0x0b | 0x0c | 0x0e);
        (is_signed && is_table && has_card).then_some(table)
    }

    /// The sector, to be written.
    pub(super) fn sector(&self) -> &[u8; BYTES] {
        &self.sector
    }

    /// Where the data partition is to be on a disk of so many sectors: from where it begins, or
    /// from the end of the third, to the end of the disk.
    pub(super) fn place_data(&self, disk_sectors: u64) -> Placement {
        let limit = disk_sectors.min(SECTORS_MAX);
        let end = limit - limit % ALIGNMENT;
        let others_end = (0..DATA).map(|entry| self.extent(entry).end()).max().unwrap_or_default();
        let data = self.extent(DATA);
        let kind = self.kind(DATA);
        if kind != 0 && kind != LINUX {
            return Placement::Impossible(format!(
                "the card's fourth partition is of kind 0x{kind:02x} and not Bramble's; delete it, \
                 and Bramble makes its own"
            ));
        }
        let is_sound = kind == LINUX
            && data.start >= others_end
            && data.length >= SECTORS_MIN
            && data.end() <= disk_sectors;
        if is_sound {
            // A last mebibyte that is not whole is not worth a change.
            return if end > data.end() {
                Placement::Grow(Extent { start: data.start, length: end - data.start })
            } else {
                Placement::Keep(data)
            };
        }
        let start = others_end.next_multiple_of(ALIGNMENT);
        let length = end.saturating_sub(start);
        if length < SECTORS_MIN {
            return Placement::Impossible(format!(
                "the card has {} MiB left for data, and 64 are needed; use a bigger one",
                length / ALIGNMENT
            ));
        }
        Placement::Create(Extent { start, length })
    }

    /// The table with the data partition somewhere. All else stays as it was.
    pub(super) fn with_data(&self, extent: Extent) -> Option<Self> {
        let mut table = self.clone();
        let (start, length) =
            (u32::try_from(extent.start).ok()?, u32::try_from(extent.length).ok()?);
        let entry = &mut table.sector[ENTRIES + DATA * ENTRY_BYTES..][..ENTRY_BYTES];
        entry[0] = 0;
        entry[1..4].copy_from_slice(&BEYOND);
        entry[4] = LINUX;
        entry[5..8].copy_from_slice(&BEYOND);
        entry[8..12].copy_from_slice(&start.to_le_bytes());
        entry[12..].copy_from_slice(&length.to_le_bytes());
        Some(table)
    }

    fn kind(&self, entry: usize) -> u8 {
        self.sector[ENTRIES + entry * ENTRY_BYTES + 4]
    }

    fn extent(&self, entry: usize) -> Extent {
        let at = ENTRIES + entry * ENTRY_BYTES;
        let number = |at: usize| {
            let bytes = [0, 1, 2, 3].map(|byte| self.sector[at + byte]);
            u64::from(u32::from_le_bytes(bytes))
        };
        if self.kind(entry) == 0 {
            return Extent { start: 0, length: 0 };
        }
        Extent { start: number(at + 8), length: number(at + 12) }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    const P3_END: u64 = 8192 + (64 + 128 + 128) * 2048;

    /// A card's first sector, with the data partition given by kind, start and length.
    pub(in super::super) fn card(kind: u8, start: u64, length: u64) -> [u8; BYTES] {
        let mut sector = [0; BYTES];
        sector[440..444].copy_from_slice(&0xb4a4_b1e0_u32.to_le_bytes());
        let parts = [
            (0x0c, 8192, 64 * 2048),
            (0x0c, 8192 + 64 * 2048, 128 * 2048),
            (0x0c, 8192 + 192 * 2048, 128 * 2048),
            (kind, start, length),
        ];
        for (index, (kind, start, length)) in parts.into_iter().enumerate() {
            let entry = &mut sector[ENTRIES + index * ENTRY_BYTES..][..ENTRY_BYTES];
            entry[4] = kind;
            entry[8..12].copy_from_slice(&u32::try_from(start).unwrap().to_le_bytes());
            entry[12..].copy_from_slice(&u32::try_from(length).unwrap().to_le_bytes());
        }
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        sector
    }

    fn place(sector: [u8; BYTES], disk: u64) -> Placement {
        Table::parse(sector).unwrap().place_data(disk)
    }

    #[test]
    fn a_new_card_grows_to_its_end() {
        let disk = 62_333_952;
        let grown = Extent { start: P3_END, length: disk / 2048 * 2048 - P3_END };
        assert_eq!(place(card(LINUX, P3_END, SECTORS_MIN), disk), Placement::Grow(grown));
        let table = Table::parse(card(LINUX, P3_END, SECTORS_MIN)).unwrap();
        let written = table.with_data(grown).unwrap();
        assert_eq!(written.place_data(disk), Placement::Keep(grown));
        assert_eq!(written.sector()[..ENTRIES + 48], table.sector()[..ENTRIES + 48]);
    }

    #[test]
    fn a_missing_or_impossible_entry_is_made_anew() {
        let disk = 4 << 20;
        let whole = Extent { start: P3_END, length: disk - P3_END };
        assert_eq!(place(card(0, 0, 0), disk), Placement::Create(whole));
        assert_eq!(place(card(LINUX, 4096, SECTORS_MIN), disk), Placement::Create(whole));
        assert_eq!(place(card(LINUX, P3_END, 8 << 20), disk), Placement::Create(whole));
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let foreign = place(card(0x07, P3_END, SECTORS_MIN), 4 << 20);
        assert!(matches!(foreign, Placement::Impossible(reason) if reason.contains("kind 0x07")));
        let small = place(card(0, 0, 0), P3_END + 2048);
        assert!(matches!(small, Placement::Impossible(reason) if reason.contains("1 MiB left")));
    }

    #[test]
    fn only_a_cards_table_is_a_table() {
        assert!(Table::parse([0; BYTES]).is_none());
        let mut protective = card(0, 0, 0);
        protective[ENTRIES + 4] = 0xee;
        assert!(Table::parse(protective).is_none());
    }

    #[test]
    fn a_disk_beyond_the_table_is_used_as_far_as_it_goes() {
        let Placement::Grow(extent) = place(card(LINUX, P3_END, SECTORS_MIN), 1 << 40) else {
            panic!("it grows");
        };
        assert_eq!(extent.end(), SECTORS_MAX / 2048 * 2048);
    }

    proptest! {
        #[test]
        fn whatever_the_table_says_data_lies_on_the_disk_and_off_the_slots(
            kind in prop_oneof![Just(0), Just(LINUX), any::<u8>()],
            start: u32, length: u32, disk: u64,
        ) {
            let table = Table::parse(card(kind, start.into(), length.into())).unwrap();
            match table.place_data(disk) {
                Placement::Keep(extent) | Placement::Grow(extent) | Placement::Create(extent) => {
                    prop_assert!(extent.start >= P3_END && extent.end() <= disk);
                    prop_assert!(extent.length >= SECTORS_MIN);
                    prop_assert!(table.with_data(extent).is_some());
                }
                Placement::Impossible(_) => {}
            }
        }
    }
}
