//! Finds the one sector of a small file in the root folder of a FAT32, and nothing more.
//!
//! Every number is bounded before it is used: the card may hold anything.

use std::io;

use super::medium::{Medium, SECTOR};

/// Bytes of an entry of a folder.
const ENTRY: usize = 32;
/// Clusters of the root folder that are looked at.
const CLUSTERS_MAX: usize = 64;
/// Sectors of a cluster, at most (FAT specification).
const CLUSTER_SECTORS_MAX: u64 = 128;
/// Cluster numbers from here on end a chain.
const END_OF_CHAIN: u32 = 0x0fff_fff8;
/// The attribute bits of folders and volume names.
const NO_FILE: u8 = 0x18;

/// A file's sector was not found.
#[derive(Debug, thiserror::Error)]
pub enum FindFileError {
    /// The partition cannot be read.
    #[error("the partition cannot be read")]
    Read(#[source] io::Error),
    /// It holds something else.
    #[error("the partition holds no FAT32: {0}")]
    NotFat32(&'static str),
    /// The file is not there.
    #[error("there is no such file")]
    Missing,
    /// The file is not as long as a sector.
    #[error("the file has {0} bytes: 512 are needed")]
    Length(u32),
}

/// How the file system is laid out, in sectors from the start of the disk.
struct Layout {
    table: u64,
    table_sectors: u64,
    data: u64,
    cluster_sectors: u64,
    clusters: u64,
    root: u32,
}

/// Where the file's only sector is, in sectors of the disk. `name` is as in the folder: eleven
/// letters, blanks between name and extension.
pub(super) fn find_sector(
    medium: &mut dyn Medium,
    start: u64,
    sectors: u64,
    name: &[u8; 11],
) -> Result<u64, FindFileError> {
    let layout = Layout::read(medium, start, sectors)?;
    let mut cluster = layout.root;
    for _ in 0..CLUSTERS_MAX {
        let first = layout.sector(cluster)?;
        for sector in first..first + layout.cluster_sectors {
            let bytes = read_sector(medium, sector)?;
            for entry in bytes.chunks_exact(ENTRY) {
                if entry[0] == 0 {
                    return Err(FindFileError::Missing);
                }
                if entry[..11] == *name && entry[11] & NO_FILE == 0 {
                    return layout.only_sector(entry);
                }
            }
        }
        cluster = layout.next(medium, cluster)?;
        if cluster >= END_OF_CHAIN {
            return Err(FindFileError::Missing);
        }
    }
    Err(FindFileError::NotFat32("its root folder has no end"))
}

impl Layout {
    fn read(medium: &mut dyn Medium, start: u64, sectors: u64) -> Result<Self, FindFileError> {
        let boot = read_sector(medium, start)?;
        let byte = |at: usize| u64::from(boot[at]);
        let number = |at: usize| u64::from(le32(&boot, at));
        let require = |holds: bool, what| holds.then_some(()).ok_or(FindFileError::NotFat32(what));
        require(boot[510..] == [0x55, 0xaa], "it has no boot sector")?;
        require(byte(11) + 256 * byte(12) == SECTOR, "its sectors are not of 512 bytes")?;
        require(byte(17) == 0 && byte(18) == 0 && byte(22) == 0 && byte(23) == 0, "it is a FAT16")?;
        let cluster_sectors = byte(13);
        let is_cluster =
            cluster_sectors.is_power_of_two() && cluster_sectors <= CLUSTER_SECTORS_MAX;
        require(is_cluster, "its clusters have no size")?;
        let (reserved, tables, table_sectors) = (byte(14) + 256 * byte(15), byte(16), number(36));
        require(reserved > 0 && tables > 0 && table_sectors > 0, "it has no allocation table")?;
        let before_data = reserved + tables * table_sectors;
        let total = number(32).min(sectors);
        require(before_data < total, "its data lie past its end")?;
        let clusters = ((total - before_data) / cluster_sectors).min(table_sectors * 128);
        Ok(Self {
            table: start + reserved,
            table_sectors,
            data: start + before_data,
            cluster_sectors,
            clusters,
            root: le32(&boot, 44) & 0x0fff_ffff,
        })
    }

    /// The first sector of a cluster.
    fn sector(&self, cluster: u32) -> Result<u64, FindFileError> {
        match u64::from(cluster).checked_sub(2) {
            Some(index) if index < self.clusters => Ok(self.data + index * self.cluster_sectors),
            _ => Err(FindFileError::NotFat32("a cluster lies past its end")),
        }
    }

    fn next(&self, medium: &mut dyn Medium, cluster: u32) -> Result<u32, FindFileError> {
        let at = u64::from(cluster) * 4;
        if at / SECTOR >= self.table_sectors {
            return Err(FindFileError::NotFat32("a cluster lies past its table"));
        }
        let bytes = read_sector(medium, self.table + at / SECTOR)?;
        let within = usize::try_from(at % SECTOR).unwrap_or(0);
        Ok(le32(&bytes, within) & 0x0fff_ffff)
    }

    fn only_sector(&self, entry: &[u8]) -> Result<u64, FindFileError> {
        let length = le32(entry, 28);
        if u64::from(length) != SECTOR {
            return Err(FindFileError::Length(length));
        }
        let half = |at: usize| u32::from(entry[at]) | u32::from(entry[at + 1]) << 8;
        self.sector(half(26) | half(20) << 16)
    }
}

fn read_sector(medium: &mut dyn Medium, sector: u64) -> Result<[u8; 512], FindFileError> {
    let mut bytes = [0; 512];
    medium.read(sector * SECTOR, &mut bytes).map_err(FindFileError::Read)?;
    Ok(bytes)
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}
