//! A FAT32 file system that is written once, whole: files lie one after the other, every time is the
//! same, and the same content is the same bytes. Folders may hold files, no folders.

mod names;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use crate::card::{MEBIBYTE, SECTOR};

const ENTRY_BYTES: usize = 32;
/// Sectors before the first table; the boot sector's copy is at 6.
const RESERVED: usize = 32;
const TABLES: usize = 2;
/// With fewer clusters it would be taken for FAT16.
const CLUSTERS_MIN: usize = 65_525;
const END_OF_CHAIN: u32 = 0x0fff_ffff;
/// The first cluster that may hold something.
const FIRST_CLUSTER: u32 = 2;
/// 1 January 2026, as FAT counts days.
const DATE: u16 = (46 << 9) | (1 << 5) | 1;

const FOLDER: u8 = 0x10;
const ARCHIVE: u8 = 0x20;
const LABEL: u8 = 0x08;

/// A file system under construction.
#[derive(Debug)]
pub(crate) struct Volume {
    label: String,
    id: u32,
    size: usize,
    files: BTreeMap<String, Vec<u8>>,
}

/// Where things are, in sectors and clusters.
struct Geometry {
    sectors: usize,
    cluster_sectors: usize,
    reserved: usize,
    table_sectors: usize,
    clusters: usize,
}

impl Volume {
    /// An empty one of `mebibytes`. `id` is its serial number.
    pub(crate) fn new(label: &str, id: u32, mebibytes: usize) -> Self {
        Self { label: label.to_owned(), id, size: mebibytes * MEBIBYTE, files: BTreeMap::new() }
    }

    /// Adds a file, as `name` or `folder/name`.
    pub(crate) fn file(&mut self, path: &str, content: impl Into<Vec<u8>>) {
        self.files.insert(path.to_owned(), content.into());
    }

    /// Names and sizes of the files.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, usize)> {
        self.files.iter().map(|(path, content)| (path.as_str(), content.len()))
    }

    /// The same files in a file system of another name.
    pub(crate) fn renamed(&self, label: &str, id: u32) -> Self {
        Self { label: label.to_owned(), id, size: self.size, files: self.files.clone() }
    }

    /// The file system's bytes.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>> {
        Writer::new(self)?.write()
    }
}

impl Geometry {
    fn of(size: usize) -> Result<Self> {
        let sectors = size / SECTOR;
        for cluster_sectors in [8, 4, 2, 1] {
            // Two entries of each table stand for no cluster.
            let table_sectors =
                ((sectors / cluster_sectors + 2) * 4).div_ceil(SECTOR).next_multiple_of(4);
            // Clusters begin on a multiple of 4 KiB, the page of a card.
            let reserved =
                (RESERVED + TABLES * table_sectors).next_multiple_of(8) - TABLES * table_sectors;
            let clusters = (sectors - reserved - TABLES * table_sectors) / cluster_sectors;
            if clusters >= CLUSTERS_MIN {
                return Ok(Self { sectors, cluster_sectors, reserved, table_sectors, clusters });
            }
        }
        bail!("{} MiB are too few for FAT32", size / MEBIBYTE)
    }

    fn cluster_bytes(&self) -> usize {
        self.cluster_sectors * SECTOR
    }

    /// Where a cluster begins, in bytes.
    fn offset(&self, cluster: u32) -> usize {
        (self.reserved + TABLES * self.table_sectors) * SECTOR
            + (cluster - FIRST_CLUSTER) as usize * self.cluster_bytes()
    }
}

struct Writer<'a> {
    volume: &'a Volume,
    geometry: Geometry,
    image: Vec<u8>,
    table: Vec<u32>,
}

impl<'a> Writer<'a> {
    fn new(volume: &'a Volume) -> Result<Self> {
        let geometry = Geometry::of(volume.size)?;
        let image = vec![0; volume.size];
        Ok(Self { volume, geometry, image, table: vec![0x0fff_fff8, END_OF_CHAIN] })
    }

    fn write(mut self) -> Result<Vec<u8>> {
        let mut folders: BTreeMap<&str, Vec<(&str, &[u8])>> = BTreeMap::new();
        folders.insert("", Vec::new());
        for (path, content) in &self.volume.files {
            let (folder, name) = path.split_once('/').unwrap_or(("", path));
            folders.entry(folder).or_default().push((name, content));
        }
        let in_root = folders.remove("").unwrap_or_default();

        // The root's chain is first; how long it is follows from the names in it.
        let mut root = Vec::new();
        root.extend(entry(names::label(&self.volume.label), LABEL, 0, 0)?);
        let mut numbers = names::Numbers::default();
        let mut shorts = Vec::new();
        for name in folders.keys().copied().chain(in_root.iter().map(|(name, _)| *name)) {
            let (short, long) = names::entries(name, &mut numbers)?;
            shorts.push((short, long));
        }
        let entries = 1 + shorts.iter().map(|(_, long)| long.len() + 1).sum::<usize>();
        let root_cluster = self.allocate(entries * ENTRY_BYTES)?;

        let mut shorts = shorts.into_iter();
        for (name, files) in &folders {
            let (short, long) = shorts.next().context("a name for every folder")?;
            let cluster = self.folder(name, files)?;
            root.extend(long.concat());
            root.extend(entry(short, FOLDER, cluster, 0)?);
        }
        for (_, content) in &in_root {
            let (short, long) = shorts.next().context("a name for every file")?;
            let cluster = self.store(content)?;
            root.extend(long.concat());
            root.extend(entry(short, ARCHIVE, cluster, content.len())?);
        }
        self.place(root_cluster, &root);
        self.finish(root_cluster)
    }

