//! As much of FAT32 as finding, reading and replacing one small file in a volume's root folder takes.
//!
//! Every number is bounded before it is used: the card may hold anything.

use std::{fmt, io};

use crate::update::{Medium, SECTOR};

/// Bytes that a file or the root folder may have.
const BYTES_MAX: u64 = 1 << 20;
/// Bytes of a folder's entry.
const ENTRY: usize = 32;
/// Entries that a long name takes at most.
const LONG_PIECES_MAX: u8 = 20;
/// Bits of a table's entry that are the cluster's number; the others are kept as they are.
const CLUSTER_BITS: u32 = 0x0fff_ffff;
/// From here on an entry says that the chain ends.
const CHAIN_END: u32 = 0x0fff_fff8;
/// The attribute bits of folders and volume names.
const NO_FILE: u8 = 0x18;
/// What pads the file: to TOML these are empty lines.
const PADDING: u8 = b'\n';

/// The first partition of a card cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Fat32Error {
    /// The medium cannot be read.
    #[error("cannot read at byte {at}")]
    Read {
        /// Where.
        at: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The medium cannot be written.
    #[error("cannot write at byte {at}")]
    Write {
        /// Where.
        at: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The partition holds something else.
    #[error("its first partition holds no FAT32 file system: {0}")]
    NotFat32(&'static str),
    /// The file system contradicts itself.
    #[error("the file system on its first partition is damaged: {0}; flash the card anew")]
    Damaged(&'static str),
    /// The file is not there.
    #[error("there is no {0} on its first partition: is it a card of Bramble?")]
    NoFile(String),
    /// The file is not one sector long.
    #[error("{name} has {size} bytes: 512 are needed")]
    NotOneSector {
        /// Which.
        name: String,
        /// Its length.
        size: u32,
    },
    /// The file is larger than any that Bramble writes.
    #[error("{0} is larger than {BYTES_MAX} bytes")]
    TooLarge(String),
    /// There is no room.
    #[error("its first partition is full: remove what you put there")]
    Full,
}

/// A FAT32 volume on a medium.
pub struct Volume<'a> {
    medium: &'a mut dyn Medium,
    /// Where the sector with free cluster's count is.
    info_at: Option<u64>,
    table_at: u64,
    table_bytes: u64,
    tables: u64,
    data_at: u64,
    cluster_bytes: u64,
    /// One beyond the last cluster's number.
    cluster_end: u32,
    root: u32,
}

/// A file in the root folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    name: String,
    /// Where its entry is.
    at: u64,
    /// Its first cluster; 0 if it has none.
    first: u32,
    size: u32,
}

impl fmt::Debug for Volume<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Volume").field("root", &self.root).finish_non_exhaustive()
    }
}

impl<'a> Volume<'a> {
    /// The volume that takes `length` bytes of `medium` from `start` on; both are multiples of
    /// [`SECTOR`].
    ///
    /// # Errors
    /// If it cannot be read, or is no sound FAT32.
    pub fn open(medium: &'a mut dyn Medium, start: u64, length: u64) -> Result<Self, Fat32Error> {
        let sector = read(medium, start, SECTOR)?;
        let byte = |at: usize| u64::from(sector[at]);
        let short = |at: usize| byte(at) | byte(at + 1) << 8;
        let long = |at: usize| short(at) | short(at + 2) << 16;
        if short(510) != 0xaa55 {
            return Err(Fat32Error::NotFat32("its first sector is not marked as such"));
        }
        let (sector_bytes, sectors_per_cluster) = (short(11), byte(13));
        if ![512, 1_024, 2_048, 4_096].contains(&sector_bytes)
            || !sectors_per_cluster.is_power_of_two()
        {
            return Err(Fat32Error::NotFat32("its sectors have no size that FAT knows"));
        }
        let (reserved, tables, table_sectors) = (short(14), byte(16), long(36));
        if short(17) != 0 || short(22) != 0 || table_sectors == 0 {
            return Err(Fat32Error::NotFat32("it is an older kind of FAT"));
        }
        let sectors = long(32);
        if reserved == 0 || !(1..=2).contains(&tables) || sectors * sector_bytes > length {
            return Err(Fat32Error::Damaged("its size is not the partition's"));
        }
        let data_sector = reserved + tables * table_sectors;
        let room = sectors.saturating_sub(data_sector) / sectors_per_cluster;
        let entries = table_sectors * sector_bytes / 4;
        let cluster_end = entries.min(room + 2).min(u64::from(CHAIN_END - 16));
        let cluster_end =
            u32::try_from(cluster_end).map_err(|_| Fat32Error::Damaged("its size"))?;
        let info_sector = short(48);
        let root = u32::try_from(long(44)).map_err(|_| Fat32Error::Damaged("its root folder"))?;
        Ok(Self {
            medium,
            info_at: (1..reserved)
                .contains(&info_sector)
                .then(|| start + info_sector * sector_bytes),
            table_at: start + reserved * sector_bytes,
            table_bytes: table_sectors * sector_bytes,
            tables,
            data_at: start + data_sector * sector_bytes,
            cluster_bytes: sectors_per_cluster * sector_bytes,
            cluster_end,
            root: root & CLUSTER_BITS,
        })
    }

