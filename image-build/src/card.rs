//! A card: a partition table, the partition that owners edit, two slots and the data partition.

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    path::Path,
};

use anyhow::{Context, Result};

use crate::progress::Progress;

/// Bytes of a sector.
pub(crate) const SECTOR: usize = 512;
/// Bytes of a mebibyte.
pub(crate) const MEBIBYTE: usize = 1 << 20;
/// The disk's identity in its partition table, the same on every card.
const DISK_ID: u32 = 0xb4a4_b1e0;
/// Every partition of a card begins on a multiple of this many sectors, the first after 4 MiB:
/// where the erase blocks of cards begin.
const FIRST_SECTOR: u64 = 8192;
/// What is skipped when a sparse file is written.
const HOLE: usize = 64 << 10;

const FAT32: u8 = 0x0c;
const LINUX: u8 = 0x83;

/// The content of the four partitions.
#[derive(Debug)]
pub(crate) struct Card {
    /// What owners edit.
    pub(crate) boot: Vec<u8>,
    /// The slot that a new card starts.
    pub(crate) slot_a: Vec<u8>,
    /// The slot that the first update goes to.
    pub(crate) slot_b: Vec<u8>,
    /// An empty file system, grown by the board.
    pub(crate) data: Vec<u8>,
}

/// A partition, and the sector that it begins at.
struct Partition<'a> {
    start: u64,
    kind: u8,
    content: &'a [u8],
}

impl Partition<'_> {
    /// Where it begins, in bytes.
    fn offset(&self) -> u64 {
        self.start * SECTOR as u64
    }
}

impl Card {
    /// The partitions with the sector that each begins at, and the card's size in sectors.
    fn laid_out(&self) -> (Vec<Partition<'_>>, u64) {
        let parts: [(u8, &[u8]); 4] = [
            (FAT32, &self.boot),
            (FAT32, &self.slot_a),
            (FAT32, &self.slot_b),
            (LINUX, &self.data),
        ];
        let mut next = FIRST_SECTOR;
        let mut laid_out = Vec::new();
        for (kind, content) in parts {
            laid_out.push(Partition { start: next, kind, content });
            next += (content.len().next_multiple_of(MEBIBYTE) / SECTOR) as u64;
        }
        (laid_out, next)
    }

    /// How many bytes the card's image has.
    pub(crate) fn size(&self) -> u64 {
        self.laid_out().1 * SECTOR as u64
    }

    /// Writes the whole image, one byte after the other.
    pub(crate) fn write(&self, to: &mut impl Write, progress: &Progress) -> Result<()> {
        let (parts, end) = self.laid_out();
        to.write_all(&table(&parts)?)?;
        let mut at = SECTOR as u64;
        for part in &parts {
            zeros(to, part.offset() - at)?;
            for piece in part.content.chunks(MEBIBYTE) {
                to.write_all(piece)?;
                progress.add(piece.len());
            }
            at = part.offset() + part.content.len() as u64;
        }
        zeros(to, end * SECTOR as u64 - at)?;
        Ok(())
    }

    /// Writes the image as a sparse file.
    pub(crate) fn write_sparse(&self, path: &Path) -> Result<()> {
        let written = || -> std::io::Result<()> {
            let (parts, end) = self.laid_out();
            let mut file = File::create(path)?;
            file.set_len(end * SECTOR as u64)?;
            let table = table(&parts).map_err(std::io::Error::other)?;
            file.write_all(&table)?;
            for part in parts {
                for (number, piece) in part.content.chunks(HOLE).enumerate() {
                    if piece.iter().any(|byte| *byte != 0) {
                        file.seek(SeekFrom::Start(part.offset() + (number * HOLE) as u64))?;
                        file.write_all(piece)?;
                    }
                }
            }
            Ok(())
        };
        written().with_context(|| format!("cannot write {}", path.display()))
    }
}

fn zeros(to: &mut impl Write, mut count: u64) -> Result<()> {
    let nothing = vec![0; MEBIBYTE];
    while count > 0 {
        let piece = usize::try_from(count.min(MEBIBYTE as u64))?;
        to.write_all(&nothing[..piece])?;
        count -= piece as u64;
    }
    Ok(())
}

/// The first sector: an MBR.
fn table(parts: &[Partition<'_>]) -> Result<[u8; SECTOR]> {
    /// Where a partition is by cylinder, head and sector: nowhere that can be said so.
    const BEYOND: [u8; 3] = [0xfe, 0xff, 0xff];
    let mut sector = [0; SECTOR];
    sector[440..444].copy_from_slice(&DISK_ID.to_le_bytes());
    for (number, part) in parts.iter().enumerate() {
        let entry = &mut sector[446 + number * 16..][..16];
        entry[0] = if number == 0 { 0x80 } else { 0 };
        entry[1..4].copy_from_slice(&BEYOND);
        entry[4] = part.kind;
        entry[5..8].copy_from_slice(&BEYOND);
        entry[8..12].copy_from_slice(&u32::try_from(part.start)?.to_le_bytes());
        let sectors = u32::try_from(part.content.len() / SECTOR)?;
        entry[12..].copy_from_slice(&sectors.to_le_bytes());
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    Ok(sector)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> Card {
        let part = |byte: u8, mebibytes: usize| {
            let mut part = vec![0; mebibytes * MEBIBYTE];
            part[MEBIBYTE / 2] = byte;
            part
        };
        Card { boot: part(1, 2), slot_a: part(2, 3), slot_b: part(3, 3), data: part(4, 1) }
    }

    #[test]
    fn partitions_follow_each_other_and_the_table_says_where() {
        let mut bytes = Vec::new();
        card().write(&mut bytes, &Progress::silent()).unwrap();
        assert_eq!(bytes.len() as u64, card().size());
        assert_eq!(bytes.len(), 13 * MEBIBYTE);
        assert_eq!(bytes[440..444], [0xe0, 0xb1, 0xa4, 0xb4]);
        let mut expected = 4;
        for (number, (kind, size)) in
            [(0x0c, 2), (0x0c, 3), (0x0c, 3), (0x83, 1)].iter().enumerate()
        {
            let entry = &bytes[446 + number * 16..][..16];
            let word = |at: usize| u32::from_le_bytes(entry[at..at + 4].try_into().unwrap());
            assert_eq!(entry[4], *kind);
            assert_eq!((word(8), word(12)), (expected * 2048, size * 2048));
            let content = expected as usize * MEBIBYTE + MEBIBYTE / 2;
            assert_eq!(usize::from(bytes[content]), number + 1);
            expected += size;
        }
    }

    #[test]
    fn the_sparse_file_has_the_same_bytes() {
        let mut bytes = Vec::new();
        card().write(&mut bytes, &Progress::silent()).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        card().write_sparse(file.path()).unwrap();
        assert!(std::fs::read(file.path()).unwrap() == bytes);
    }
}
