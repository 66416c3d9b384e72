//! As much of FAT32 as replacing one small file in a volume's root folder takes.

use std::{fs::File, io, os::unix::fs::FileExt};

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
/// What pads the file: to TOML these are empty lines.
const PADDING: u8 = b'\n';

/// A volume cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FatError {
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
    /// The file is larger than any that Bramble writes.
    #[error("{0} is larger than {BYTES_MAX} bytes")]
    TooLarge(String),
    /// There is no room.
    #[error("its first partition is full: remove what you put there")]
    Full,
}

/// A FAT32 volume within a file or device.
#[derive(Debug)]
pub(crate) struct Volume<'a> {
    file: &'a File,
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
pub(crate) struct Entry {
    name: String,
    /// Where its entry is.
    at: u64,
    /// Its first cluster; 0 if it has none.
    first: u32,
    size: u32,
}

impl<'a> Volume<'a> {
    /// The volume that takes `length` bytes of `file` from `start` on.
    pub(crate) fn open(file: &'a File, start: u64, length: u64) -> Result<Self, FatError> {
        let mut sector = [0; 512];
        read_at(file, &mut sector, start)?;
        let byte = |at: usize| u64::from(sector[at]);
        let short = |at: usize| byte(at) | byte(at + 1) << 8;
        let long = |at: usize| short(at) | short(at + 2) << 16;
        if short(510) != 0xaa55 {
            return Err(FatError::NotFat32("its first sector is not marked as such"));
        }
        let (sector_bytes, sectors_per_cluster) = (short(11), byte(13));
        if ![512, 1_024, 2_048, 4_096].contains(&sector_bytes)
            || !sectors_per_cluster.is_power_of_two()
        {
            return Err(FatError::NotFat32("its sectors have no size that FAT knows"));
        }
        let (reserved, tables, table_sectors) = (short(14), byte(16), long(36));
        if short(17) != 0 || short(22) != 0 || table_sectors == 0 {
            return Err(FatError::NotFat32("it is an older kind of FAT"));
        }
        let sectors = long(32);
        if reserved == 0 || !(1..=2).contains(&tables) || sectors * sector_bytes > length {
            return Err(FatError::Damaged("its size is not the partition's"));
        }
        let data_sector = reserved + tables * table_sectors;
        let room = sectors.saturating_sub(data_sector) / sectors_per_cluster;
        let entries = table_sectors * sector_bytes / 4;
        let cluster_end = entries.min(room + 2).min(u64::from(CHAIN_END - 16));
        let cluster_end = u32::try_from(cluster_end).map_err(|_| FatError::Damaged("its size"))?;
        let info_sector = short(48);
        let root = u32::try_from(long(44)).map_err(|_| FatError::Damaged("its root folder"))?;
        Ok(Self {
            file,
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
    pub(crate) fn find(&self, name: &str) -> Result<Entry, FatError> {
        let mut long = LongName::default();
        for cluster in self.chain(self.root, self.clusters_of(BYTES_MAX))? {
            let start = self.place(cluster);
            let mut content = vec![0; usize::try_from(self.cluster_bytes).unwrap_or(0)];
            read_at(self.file, &mut content, start)?;
            for (index, entry) in content.as_chunks::<ENTRY>().0.iter().enumerate() {
                match entry[0] {
                    0 => return Err(FatError::NoFile(name.to_owned())),
                    0xe5 => long = LongName::default(),
                    _ if entry[11] & 0x3f == 0x0f => long.add(entry),
                    _ => {
                        let is_file = entry[11] & 0x18 == 0;
                        if is_file
                            && std::mem::take(&mut long).name(entry).eq_ignore_ascii_case(name)
                        {
                            let at = start + (index * ENTRY) as u64;
                            return Ok(file_entry(name, at, entry));
                        }
                    }
                }
            }
        }
        Err(FatError::NoFile(name.to_owned()))
    }

    /// What the file holds.
    pub(crate) fn read(&self, entry: &Entry) -> Result<Vec<u8>, FatError> {
        let size = u64::from(entry.size);
        if size > BYTES_MAX {
            return Err(FatError::TooLarge(entry.name.clone()));
        }
        let mut content = Vec::new();
        for cluster in self.clusters(entry)? {
            let mut piece = vec![0; usize::try_from(self.cluster_bytes).unwrap_or(0)];
            read_at(self.file, &mut piece, self.place(cluster))?;
            content.extend_from_slice(&piece);
        }
        if (content.len() as u64) < size {
            return Err(FatError::Damaged("a file is longer than what it is kept in"));
        }
        content.truncate(usize::try_from(size).unwrap_or(0));
        Ok(content)
    }

    /// Writes `content` in place of what the file holds, and line ends up to its former length: it
    /// never becomes shorter.
    pub(crate) fn replace(&self, entry: &Entry, content: &[u8]) -> Result<(), FatError> {
        let former = usize::try_from(entry.size).unwrap_or(usize::MAX);
        if content.len().max(former) as u64 > BYTES_MAX {
            return Err(FatError::TooLarge(entry.name.clone()));
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
            write_at(self.file, piece, self.place(*cluster))?;
        }
        self.link(last, &taken)?;
        let mut changed = entry.clone();
        changed.first = chain.first().copied().unwrap_or(0);
        changed.size = u32::try_from(padded.len()).map_err(|_| FatError::Full)?;
        if changed != *entry {
            // What the file will hold comes before the word that it does.
            self.flush()?;
            let [a, b, c, d] = changed.first.to_le_bytes();
            write_at(self.file, &[c, d], changed.at + 20)?;
            write_at(self.file, &[a, b], changed.at + 26)?;
            write_at(self.file, &changed.size.to_le_bytes(), changed.at + 28)?;
        }
        self.flush()
    }

    fn flush(&self) -> Result<(), FatError> {
        self.file.sync_all().map_err(|source| FatError::Write { at: self.data_at, source })
    }

    /// Hangs `taken` behind `last`, in every copy of the table.
    fn link(&self, last: Option<u32>, taken: &[u32]) -> Result<(), FatError> {
        let next = taken.iter().skip(1).copied().chain([CLUSTER_BITS]);
        for (cluster, next) in taken.iter().copied().zip(next) {
            self.set_next(cluster, next)?;
        }
        if let (Some(last), Some(first)) = (last, taken.first()) {
            self.set_next(last, *first)?;
        }
        if let Some(info_at) = self.info_at.filter(|_| !taken.is_empty()) {
            // "Unknown": whoever needs the count of free clusters counts them.
            write_at(self.file, &u32::MAX.to_le_bytes(), info_at + 488)?;
        }
        Ok(())
    }

    /// Free clusters, as many as asked for.
    fn free(&self, count: usize) -> Result<Vec<u32>, FatError> {
        let mut found = Vec::new();
        let mut piece = [0; 4_096];
        let length = (u64::from(self.cluster_end) * 4).min(self.table_bytes);
        for at in (0..length).step_by(piece.len()) {
            let wanted = usize::try_from((length - at).min(piece.len() as u64)).unwrap_or(0);
            read_at(self.file, &mut piece[..wanted], self.table_at + at)?;
            for (index, entry) in piece[..wanted].as_chunks::<4>().0.iter().enumerate() {
                let cluster = u32::try_from(at / 4)
                    .unwrap_or(u32::MAX)
                    .saturating_add(u32::try_from(index).unwrap_or(u32::MAX));
                if cluster >= 2 && u32::from_le_bytes(*entry) & CLUSTER_BITS == 0 {
                    found.push(cluster);
                    if found.len() == count {
                        return Ok(found);
                    }
                }
            }
        }
        Err(FatError::Full)
    }

    fn clusters(&self, entry: &Entry) -> Result<Vec<u32>, FatError> {
        match entry.first {
            0 => Ok(Vec::new()),
            first => self.chain(first, self.clusters_of(BYTES_MAX)),
        }
    }

    /// The clusters from `first` on. A chain longer than `max` is taken for a loop.
    fn chain(&self, first: u32, max: usize) -> Result<Vec<u32>, FatError> {
        let mut chain = Vec::new();
        let mut cluster = first;
        while cluster < CHAIN_END {
            if !(2..self.cluster_end).contains(&cluster) || chain.len() >= max {
                return Err(FatError::Damaged("a chain of clusters leads nowhere"));
            }
            chain.push(cluster);
            cluster = self.entry_of(0, cluster)? & CLUSTER_BITS;
        }
        Ok(chain)
    }

    fn entry_of(&self, table: u64, cluster: u32) -> Result<u32, FatError> {
        let mut entry = [0; 4];
        read_at(self.file, &mut entry, self.entry_at(table, cluster))?;
        Ok(u32::from_le_bytes(entry))
    }

    fn set_next(&self, cluster: u32, next: u32) -> Result<(), FatError> {
        for table in 0..self.tables {
            let kept = self.entry_of(table, cluster)? & !CLUSTER_BITS;
            let entry = kept | (next & CLUSTER_BITS);
            write_at(self.file, &entry.to_le_bytes(), self.entry_at(table, cluster))?;
        }
        Ok(())
    }

    fn entry_at(&self, table: u64, cluster: u32) -> u64 {
        self.table_at + table * self.table_bytes + u64::from(cluster) * 4
    }

    fn place(&self, cluster: u32) -> u64 {
        self.data_at + (u64::from(cluster) - 2) * self.cluster_bytes
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

fn read_at(file: &File, buffer: &mut [u8], at: u64) -> Result<(), FatError> {
    file.read_exact_at(buffer, at).map_err(|source| FatError::Read { at, source })
}

fn write_at(file: &File, bytes: &[u8], at: u64) -> Result<(), FatError> {
    file.write_all_at(bytes, at).map_err(|source| FatError::Write { at, source })
}

#[cfg(test)]
mod tests;