    /// The file `name` in the root folder, whatever the case of its letters.
    ///
    /// # Errors
    /// If it is not there, or the folder cannot be read.
    pub fn find(&mut self, name: &str) -> Result<Entry, Fat32Error> {
        let missing = || Fat32Error::NoFile(name.to_owned());
        let mut long = LongName::default();
        let mut cluster = self.root;
        for _ in 0..self.clusters_of(BYTES_MAX) {
            let start = self.place(cluster)?;
            let content = read(self.medium, start, self.cluster_bytes)?;
            for (index, entry) in content.as_chunks::<ENTRY>().0.iter().enumerate() {
                match entry[0] {
                    0 => return Err(missing()),
                    0xe5 => long = LongName::default(),
                    _ if entry[11] & 0x3f == 0x0f => long.add(entry),
                    _ => {
                        let is_file = entry[11] & NO_FILE == 0;
                        let found = std::mem::take(&mut long).name(entry);
                        if is_file && found.eq_ignore_ascii_case(name) {
                            return Ok(file_entry(name, start + (index * ENTRY) as u64, entry));
                        }
                    }
                }
            }
            cluster = self.next(cluster)?;
            if cluster >= CHAIN_END {
                return Err(missing());
            }
        }
        Err(Fat32Error::Damaged("its root folder has no end"))
    }

    /// Which sector of the medium holds the file, whose length must be that of one.
    ///
    /// # Errors
    /// If it is longer or shorter, or said to lie where the volume is not.
    pub fn only_sector(&self, entry: &Entry) -> Result<u64, Fat32Error> {
        if u64::from(entry.size) != SECTOR {
            return Err(Fat32Error::NotOneSector { name: entry.name.clone(), size: entry.size });
        }
        Ok(self.place(entry.first)? / SECTOR)
    }

    /// What the file holds.
    ///
    /// # Errors
    /// If it is too large, or cannot be read.
    pub fn read(&mut self, entry: &Entry) -> Result<Vec<u8>, Fat32Error> {
        let size = u64::from(entry.size);
        if size > BYTES_MAX {
            return Err(Fat32Error::TooLarge(entry.name.clone()));
        }
        let mut content = Vec::new();
        for cluster in self.clusters(entry)? {
            let place = self.place(cluster)?;
            content.extend(read(self.medium, place, self.cluster_bytes)?);
        }
        if (content.len() as u64) < size {
            return Err(Fat32Error::Damaged("a file is longer than what it is kept in"));
        }
        content.truncate(usize::try_from(size).unwrap_or(0));
        Ok(content)
    }