    /// Writes a folder and what is in it; returns its first cluster.
    fn folder(&mut self, name: &str, files: &[(&str, &[u8])]) -> Result<u32> {
        let mut numbers = names::Numbers::default();
        let mut named = Vec::new();
        for (name, content) in files {
            if name.contains('/') {
                bail!("{name}: a folder in a folder");
            }
            named.push((names::entries(name, &mut numbers)?, *content));
        }
        let entries = 2 + named.iter().map(|((_, long), _)| long.len() + 1).sum::<usize>();
        let cluster =
            self.allocate(entries * ENTRY_BYTES).with_context(|| format!("folder {name}"))?;
        let mut bytes = Vec::new();
        bytes.extend(entry(*b".          ", FOLDER, cluster, 0)?);
        bytes.extend(entry(*b"..         ", FOLDER, 0, 0)?);
        for ((short, long), content) in named {
            let start = self.store(content)?;
            bytes.extend(long.concat());
            bytes.extend(entry(short, ARCHIVE, start, content.len())?);
        }
        self.place(cluster, &bytes);
        Ok(cluster)
    }

    /// Writes a file's content; returns its first cluster, 0 if it has none.
    fn store(&mut self, content: &[u8]) -> Result<u32> {
        if content.is_empty() {
            return Ok(0);
        }
        let cluster = self.allocate(content.len())?;
        self.place(cluster, content);
        Ok(cluster)
    }

    fn allocate(&mut self, bytes: usize) -> Result<u32> {
        let count = bytes.div_ceil(self.geometry.cluster_bytes()).max(1);
        let first = u32::try_from(self.table.len())?;
        if self.table.len() + count > self.geometry.clusters + FIRST_CLUSTER as usize {
            bail!(
                "the files are too large for the {} MiB of {}",
                self.volume.size / MEBIBYTE,
                self.volume.label
            );
        }
        let last = first + u32::try_from(count)? - 1;
        self.table.extend(first + 1..=last);
        self.table.push(END_OF_CHAIN);
        Ok(first)
    }

    fn place(&mut self, cluster: u32, content: &[u8]) {
        let at = self.geometry.offset(cluster);
        self.image[at..at + content.len()].copy_from_slice(content);
    }

    fn finish(mut self, root_cluster: u32) -> Result<Vec<u8>> {
        let boot = self.boot_sector(root_cluster)?;
        let free = self.geometry.clusters + FIRST_CLUSTER as usize - self.table.len();
        let mut info = [0; SECTOR];
        info[..4].copy_from_slice(b"RRaA");
        info[484..488].copy_from_slice(b"rrAa");
        info[488..492].copy_from_slice(&u32::try_from(free)?.to_le_bytes());
        info[492..496].copy_from_slice(&u32::try_from(self.table.len())?.to_le_bytes());
        info[510..].copy_from_slice(&[0x55, 0xaa]);
        for copy in [0, 6] {
            let at = copy * SECTOR;
            self.image[at..at + SECTOR].copy_from_slice(&boot);
            self.image[at + SECTOR..at + 2 * SECTOR].copy_from_slice(&info);
        }
        let table: Vec<u8> = self.table.iter().flat_map(|next| next.to_le_bytes()).collect();
        for copy in 0..TABLES {
            let sector = self.geometry.reserved + copy * self.geometry.table_sectors;
            self.image[sector * SECTOR..][..table.len()].copy_from_slice(&table);
        }
        Ok(self.image)
    }

    fn boot_sector(&self, root_cluster: u32) -> Result<[u8; SECTOR]> {
        let geometry = &self.geometry;
        let mut sector = [0; SECTOR];
        let mut put = |at: usize, bytes: &[u8]| sector[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &[0xeb, 0x58, 0x90]);
        put(3, b"BRAMBLE ");
        put(11, &u16::try_from(SECTOR)?.to_le_bytes());
        put(13, &[u8::try_from(geometry.cluster_sectors)?]);
        put(14, &u16::try_from(geometry.reserved)?.to_le_bytes());
        put(16, &[u8::try_from(TABLES)?]);
        put(21, &[0xf8]); // a fixed disk
        put(24, &63_u16.to_le_bytes()); // sectors of a track, heads: nobody asks
        put(26, &255_u16.to_le_bytes());
        put(32, &u32::try_from(geometry.sectors)?.to_le_bytes());
        put(36, &u32::try_from(geometry.table_sectors)?.to_le_bytes());
        put(44, &root_cluster.to_le_bytes());
        put(48, &1_u16.to_le_bytes()); // where the count of free clusters is
        put(50, &6_u16.to_le_bytes()); // where the copy of this sector is
        put(64, &[0x80, 0, 0x29]);
        put(67, &self.volume.id.to_le_bytes());
        put(71, &names::label(&self.volume.label));
        put(82, b"FAT32   ");
        put(510, &[0x55, 0xaa]);
        Ok(sector)
    }
}

/// An entry of a folder.
fn entry(name: [u8; 11], kind: u8, cluster: u32, size: usize) -> Result<[u8; ENTRY_BYTES]> {
    let mut entry = [0; ENTRY_BYTES];
    let [low, high, higher, highest] = cluster.to_le_bytes();
    entry[..11].copy_from_slice(&name);
    entry[11] = kind;
    entry[16..18].copy_from_slice(&DATE.to_le_bytes());
    entry[18..20].copy_from_slice(&DATE.to_le_bytes());
    entry[20..22].copy_from_slice(&[higher, highest]);
    entry[24..26].copy_from_slice(&DATE.to_le_bytes());
    entry[26..28].copy_from_slice(&[low, high]);
    entry[28..].copy_from_slice(&u32::try_from(size)?.to_le_bytes());
    Ok(entry)
}

#[cfg(test)]
mod tests;