    /// Writes `content` in place of what the file holds, and line ends up to its former length: it
    /// never becomes shorter.
    ///
    /// # Errors
    /// If it is too large, there is no room, or the medium cannot be read or written.
    pub fn replace(&mut self, entry: &Entry, content: &[u8]) -> Result<(), Fat32Error> {
        let former = usize::try_from(entry.size).unwrap_or(usize::MAX);
        if content.len().max(former) as u64 > BYTES_MAX {
            return Err(Fat32Error::TooLarge(entry.name.clone()));
        }
        let mut chain = self.clusters(entry)?;
        let needed = self.clusters_of(content.len().max(former) as u64);
        let taken =
            if needed > chain.len() { self.free(needed - chain.len())? } else { Vec::new() };
        let last = chain.last().copied();
        chain.extend(&taken);
        let mut padded = content.to_vec();
        padded.resize(content.len().max(former), PADDING);
        for (piece, cluster) in
            padded.chunks(usize::try_from(self.cluster_bytes).unwrap_or(1)).zip(&chain)
        {
            self.write(self.place(*cluster)?, piece)?;
        }
        self.link(last, &taken)?;
        let mut changed = entry.clone();
        changed.first = chain.first().copied().unwrap_or(0);
        changed.size = u32::try_from(padded.len()).map_err(|_| Fat32Error::Full)?;
        if changed != *entry {
            // What the file will hold comes before the word that it does.
            self.flush()?;
            let [a, b, c, d] = changed.first.to_le_bytes();
            self.write(changed.at + 20, &[c, d])?;
            self.write(changed.at + 26, &[a, b])?;
            self.write(changed.at + 28, &changed.size.to_le_bytes())?;
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Fat32Error> {
        self.medium.sync().map_err(|source| Fat32Error::Write { at: self.data_at, source })
    }

    /// Hangs `taken` behind `last`, in every copy of the table.
    fn link(&mut self, last: Option<u32>, taken: &[u32]) -> Result<(), Fat32Error> {
        let next = taken.iter().skip(1).copied().chain([CLUSTER_BITS]);
        for (cluster, next) in taken.iter().copied().zip(next) {
            self.set_next(cluster, next)?;
        }
        if let (Some(last), Some(first)) = (last, taken.first()) {
            self.set_next(last, *first)?;
        }
        if let Some(info_at) = self.info_at.filter(|_| !taken.is_empty()) {
            // "Unknown": whoever needs the count of free clusters counts them.
            self.write(info_at + 488, &u32::MAX.to_le_bytes())?;
        }
        Ok(())
    }

    /// Free clusters, as many as asked for.
    fn free(&mut self, count: usize) -> Result<Vec<u32>, Fat32Error> {
        let mut found = Vec::new();
        for first in (0..self.cluster_end).step_by(1_024) {
            let at = u64::from(first) * 4;
            let piece = read(self.medium, self.table_at + at, (self.table_bytes - at).min(4_096))?;
            for (cluster, entry) in (first..self.cluster_end).zip(piece.as_chunks().0) {
                if cluster >= 2 && u32::from_le_bytes(*entry) & CLUSTER_BITS == 0 {
                    found.push(cluster);
                    if found.len() == count {
                        return Ok(found);
                    }
                }
            }
        }
        Err(Fat32Error::Full)
    }

    /// The clusters of a file. A chain longer than any that Bramble writes is taken for a loop.
    fn clusters(&mut self, entry: &Entry) -> Result<Vec<u32>, Fat32Error> {
        let mut chain = Vec::new();
        // An empty file has no first one.
        let mut cluster = if entry.first == 0 { CHAIN_END } else { entry.first };
        while cluster < CHAIN_END {
            if chain.len() >= self.clusters_of(BYTES_MAX) {
                return Err(Fat32Error::Damaged("a chain of clusters leads nowhere"));
            }
            chain.push(cluster);
            cluster = self.next(cluster)?;
        }
        Ok(chain)
    }

    fn next(&mut self, cluster: u32) -> Result<u32, Fat32Error> {
        Ok(self.entry_of(0, cluster)? & CLUSTER_BITS)
    }

    fn entry_of(&mut self, table: u64, cluster: u32) -> Result<u32, Fat32Error> {
        let at = self.entry_at(table, cluster)?;
        let sector = read(self.medium, at - at % SECTOR, SECTOR)?;
        let (entries, index) = (sector.as_chunks().0, usize::try_from(at % SECTOR / 4));
        Ok(u32::from_le_bytes(entries[index.unwrap_or(0)]))
    }

    fn set_next(&mut self, cluster: u32, next: u32) -> Result<(), Fat32Error> {
        for table in 0..self.tables {
            let kept = self.entry_of(table, cluster)? & !CLUSTER_BITS;
            let entry = kept | (next & CLUSTER_BITS);
            self.write(self.entry_at(table, cluster)?, &entry.to_le_bytes())?;
        }
        Ok(())
    }

    fn entry_at(&self, table: u64, cluster: u32) -> Result<u64, Fat32Error> {
        let own = u64::from(self.bounded(cluster)?) * 4;
        Ok(self.table_at + table * self.table_bytes + own)
    }

    fn place(&self, cluster: u32) -> Result<u64, Fat32Error> {
        Ok(self.data_at + (u64::from(self.bounded(cluster)?) - 2) * self.cluster_bytes)
    }

    /// The cluster, if the volume has it.
    fn bounded(&self, cluster: u32) -> Result<u32, Fat32Error> {
        let has = (2..self.cluster_end).contains(&cluster);
        has.then_some(cluster).ok_or(Fat32Error::Damaged("a chain of clusters leads nowhere"))
    }

    /// Writes bytes anywhere, by the sectors that they are in.
    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), Fat32Error> {
        let start = at - at % SECTOR;
        let end = (at + bytes.len() as u64).next_multiple_of(SECTOR);
        let mut sectors = read(self.medium, start, end - start)?;
        let within = usize::try_from(at - start).unwrap_or(0);
        sectors[within..within + bytes.len()].copy_from_slice(bytes);
        self.medium.write(start, &sectors).map_err(|source| Fat32Error::Write { at, source })
    }

    fn clusters_of(&self, bytes: u64) -> usize {
        usize::try_from(bytes.div_ceil(self.cluster_bytes)).unwrap_or(usize::MAX)
    }
}

fn file_entry(name: &str, at: u64, entry: &[u8; ENTRY]) -> Entry {
    let first = [entry[26], entry[27], entry[20], entry[21]];
    let size = [entry[28], entry[29], entry[30], entry[31]];
    Entry {
        name: name.to_owned(),
        at,
        first: u32::from_le_bytes(first) & CLUSTER_BITS,
        size: u32::from_le_bytes(size),
    }
}

/// A long name, gathered from the entries before the file's own.
#[derive(Debug, Default)]
struct LongName {
    /// What the next piece's number must be; the pieces come last first.
    expected: u8,
    checksum: u8,
    letters: Vec<u16>,
}

impl LongName {
    fn add(&mut self, entry: &[u8; ENTRY]) {
        let number = entry[0] & 0x3f;
        if entry[0] & 0x40 != 0 {
            *self = Self { expected: number, checksum: entry[13], letters: Vec::new() };
        }
        let is_next = number == self.expected && (1..=LONG_PIECES_MAX).contains(&number);
        if !is_next || entry[13] != self.checksum {
            *self = Self::default();
            return;
        }
        self.expected = number - 1;
        let places = [1..11, 14..26, 28..32];
        let mut piece: Vec<u16> = places
            .into_iter()
            .flat_map(|place| entry[place].as_chunks::<2>().0)
            .map(|letter| u16::from_le_bytes(*letter))
            .take_while(|letter| *letter != 0)
            .collect();
        piece.append(&mut self.letters);
        self.letters = piece;
    }

    /// The name of the file whose own entry this is.
    fn name(self, entry: &[u8; ENTRY]) -> String {
        let sum = |sum: u8, byte: &u8| sum.rotate_right(1).wrapping_add(*byte);
        let checksum = entry[..11].iter().fold(0, sum);
        if !self.letters.is_empty() && self.expected == 0 && self.checksum == checksum {
            return String::from_utf16_lossy(&self.letters);
        }
        let part = |range| String::from_utf8_lossy(&entry[range]).trim_end().to_owned();
        let (name, extension): (String, String) = (part(0..8), part(8..11));
        if extension.is_empty() { name } else { format!("{name}.{extension}") }
    }
}

/// Reads whole sectors.
fn read(medium: &mut dyn Medium, at: u64, length: u64) -> Result<Vec<u8>, Fat32Error> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    medium.read(at, &mut bytes).map_err(|source| Fat32Error::Read { at, source })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
